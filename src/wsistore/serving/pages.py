"""Pages for people, and the list for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from wsistore._version import __version__
from wsistore.serving.exhibits import ServedSlide
from wsistore.serving.viewers import viewer_links

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of the pages: no script, and nothing from elsewhere."""

_STYLE = """
body { font-family: sans-serif; margin: 2em; color: #222 }
table { border-collapse: collapse }
th, td { border-bottom: 1px solid #ccc; padding: .4em 1em .4em 0; text-align: left;
  white-space: nowrap }
code { background: #f2f2f2; padding: .1em .3em }
"""


def count(slides: Sequence[ServedSlide]) -> str:
    """Return how many slides there are, in words."""
    return f"{len(slides)} slide{'' if len(slides) == 1 else 's'}"


def index_page(slides: Sequence[ServedSlide]) -> bytes:
    """Return the page that lists the slides, as UTF-8."""
    rows = "\n".join(map(_row, slides))
    body = (
        f"<h1>wsistore</h1>\n<p>{count(slides)} as OME-Zarr (NGFF 0.5, Zarr v3); "
        '<a href="slides.json">slides.json</a></p>\n'
        "<table>\n<tr><th>Slide</th><th>Size, px</th><th>µm/px</th><th>Levels</th>"
        f"<th>OME-Zarr</th><th>Open in</th></tr>\n{rows}\n</table>\n"
        "<p>A browser may ask whether a viewer's page may reach this machine: the slides come "
        f"from it, and go nowhere else.</p>\n<p>wsistore {escape(__version__)}</p>"
    )
    return _page("wsistore", body)


def _row(slide: ServedSlide) -> str:
    mpp = "unknown" if slide.mpp is None else f"{slide.mpp.x:g} x {slide.mpp.y:g}"
    links = " ".join(
        f'<a href="{escape(url)}" rel="noreferrer">{escape(name)}</a>'
        for name, url in viewer_links(slide).items()
    )
    cells = (
        f'<a href="{escape(quote(slide.name))}/">{escape(slide.name)}</a>',
        f"{slide.size.width} x {slide.size.height}",
        mpp,
        str(slide.levels),
        f"<code>{escape(slide.url)}</code>",
        links,
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def listing_page(title: str, names: Sequence[str]) -> bytes:
    """Return the page that lists what is in a folder, as UTF-8.

    Programs read it, too: fsspec and neuroglancer take the links of such pages for names.
    """
    items = "\n".join(
        f'<li><a href="{escape(quote(name))}">{escape(name)}</a></li>' for name in names
    )
    return _page(title, f"<h1>{escape(title)}</h1>\n<ul>\n{items}\n</ul>")


def _page(title: str, body: str) -> bytes:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    ).encode()


def slides_document(slides: Sequence[ServedSlide]) -> bytes:
    """Return the list of the slides as JSON; keys are only ever added."""
    records = [
        {
            "name": slide.name,
            "url": slide.url,
            "width": slide.size.width,
            "height": slide.size.height,
            "mpp": None if slide.mpp is None else {"x": slide.mpp.x, "y": slide.mpp.y},
            "levels": slide.levels,
            "viewers": viewer_links(slide),
        }
        for slide in slides
    ]
    return json.dumps({"slides": records}, ensure_ascii=False, indent=2).encode()
