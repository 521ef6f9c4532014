"""Associated images: thumbnail, label and macro, decoded on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class AssociatedImages(Mapping[str, Pixels]):
    """Associated images by name; an image is decoded when it is asked for, not before.

    Parameters
    ----------
    readers : mapping of str to callable
        What decodes each.
    check : callable
        Raises where the slide is closed.
    """

    def __init__(
        self, readers: Mapping[str, Callable[[], Pixels]], check: Callable[[], None]
    ) -> None:
        self._readers = readers
        self._check = check

    def __getitem__(self, name: str) -> Pixels:
        reader = self._readers[name]
        self._check()
        return reader()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers  # the inherited one would decode

    def __repr__(self) -> str:
        return f"<associated images: {', '.join(self._readers) or 'none'}>"
