"""Zarr codecs for image-encoded chunks."""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, TransposeCodec
from zarr.registry import get_codec_class

from wsistore.codecs import BlockFormat, append_crc32c, decode, encode
from wsistore.errors import DamagedTileError, UnsupportedCodecError
from wsistore.geometry import Size
from wsistore.pyramid.image_codecs import IMAGE_CODECS, block_format
from wsistore.pyramid.zarr_codecs import Jpeg, Jpeg2k, Jpeg2kYcbcr, Jpegxl
from wsistore.slides import open_slide
from wsistore.testing import texture

CLASSES = {cls.name: cls for cls in (Jpeg, Jpeg2k, Jpegxl, Jpeg2kYcbcr)}


def _array(path: Path, codec: Any, size: int = 64, *, checksum: bool = False) -> Any:
    return zarr.create_array(
        path,
        shape=(3, 96, 128),
        chunks=(3, size, size),
        dtype="uint8",
        filters=[TransposeCodec(order=(1, 2, 0))],
        serializer=codec,
        compressors=[Crc32cCodec()] if checksum else None,
        fill_value=255,
    )


def _planar(pixels: Any) -> Any:
    return pixels.transpose(2, 0, 1)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_names_lead_to_these_codecs(name: str) -> None:
    assert get_codec_class(name) is CLASSES[name]
    assert name in IMAGE_CODECS


@pytest.mark.parametrize("codec", [Jpegxl(effort=3, lossless=True), Jpeg2k(), Jpegxl()])
def test_lossless_round_trip(tmp_path: Path, codec: Any) -> None:
    array = _array(tmp_path, codec)
    pixels = texture(128, 96)
    array[:] = _planar(pixels)
    assert (zarr.open_array(tmp_path, mode="r")[:] == _planar(pixels)).all()


@pytest.mark.parametrize(
    "codec",
    [
        Jpeg(level=95, subsampling="444"),
        Jpeg(level=95, subsampling=[1, 1]),
        Jpeg(level=95, colorspace_jpeg="RGB"),
        Jpeg2k(level=45),
    ],
)
def test_lossy_round_trip_is_near_and_what_the_chunk_decodes_to(tmp_path: Path, codec: Any) -> None:
    array = _array(tmp_path, codec)
    pixels = texture(128, 96)
    array[:] = _planar(pixels)
    seen = zarr.open_array(tmp_path, mode="r")[:]
    assert 0 < np.abs(seen.astype(int) - _planar(pixels)).mean() < 4
    block = (tmp_path / "c/0/0/0").read_bytes()
    form = BlockFormat(IMAGE_CODECS[codec.name].codec, 64, 64, color="stream")
    assert (decode(block, form) == seen[:, :64, :64].transpose(1, 2, 0)).all()


@pytest.mark.parametrize("color", ["rgb", "ycbcr"])
def test_complete_streams_speak_for_their_colours(tmp_path: Path, color: Any) -> None:
    _array(tmp_path, Jpeg())
    pixels = texture(64, 64)
    block = encode(pixels, "jpeg", color=color)
    target = tmp_path / "c/0/0/0"
    target.parent.mkdir(parents=True)
    target.write_bytes(block)
    seen = zarr.open_array(tmp_path, mode="r")[:, :64, :64].transpose(1, 2, 0)
    assert (seen == imagecodecs.jpeg8_decode(block)).all()
    assert np.abs(seen.astype(int) - pixels).mean() < 6


def test_ycbcr_codestreams_are_converted(tmp_path: Path) -> None:
    _array(tmp_path, Jpeg2kYcbcr())
    stored = texture(64, 64)  # any numbers will do for Y, Cb and Cr
    block = encode(stored, "jpeg2000")
    target = tmp_path / "c/0/0/0"
    target.parent.mkdir(parents=True)
    target.write_bytes(block)
    seen = zarr.open_array(tmp_path, mode="r")[:, :64, :64].transpose(1, 2, 0)
    y, cb, cr = (stored[..., i].astype(float) for i in range(3))
    # ITU-T T.871, equations for full range.
    truth = np.stack(
        [
            y + 1.402 * (cr - 128),
            y - 0.344136286 * (cb - 128) - 0.714136286 * (cr - 128),
            y + 1.772 * (cb - 128),
        ],
        axis=-1,
    )
    assert np.abs(seen - np.clip(truth, 0, 255)).max() <= 0.51
    with pytest.raises(UnsupportedCodecError, match="can't encode"):
        zarr.open_array(tmp_path, mode="r+")[:, :64, :64] = 9


