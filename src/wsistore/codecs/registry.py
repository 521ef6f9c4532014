"""Which decoder serves which codec."""

from __future__ import annotations

import importlib
import threading

from wsistore.codecs.model import BlockFormat, Decoder
from wsistore.errors import UnsupportedCodecError, UsageError

_decoders: dict[str, Decoder] = {}
_lock = threading.Lock()

# Where the decoders that come with the package are: imported when first asked for, since
# the libraries beneath take 0.3 s to import and a command may need none of them.
_BUILT_IN: dict[str, tuple[str, str]] = {
    "jpeg": ("wsistore.codecs.jpeg", "JPEG"),
    "jpeg2000": ("wsistore.codecs.jpeg2000", "JPEG2000"),
    "png": ("wsistore.codecs.images", "PNG"),
    "webp": ("wsistore.codecs.images", "WEBP"),
    "jpegxl": ("wsistore.codecs.images", "JPEGXL"),
    "none": ("wsistore.codecs.raw", "NONE"),
    "lzw": ("wsistore.codecs.raw", "LZW"),
    "deflate": ("wsistore.codecs.raw", "DEFLATE"),
    "gzip": ("wsistore.codecs.raw", "GZIP"),
    "packbits": ("wsistore.codecs.raw", "PACKBITS"),
    "zstd": ("wsistore.codecs.raw", "ZSTD"),
    "blosc": ("wsistore.codecs.raw", "BLOSC"),
}


def register(name: str, decoder: Decoder) -> None:
    """Slot in the decoder of a codec; the one before it, if any, is replaced.

    Parameters
    ----------
    name : str
        As in `BlockFormat.codec`.
    decoder : Decoder
        Safe to be called from several threads at once.

    Raises
    ------
    UsageError
        If `name` is empty or `decoder` lacks what `Decoder` asks for.
    """
    if not name:
        raise UsageError("a codec needs a name, got an empty text")
    if not callable(getattr(decoder, "decode_into", None)) or not hasattr(decoder, "scales"):
        raise UsageError(
            f"decoder {decoder!r} for codec {name!r} lacks decode_into or scales",
            hint="See wsistore.codecs.Decoder.",
        )
    with _lock:
        _decoders[name] = decoder


def decoder_for(name: str) -> Decoder:
    """Return the decoder of a codec.

    Raises
    ------
    UnsupportedCodecError
        If none is registered under this name.
    """
    decoder = _decoders.get(name)
    return decoder if decoder is not None else _load(name)


def _load(name: str) -> Decoder:
    if name not in _BUILT_IN:
        raise UnsupportedCodecError(
            f"no decoder for codec {name!r}.", hint=f"Known codecs: {', '.join(names())}."
        )
    module, attribute = _BUILT_IN[name]
    decoder: Decoder = getattr(importlib.import_module(module), attribute)
    with _lock:  # one that was registered meanwhile stays
        return _decoders.setdefault(name, decoder)


def names() -> tuple[str, ...]:
    """Return the names of all codecs that can be decoded, sorted."""
    return tuple(sorted({*_BUILT_IN, *_decoders}))


def scales(block_format: BlockFormat) -> tuple[int, ...]:
    """Return the downsamplings that the decoder of these tiles does by itself.

    Parameters
    ----------
    block_format : BlockFormat
        What the tiles are.

    Returns
    -------
    tuple of int
        Ascending, beginning with 1. Tiles of less than 8 px on both sides have no more,
        since a scaled decode of them is ambiguous: several DCT scales give one size.

    Raises
    ------
    UnsupportedCodecError
        If there is no decoder for them.
    """
    decoder = decoder_for(block_format.codec)
    if max(block_format.width, block_format.height) < 8:
        return (1,)
    return decoder.scales
