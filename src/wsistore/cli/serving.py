"""``wsistore serve``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore.cli.boundary import (
    Debug,
    ExitCode,
    complain,
    guarded,
    termination_interrupts,
)
from wsistore.errors import UsageError, WsistoreError

if TYPE_CHECKING:
    from wsistore.serving import SlideServer

PORT = 8765

_Slides = Annotated[
    list[str], typer.Argument(metavar="SLIDE|STORE...", help="Slides and stores, local or remote.")
]
_Host = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Address to listen on. Others than this machine's own let the network read.",
    ),
]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
_Codec = Annotated[
    str,
    typer.Option(
        metavar="portable|unchanged",
        help="portable: tiles are decoded and sent as zstd, which every viewer reads. "
        "unchanged: tiles are sent as they are, for readers that have their codec.",
    ),
]
_Cors = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN",
        help="Web pages that may read, as https://viewer.example, or '*'; repeatable. "
        "Default: neuroglancer's demo, vizarr and the NGFF validator. Pages of this machine "
        "always may.",
    ),
]
_CacheMb = Annotated[int, typer.Option(min=0, help="Encoded tiles that are held, MB.")]


@guarded
def serve(
    slides: _Slides,
    host: _Host = "127.0.0.1",
    port: _Port = PORT,
    codec: _Codec = "portable",
    cors: _Cors = None,
    cache_mb: _CacheMb = 256,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Show slides as OME-Zarr to viewers in a browser, until Ctrl-C.

    Tiles are decoded on the fly, nothing is written.
    """
    from wsistore.serving import SlideServer

    if codec not in ("portable", "unchanged"):
        raise UsageError(f"--codec is portable or unchanged, not {codec!r}")
    with (
        termination_interrupts(),
        SlideServer(
            slides,
            host=host,
            port=port,
            codec="unchanged" if codec == "unchanged" else "portable",
            cors=cors or (),
            cache_bytes=cache_mb * 1_000_000,
            report=_report,
        ) as server,
    ):
        try:
            _announce(server, host)
            threading.Event().wait()
        except KeyboardInterrupt:  # how it is meant to end
            typer.echo("stopped", err=True)
    return ExitCode.DONE


def _announce(server: SlideServer, host: str) -> None:
    from wsistore.serving.pages import count
    from wsistore.serving.targets import is_loopback

    if not is_loopback(host):
        typer.echo(
            f"warning: whoever reaches {host} on the network can read these slides; "
            "there is neither a password nor encryption",
            err=True,
        )
    for slide in server.slides:
        typer.echo(slide.url)
    typer.echo(f"{count(server.slides)}; open {server.url} in a browser, end with Ctrl-C")


def _report(path: str, error: WsistoreError) -> None:
    """Tell of a request that failed."""
    complain(error, about=path)