def test_gray_images(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path,
        shape=(64, 64),
        chunks=(64, 64),
        dtype="uint8",
        serializer=Jpeg(),
        compressors=None,
    )
    gray = texture(64, 64)[..., 0]
    block = imagecodecs.jpeg8_encode(np.ascontiguousarray(gray), level=90)
    (tmp_path / "c/0").mkdir(parents=True)
    (tmp_path / "c/0/0").write_bytes(block)
    assert (array[:] == imagecodecs.jpeg8_decode(block)).all()


def test_shared_tables_come_from_the_configuration(tmp_path: Path) -> None:
    pixels = texture(64, 64)
    whole = encode(pixels, "jpeg", quality=90)
    segments, scan = whole[2:], b""
    tables, frame = b"", b""
    while segments[1] != 0xDA:
        length = 2 + int.from_bytes(segments[2:4], "big")
        part, segments = segments[:length], segments[length:]
        if part[1] in (0xDB, 0xC4):
            tables += part
        else:
            frame += part
    scan = segments
    abbreviated = b"\xff\xd8" + frame + scan
    text = base64.b64encode(b"\xff\xd8" + tables + b"\xff\xd9").decode()
    _array(tmp_path, Jpeg(tables=text))
    target = tmp_path / "c/0/0/0"
    target.parent.mkdir(parents=True)
    target.write_bytes(abbreviated)
    seen = zarr.open_array(tmp_path, mode="r")[:, :64, :64].transpose(1, 2, 0)
    assert (seen == imagecodecs.jpeg8_decode(whole)).all()


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[: len(d) // 2], lambda d: d[:200] + bytes(400) + d[600:], lambda d: b"junk"],
    ids=["truncated", "zeroed", "junk"],
)
def test_damaged_chunks_raise(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    array = _array(tmp_path, Jpeg(level=95, subsampling="444"))
    array[:] = _planar(texture(128, 96))
    chunk = tmp_path / "c/0/0/0"
    chunk.write_bytes(damage(chunk.read_bytes()))
    with pytest.raises(DamagedTileError):
        zarr.open_array(tmp_path, mode="r")[:, :8, :8]


def test_a_checksum_behind_the_image_sees_a_flipped_byte(tmp_path: Path) -> None:
    array = _array(tmp_path, Jpeg(level=95), checksum=True)
    array[:] = _planar(texture(128, 96))
    chunk = tmp_path / "c/0/0/0"
    chunk.write_bytes(_flipped(chunk.read_bytes()))
    with pytest.raises(ValueError, match=r"crc32c|checksum"):
        zarr.open_array(tmp_path, mode="r")[:, :8, :8]


def test_a_chunk_of_another_size_is_refused(tmp_path: Path) -> None:
    _array(tmp_path, Jpeg())
    target = tmp_path / "c/0/0/0"
    target.parent.mkdir(parents=True)
    target.write_bytes(encode(texture(32, 64), "jpeg"))
    with pytest.raises(DamagedTileError, match="32x64"):
        zarr.open_array(tmp_path, mode="r")[:, :8, :8]


@pytest.mark.parametrize(
    ("cls", "configuration"),
    [
        (Jpeg, {"header": "AAAA"}),
        (Jpeg, {"colorspace_data": "YCBCR"}),
        (Jpeg, {"fancyupsampling": False}),
        (Jpeg, {"lossless": True}),
        (Jpeg, {"bitspersample": 12}),
        (Jpeg, {"unheard_of": 1}),
        (Jpeg2k, {"planar": True}),
        (Jpeg2k, {"skipres": 1}),
        (Jpegxl, {"index": 3}),
        (Jpeg2kYcbcr, {"mct": False}),
    ],
)
def test_settings_that_would_change_pixels_are_refused(
    cls: Any, configuration: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedCodecError, match=next(iter(configuration))):
        cls.from_dict({"name": cls.name, "configuration": configuration})


@pytest.mark.parametrize(
    ("cls", "configuration"),
    [
        (Jpeg, {"level": 80, "subsampling": [2, 1], "optimize": True, "fancyupsampling": True}),
        (Jpeg2k, {"level": 40, "mct": False, "numthreads": 2, "verbose": 0}),
        (Jpegxl, {"effort": 3, "lossless": True, "decodingspeed": 1}),
        (Jpeg2kYcbcr, {}),
    ],
)
def test_documents_round_trip(cls: Any, configuration: dict[str, Any]) -> None:
    document = {"name": cls.name, **({"configuration": configuration} if configuration else {})}
    codec = cls.from_dict(document)
    assert codec.to_dict() == document
    again = pickle.loads(pickle.dumps(codec))
    assert again == codec
    assert hash(again) == hash(codec)
    assert codec != cls.from_dict({"name": cls.name, "configuration": {"level": 11}})


def test_from_dict_refuses_another_name_and_no_mapping() -> None:
    with pytest.raises(UnsupportedCodecError, match="expected codec"):
        Jpeg.from_dict({"name": "imagecodecs_png"})
    with pytest.raises(UnsupportedCodecError, match="configuration"):
        Jpeg.from_dict({"name": "imagecodecs_jpeg", "configuration": [1]})


def test_other_data_types_and_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCodecError, match="uint16"):
        zarr.create_array(tmp_path / "a", shape=(8, 8), dtype="uint16", serializer=Jpeg())
    array = zarr.create_array(
        tmp_path / "b", shape=(3, 16, 16), chunks=(3, 16, 16), dtype="uint8", serializer=Jpeg()
    )
    with pytest.raises(UnsupportedCodecError, match="transpose"):
        array[:] = 7


