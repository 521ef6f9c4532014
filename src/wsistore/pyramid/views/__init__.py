"""Slides presented as OME-Zarr without copying: keys that lead to their own tiles.

- ``folder``: a slide as the objects of an NGFF 0.5 image (`SlideFolder`), each chunk made
  when it is asked for, by ``levels``.
- ``pixels``: a slide at one resolution as an array (`SlidePixels`), for lazy arrays.
- ``zarr_store``: views as stores of zarr-python (`as_zarr`).
- ``references``, ``kerchunk``, ``icechunk_repository``, ``virtualizing``: where the tiles lie,
  written for readers of such references (`virtualize`).
- ``reference_folder``, ``allowing``: references read again, where that is allowed
  (`open_references`).

Nothing that needs zarr is imported here.
"""

from __future__ import annotations

from wsistore.pyramid.views.folder import SlideFolder
from wsistore.pyramid.views.reference_folder import open_references
from wsistore.pyramid.views.virtualizing import Virtualized, virtualize

__all__ = ["SlideFolder", "Virtualized", "open_references", "virtualize"]
