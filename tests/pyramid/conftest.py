"""Stores made by hand, so that reading is tested without converting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from wsistore.codecs import append_crc32c, encode
from wsistore.geometry import Magnification, Mpp, Size
from wsistore.pyramid import layout, ngff
from wsistore.testing import texture

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Store:
    """A store, and the pixels (h, w, 3) that went into each level."""

    path: Path
    levels: tuple[Pixels, ...]


def _zarr_codecs(codec: str) -> list[dict[str, Any]]:
    names = {
        "jpeg": "imagecodecs_jpeg",
        "jpeg-rgb": "imagecodecs_jpeg",
        "jpeg2000": "imagecodecs_jpeg2k",
        "jpegxl": "imagecodecs_jpegxl",
    }
    if codec in names:
        transpose = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
        return [transpose, {"name": names[codec]}]
    plain = [{"name": "bytes"}]
    configurations: dict[str, dict[str, Any]] = {
        "zstd": {"level": 3, "checksum": False},
        "gzip": {"level": 5},
        "blosc": {
            "cname": "zstd",
            "clevel": 3,
            "shuffle": "bitshuffle",
            "typesize": 1,
            "blocksize": 0,
        },
    }
    if codec == "none":
        return plain
    return [*plain, {"name": codec, "configuration": configurations[codec]}]


def _encode(codec: str, pixels: Pixels) -> bytes:
    if codec == "jpeg":
        return encode(pixels, "jpeg", quality=90)
    if codec == "jpeg-rgb":
        return encode(pixels, "jpeg", quality=90, color="rgb")
    if codec in ("jpeg2000", "jpegxl"):
        return encode(pixels, codec)
    planar = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if codec == "gzip":
        return bytes(numcodecs.GZip(5).encode(planar))
    return encode(planar, codec)


def _tile(pixels: Pixels, row: int, column: int, chunk: int) -> Pixels:
    whole = np.full((chunk, chunk, 3), 77, np.uint8)  # what lies beyond the edge is no matter
    part = pixels[row * chunk : (row + 1) * chunk, column * chunk : (column + 1) * chunk]
    whole[: part.shape[0], : part.shape[1]] = part
    return whole


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_chunks(
    root: Path, pixels: Pixels, codec: str, chunk: int, shard: int | None, skip: Collection[Any]
) -> None:
    height, width = pixels.shape[:2]
    rows, columns = -(-height // chunk), -(-width // chunk)
    blocks = {
        (row, column): append_crc32c(_encode(codec, _tile(pixels, row, column, chunk)))
        for row in range(rows)
        for column in range(columns)
        if (row, column) not in skip
    }
    if shard is None:
        for (row, column), block in blocks.items():
            _write(root / f"c/0/{row}/{column}", block)
        return
    for top in range(-(-rows // shard)):
        for left in range(-(-columns // shard)):
            _write_shard(root / f"c/0/{top}/{left}", blocks, (top * shard, left * shard), shard)


def _write_shard(
    path: Path, blocks: dict[tuple[int, int], bytes], corner: tuple[int, int], side: int
) -> None:
    offsets, counts = np.zeros((side, side), np.int64), np.zeros((side, side), np.int64)
    body = b""
    for row in range(side):
        for column in range(side):
            block = blocks.get((corner[0] + row, corner[1] + column), b"")
            offsets[row, column], counts[row, column] = len(body), len(block)
            body += block
    if body:
        _write(path, body + layout.encode_shard_index(offsets, counts))


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., Store]:
    """Write an NGFF 0.5 store: ``write_store(codec, ...) -> Store``."""

    def write(
        codec: str = "jpeg",
        *,
        name: str = "made.ome.zarr",
        sizes: Sequence[tuple[int, int]] = ((300, 200), (75, 50)),
        chunk: int = 64,
        shard: int | None = 2,
        ours: bool = True,
        mpp: Mpp | None = Mpp(0.5, 0.25, "aperio.MPP"),  # noqa: B008 (immutable)
        skip: Collection[tuple[int, int]] = (),
        fill: int = 255,
        seed: int = 0,
    ) -> Store:
        root = tmp_path / name
        levels = []
        for index, (width, height) in enumerate(sizes):
            pixels = texture(width, height, seed=seed + index)
            levels.append(pixels)
            side = None if shard is None else Size(chunk * shard, chunk * shard)
            document = layout.array_document(
                Size(width, height),
                Size(chunk, chunk),
                [*_zarr_codecs(codec), {"name": "crc32c"}],
                shard=side,
            )
            document["fill_value"] = fill
            _write(root / str(index) / "zarr.json", layout.to_json(document))
            _write_chunks(root / str(index), pixels, codec, chunk, shard, () if index else skip)
        datasets = [ngff.Dataset(str(i), sizes[0][0] / width) for i, (width, _) in enumerate(sizes)]
        private = ngff.private_attributes(
            source_format="aperio",
            source_fingerprint="wsi1-0",
            codec=codec,
            mode="copy",
            mpp=mpp,
            magnification=Magnification(20, "aperio.AppMag"),
            metadata={"aperio.AppMag": "20"},
        )
        attributes = ngff.attributes_0_5("made", datasets, mpp, private)
        if not ours:
            del attributes["wsistore"]
        _write(root / "zarr.json", layout.to_json(layout.group_document(attributes)))
        return Store(root, tuple(levels))

    return write
