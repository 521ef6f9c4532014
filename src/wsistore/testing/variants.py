"""The ways in which a slide's tiles may be encoded, one name for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Codec = Literal["jpeg", "jpeg2000", "lzw", "deflate", "none", "zstd", "webp"]
Stream = Literal["rgb", "ycbcr", "gray"]
Tables = Literal["shared", "dqt", "inline"]

COMPRESSION_NAMES = {7: "JPEG", 33003: "J2K/YUV16", 33005: "J2K/KDU"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of encoding tiles, and what a reader must make of it.

    Parameters
    ----------
    description : str
        What is particular about it.
    codec : str
        Name of the codec, as in `wsistore.codecs.model.BlockFormat`.
    compression : int
        TIFF tag 259.
    photometric : int
        TIFF tag 262: 0 white is zero, 1 black is zero, 2 RGB, 6 YCbCr.
    stream : {"rgb", "ycbcr", "gray"}
        What the encoder was given; differs from `color` where the tag contradicts it.
    lossless : bool
        Whether the decoded tiles equal the texture.
    openslide : bool
        Whether OpenSlide (4.0.1, as in its wheel) reads it.
    tolerance : int
        Largest difference to OpenSlide's pixels, in grey levels.
    contradictory : bool
        Whether tags and stream disagree on colour or subsampling.
    subsampling : (int, int)
        Horizontal and vertical chroma subsampling of the stream.
    subsampling_tag : (int, int) or None
        TIFF tag 530 as written; None leaves it out.
    tables : {"shared", "dqt", "inline"}
        JPEG tables: all in tag 347, only the quantisation tables there, or all in the
        stream (no tag 347).
    app14 : int or None
        Transform of an Adobe marker in the stream; None for no marker.
    jfif : bool
        Whether the stream holds a JFIF marker.
    component_ids : tuple of int or None
        Component ids of the JPEG frame; None keeps the encoder's.
    predictor : int
        TIFF tag 317: 1 none, 2 horizontal differencing.
    reversible : bool
        JPEG 2000 with the reversible wavelet.
    """

    description: str
    codec: Codec
    compression: int
    photometric: int = 2
    stream: Stream = "rgb"
    lossless: bool = False
    openslide: bool = True
    tolerance: int = 0
    contradictory: bool = False
    subsampling: tuple[int, int] = (1, 1)
    subsampling_tag: tuple[int, int] | None = None
    tables: Tables = "shared"
    app14: int | None = None
    jfif: bool = False
    component_ids: tuple[int, ...] | None = (0, 1, 2)
    predictor: int = 1
    reversible: bool = False

    @property
    def channels(self) -> int:
        """Samples per pixel: 1 or 3."""
        return 1 if self.stream == "gray" else 3

    @property
    def color(self) -> Literal["rgb", "ycbcr", "gray", "white-is-zero"]:
        """What the container says the samples mean; a reader must follow it."""
        if self.compression == 33003:
            return "ycbcr"
        names: dict[int, Literal["rgb", "ycbcr", "gray", "white-is-zero"]]
        names = {0: "white-is-zero", 1: "gray", 2: "rgb", 6: "ycbcr"}
        return names[self.photometric]

    @property
    def aperio_name(self) -> str:
        """How Aperio's description calls the encoding."""
        if self.codec == "jpeg":
            return {"rgb": "JPEG/RGB", "ycbcr": "JPEG/YCC"}.get(self.color, "JPEG")
        return COMPRESSION_NAMES.get(self.compression, self.codec.upper())


_RGB = Variant("JPEG, RGB samples", "jpeg", 7, subsampling_tag=(2, 2))
_YCC = Variant(
    "JPEG, YCbCr samples", "jpeg", 7, photometric=6, stream="ycbcr", component_ids=(1, 2, 3)
)
_YCC444 = replace(_YCC, subsampling_tag=(1, 1))
_YCC422 = replace(_YCC, subsampling=(2, 1), subsampling_tag=(2, 1))
_YCC420 = replace(_YCC, subsampling=(2, 2), subsampling_tag=(2, 2))
_33003 = Variant("JPEG 2000, YCbCr samples", "jpeg2000", 33003, stream="ycbcr", tolerance=1)
_33005 = Variant("JPEG 2000, RGB samples", "jpeg2000", 33005)


def _of(base: Variant, description: str, **changes: object) -> Variant:
    return replace(base, description=description, **changes)  # type: ignore[arg-type]


def _jpeg_rgb() -> dict[str, Variant]:
    full = replace(_RGB, tables="inline", subsampling_tag=None)
    return {
        "jpeg_rgb_tables": _of(
            _RGB, "as Aperio writes it: abbreviated, ids 0 1 2, no marker, tag 530 lies (2, 2)"
        ),
        "jpeg_rgb_tables_app14": _of(_RGB, "abbreviated, Adobe marker says RGB", app14=0),
        "jpeg_rgb_tables_dqt": _of(_RGB, "tag 347 holds DQT only", tables="dqt"),
        "jpeg_rgb_full": _of(full, "full streams, no marker"),
        "jpeg_rgb_full_app14": _of(full, "full streams, Adobe marker says RGB", app14=0),
        "jpeg_rgb_full_ids_rgb": _of(
            full, "full streams, ids 'R' 'G' 'B'", component_ids=(82, 71, 66)
        ),
        "jpeg_rgb_full_ids_123": _of(
            full, "full streams, ids 1 2 3, as YCbCr has", component_ids=(1, 2, 3)
        ),
    }


