"""Slides and stores as OME-Zarr over HTTP, for viewers in a browser.

Public calls: `SlideServer`, `ServedSlide`. By module:

- ``server``: `SlideServer`, which opens slides, and starts and stops;
- ``listening``: sockets, threads, and how many of them;
- ``answering``: one request, from its line to its answer; ``answers``, ``patience``;
- ``targets``, ``ranges``, ``tags``, ``origins``: what the parts of a request mean;
- ``exhibits``, ``contents``, ``cache``, ``portable``: what is shown, and where its bytes come from;
- ``pages``, ``viewers``: the index page, and links to viewers.
"""

from __future__ import annotations

from wsistore.serving.exhibits import ServedSlide
from wsistore.serving.server import SlideServer

__all__ = ["ServedSlide", "SlideServer"]
