"""Slides presented as OME-Zarr without copying: keys that lead to their own tiles.

- ``folder``: a slide as the objects of an NGFF 0.5 image (`SlideFolder`), each chunk made
  when it is asked for, by ``levels``.
- ``pixels``: a slide at one resolution as an array (`SlidePixels`), for lazy arrays.
- ``zarr_store``: views as stores of zarr-python (`as_zarr`).

Nothing that needs zarr is imported here.
"""

from __future__ import annotations

from wsistore.pyramid.views.folder import SlideFolder

__all__ = ["SlideFolder"]