def test_lossy_jpegxl_is_not_written(tmp_path: Path) -> None:
    array = _array(tmp_path, Jpegxl(lossless=False))
    with pytest.raises(UnsupportedCodecError, match="without loss"):
        array[:] = 7


def test_bad_tables_are_refused() -> None:
    for tables in ("no base64!", 7):
        with pytest.raises(UnsupportedCodecError, match="base64"):
            block_format(IMAGE_CODECS["imagecodecs_jpeg"], {"tables": tables}, Size(8, 8), 3)


READ_PLAINLY = """
import sys, warnings
warnings.simplefilter("error")
if sys.argv[2] == "imported":
    import wsistore
import numpy as np, zarr
np.save(sys.argv[3], zarr.open_group(sys.argv[1], mode="r")["0"][:])
"""


@pytest.mark.parametrize("imported", ["imported", "bare"])
@pytest.mark.parametrize("codec", ["jpeg-rgb", "jpeg2000", "jpegxl"])
def test_plain_zarr_reads_stores_without_a_warning(
    write_store: Callable[..., Any], tmp_path: Path, codec: str, imported: str
) -> None:
    store = write_store(codec)
    out = tmp_path / "seen.npy"
    subprocess.run(
        [sys.executable, "-c", READ_PLAINLY, str(store.path), imported, str(out)], check=True
    )
    with open_slide(store.path) as slide:
        expected = slide.read_level(0, (0, 0, 300, 200))
    assert (np.load(out).transpose(1, 2, 0) == expected).all()


CHOOSES = """
import warnings
warnings.simplefilter("error")
import zarr
from zarr.registry import get_codec_class, register_codec
class Other: pass
register_codec("imagecodecs_jpeg", Other)
assert get_codec_class("imagecodecs_jpeg").__module__ == "wsistore.pyramid.zarr_codecs"
zarr.config.reset()
assert get_codec_class("imagecodecs_jpeg").__module__ == "wsistore.pyramid.zarr_codecs"
with zarr.config.set({"codecs.imagecodecs_jpeg": "__main__.Other"}):
    assert get_codec_class("imagecodecs_jpeg") is Other
"""


def test_these_codecs_win_where_others_have_the_same_name() -> None:
    subprocess.run([sys.executable, "-c", CHOOSES], check=True)


def test_a_crc_behind_a_block_is_what_zarr_writes(tmp_path: Path) -> None:
    array = _array(tmp_path, Jpegxl(), checksum=True)
    array[:] = _planar(texture(128, 96))
    data = (tmp_path / "c/0/0/0").read_bytes()
    assert append_crc32c(data[:-4]) == data
