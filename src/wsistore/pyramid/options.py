"""What a conversion is asked to do, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from wsistore.errors import UsageError

NgffVersion = Literal["0.4", "0.5"]
BadTilePolicy = Literal["raise", "fill", "fill-missing"]
MetadataPolicy = Literal["allowed", "all"]

LOSSLESS = frozenset({"zstd", "blosc", "gzip", "jpegxl"})
"""Codecs that give back the very pixels."""
LOSSY_QUALITY = {"jpeg": 90, "jpeg2000": 40}
"""Lossy codecs, and the quality that is taken where none is said."""
CODECS = ("auto", "copy", *sorted(LOSSLESS), *sorted(LOSSY_QUALITY))
"""Names that ``codec=`` takes."""
CODECS_0_4 = frozenset({"zstd", "blosc", "gzip"})
"""Codecs of Zarr v2 that every reader of NGFF 0.4 knows."""

_ALIASES = {"deflate": "gzip", "zlib": "gzip", "jxl": "jpegxl", "j2k": "jpeg2000"}
_NO_ZARR_CODEC = frozenset({"webp", "png", "lzw", "none", "packbits"})
_COPY_0_4 = (
    "NGFF 0.4 stores can't hold {codec} tiles: Zarr v2 has no codec that turns interleaved "
    "images into its c, y, x chunks"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionOptions:
    """How a slide becomes a store.

    Parameters
    ----------
    codec : str
        ``"auto"`` (copy where the slide's tiles are JPEG or JPEG 2000, else zstd),
        ``"copy"`` (the encoded tiles are moved, not decoded), or the codec that pixels
        are encoded with anew: ``"zstd"``, ``"blosc"``, ``"gzip"``, ``"jpegxl"`` (all
        lossless), ``"jpeg"``, ``"jpeg2000"``.
    quality : int, optional
        For ``"jpeg"`` 1-100 as libjpeg has it, 90 by default; for ``"jpeg2000"`` the peak
        signal-to-noise ratio in dB, 40 by default.
    chunk : int, optional
        Width and height of an inner chunk, px. By default the slide's tile size, or 512
        where it has none. Copies keep the tile size.
    shard : int, optional
        Width and height of a shard in px, a multiple of the chunk. By default 16 chunks.
    format : {"0.5", "0.4"}
        NGFF version; 0.4 (Zarr v2) has no shards, and no copies.
    add_levels : bool
        In a copy, whether levels that are missing from a 2x pyramid are added.
    keep_levels : bool
        In a transcode, whether the slide's own reduced levels are taken rather than
        new ones made by area averaging.
    associated : tuple of str
        Associated images that are converted. Label and macro may show a patient's name,
        so they are neither decoded nor converted unless named here.
    keep_metadata : {"allowed", "all"}
        ``"allowed"``: only properties known to say nothing of a person. ``"all"``: also
        the others, but for those that name files, folders and users.
    on_bad_tile : {"fill-missing", "fill", "raise"}
        What a tile without usable bytes becomes: with ``"fill-missing"`` a missing one is
        left out (read as white) and a damaged one ends the conversion; with ``"fill"``
        both are left out; with ``"raise"`` both end it. What is left out is recorded.

    Raises
    ------
    UsageError
        If options are unknown, or contradict each other.
    """

    codec: str = "auto"
    quality: int | None = None
    chunk: int | None = None
    shard: int | None = None
    format: NgffVersion = "0.5"
    add_levels: bool = False
    keep_levels: bool = False
    associated: tuple[str, ...] = ("thumbnail",)
    keep_metadata: MetadataPolicy = "allowed"
    on_bad_tile: BadTilePolicy = "fill-missing"

    def __post_init__(self) -> None:
        """Settle aliases, and check each option and how they go together."""
        codec = str(self.codec).lower()
        object.__setattr__(self, "codec", _ALIASES.get(codec, codec))
        object.__setattr__(self, "associated", _names(self.associated))
        self._check_choices()
        self._check_quality()
        self._check_sizes()
        self._check_format()

    def _check_choices(self) -> None:
        if self.codec in _NO_ZARR_CODEC:
            raise UsageError(
                f"there is no Zarr codec for {self.codec!r}", hint=f"Use one of {_list(CODECS)}."
            )
        _one_of("codec", self.codec, CODECS)
        _one_of("format", self.format, get_args(NgffVersion))
        _one_of("keep_metadata", self.keep_metadata, get_args(MetadataPolicy))
        _one_of("on_bad_tile", self.on_bad_tile, get_args(BadTilePolicy))

    def _check_quality(self) -> None:
        if self.quality is None:
            return
        if self.codec not in LOSSY_QUALITY:
            raise UsageError(
                f"codec {self.codec!r} takes no quality",
                hint=f"Leave it out, or use a lossy codec: {_list(LOSSY_QUALITY)}.",
            )
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality is 1 to 100, got {self.quality!r}")

    def _check_sizes(self) -> None:
        for name, value in (("chunk", self.chunk), ("shard", self.shard)):
            if value is not None and not 16 <= value <= 65536:
                raise UsageError(f"{name} is 16 to 65536 px, got {value!r}")
        if self.chunk and self.shard and self.shard % self.chunk:
            raise UsageError(
                f"shard of {self.shard} px is no multiple of the chunk of {self.chunk} px",
                hint=f"Use {max(1, self.shard // self.chunk) * self.chunk}.",
            )

    def _check_format(self) -> None:
        if self.format == "0.5":
            return
        if self.shard is not None:
            raise UsageError(
                "NGFF 0.4 (Zarr v2) has no shards", hint="Leave shard out, or use format 0.5."
            )
        if self.codec != "auto" and self.codec not in CODECS_0_4:
            raise UsageError(
                _COPY_0_4.format(codec="copied" if self.codec == "copy" else self.codec),
                hint=f"Use format 0.5, or one of the codecs {_list(sorted(CODECS_0_4))}.",
            )

    def settings(self) -> dict[str, Any]:
        """Return the options as JSON, for comparing with those of an earlier run."""
        return {
            "codec": self.codec,
            "quality": self.quality,
            "chunk": self.chunk,
            "shard": self.shard,
            "format": self.format,
            "add_levels": self.add_levels,
            "keep_levels": self.keep_levels,
            "associated": list(self.associated),
            "keep_metadata": self.keep_metadata,
            "on_bad_tile": self.on_bad_tile,
        }


def _names(names: object) -> tuple[str, ...]:
    if isinstance(names, str):
        names = (names,)
    try:
        listed = sorted({str(name) for name in names})  # type: ignore[attr-defined]
    except TypeError:
        raise UsageError(f"associated images are named by text, got {names!r}") from None
    return tuple(listed)


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"unknown {name} {value!r}", hint=f"Use one of {_list(choices)}.")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
