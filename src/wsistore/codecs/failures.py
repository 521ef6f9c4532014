"""The one boundary where errors of the image libraries become errors of this package."""

from __future__ import annotations

import struct

from wsistore.errors import DamagedTileError

LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    # imagecodecs: every codec has an error class of its own, all of them RuntimeError;
    # NotImplementedError (a variant that is not read) is a RuntimeError too.
    RuntimeError,
    # simplejpeg raises ValueError for damage; so does imagecodecs for sizes that differ.
    ValueError,
    # What else was seen to escape from imagecodecs and Pillow on damaged streams.
    TypeError,
    ArithmeticError,  # OverflowError, ZeroDivisionError
    LookupError,  # IndexError, KeyError
    MemoryError,
    OSError,  # Pillow: broken data stream, UnidentifiedImageError
    SyntaxError,  # Pillow: a header that is broken
    EOFError,
    BufferError,
    struct.error,
    # imagecodecs.DelayedImportError: built without this codec.
    ImportError,
)
"""What the decoders beneath may raise. Only calls into the libraries stand in a ``try`` with
these, so that a mistake of our own is not taken for a damaged tile."""


def damaged(error: Exception, what: str, count: int) -> DamagedTileError:
    """Return the error to raise for what a library said about a block.

    Parameters
    ----------
    error : Exception
        One of `LIBRARY_ERRORS`.
    what : str
        What was expected, such as ``"jpeg tile of 256x256"``.
    count : int
        Length of the block in bytes.
    """
    said = str(error) or type(error).__name__
    return DamagedTileError(f"{what}: the decoder refused the {count} bytes: {said}.")