def _jpeg_ycbcr() -> dict[str, Variant]:
    found: dict[str, Variant] = {}
    for name, base in (("444", _YCC444), ("422", _YCC422), ("420", _YCC420)):
        key, chroma = f"jpeg_ycbcr{name}", f"chroma {name[0]}:{name[1]}:{name[2]}"
        found |= {
            f"{key}_tables": _of(base, f"{chroma}, abbreviated"),
            f"{key}_tables_dqt": _of(base, f"{chroma}, tag 347 holds DQT only", tables="dqt"),
            f"{key}_tables_ids012": _of(
                base, f"{chroma}, abbreviated, ids 0 1 2", component_ids=(0, 1, 2)
            ),
            f"{key}_full": _of(base, f"{chroma}, full streams", tables="inline"),
            f"{key}_full_app14": _of(
                base, f"{chroma}, full, Adobe marker says YCbCr", tables="inline", app14=1
            ),
            f"{key}_full_jfif": _of(
                base, f"{chroma}, full streams, JFIF", tables="inline", jfif=True
            ),
        }
    return found


def _contradictory() -> dict[str, Variant]:
    rgb_tag = replace(_YCC444, photometric=2, subsampling_tag=None, contradictory=True)
    ycc_tag = replace(_RGB, photometric=6, subsampling_tag=(1, 1), contradictory=True)
    return {
        "jpeg_ycbcr422_subtag_wrong": _of(
            _YCC422, "chroma 4:2:2, tag 530 says 2, 2", subsampling_tag=(2, 2), contradictory=True
        ),
        "jpeg_ycbcr420_subtag_absent": _of(
            _YCC420, "chroma 4:2:0, no tag 530", subsampling_tag=None
        ),
        "jpeg_ycbcr444_subtag_absent": _of(  # the tag's default is (2, 2)
            _YCC444, "chroma 4:4:4, no tag 530", subsampling_tag=None, contradictory=True
        ),
        "x_rgbtag_ycbcr_bare": _of(rgb_tag, "tag RGB, YCbCr samples, ids 1 2 3"),
        "x_rgbtag_ycbcr_jfif": _of(
            rgb_tag, "tag RGB, YCbCr samples, JFIF", tables="inline", jfif=True
        ),
        "x_rgbtag_ycbcr_app14": _of(
            rgb_tag, "tag RGB, YCbCr samples, Adobe marker says YCbCr", tables="inline", app14=1
        ),
        "x_rgbtag_rgb_app14_ycbcr": _of(
            _RGB, "tag RGB, RGB samples, Adobe marker says YCbCr", app14=1, contradictory=True
        ),
        "x_rgbtag_rgb_jfif": _of(
            _RGB, "tag RGB, RGB samples, JFIF", tables="inline", jfif=True, contradictory=True
        ),
        "x_ycbcrtag_rgb_bare": _of(ycc_tag, "tag YCbCr, RGB samples, no marker"),
        "x_ycbcrtag_rgb_app14": _of(
            ycc_tag, "tag YCbCr, RGB samples, Adobe marker says RGB", tables="inline", app14=0
        ),
        "x_ycbcrtag_ycbcr_app14_rgb": _of(
            _YCC444, "tag YCbCr, YCbCr samples, Adobe marker says RGB", app14=0, contradictory=True
        ),
    }


def _jpeg2000() -> dict[str, Variant]:
    sub = replace(_33003, subsampling=(2, 1))
    return {
        "j2k_33005": _of(_33005, "RGB with colour transform inside the codestream"),
        "j2k_33005_reversible": _of(
            _33005, "RGB, reversible wavelet", lossless=True, reversible=True
        ),
        "j2k_33003": _of(_33003, "YCbCr, chroma not subsampled, tag RGB"),
        "j2k_33003_photo6": _of(_33003, "YCbCr, chroma not subsampled, tag YCbCr", photometric=6),
        "j2k_33003_422": _of(sub, "as Aperio writes it: YCbCr, chroma 2 x 1, tag RGB"),
        "j2k_33003_422_photo6": _of(sub, "YCbCr, chroma 2 x 1, tag YCbCr", photometric=6),
        "j2k_34712": _of(
            _33005, "RGB, the number of other TIFF writers", compression=34712, openslide=False
        ),
    }


def _lossless() -> dict[str, Variant]:
    found = {}
    for codec, compression in (("none", 1), ("lzw", 5), ("deflate", 8), ("zstd", 50000)):
        plain = Variant(f"{codec}, no predictor", codec, compression, lossless=True)  # type: ignore[arg-type]
        found[codec] = plain
        if codec in {"lzw", "deflate"}:
            found[f"{codec}_predictor"] = _of(
                plain, f"{codec}, horizontal differencing", predictor=2
            )
    found["deflate_old"] = _of(found["deflate"], "deflate under its old number", compression=32946)
    found["webp"] = Variant("WebP, lossy", "webp", 50001, openslide=False)
    return found


def _gray() -> dict[str, Variant]:
    jpeg = Variant("", "jpeg", 7, photometric=1, stream="gray", component_ids=(1,))
    plain = Variant("", "none", 1, photometric=1, stream="gray", lossless=True)
    return {
        "gray_jpeg": _of(jpeg, "one sample a pixel, abbreviated JPEG"),
        "gray_none": _of(plain, "one sample a pixel, not compressed"),
        "gray_lzw": _of(plain, "one sample a pixel, LZW", codec="lzw", compression=5),
        "gray_deflate_predictor": _of(
            plain, "one sample a pixel, deflate", codec="deflate", compression=8, predictor=2
        ),
        "gray_white_is_zero": _of(plain, "one sample a pixel, 0 is white", photometric=0),
    }


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    _jpeg_rgb() | _jpeg_ycbcr() | _contradictory() | _jpeg2000() | _lossless() | _gray()
)
"""Every variant that `write_slide` can write, by name."""
