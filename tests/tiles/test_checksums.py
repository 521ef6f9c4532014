"""Tiles with a checksum: a changed byte is seen, whether the decoder sees it or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wsistore
from wsistore.errors import DamagedTileError
from wsistore.testing import write_slide


@pytest.mark.parametrize("uses", [1, 2])
def test_a_changed_byte_of_a_store_is_never_decoded(tmp_path, uses):
    slide = write_slide(tmp_path / "s.svs", size=(128, 128), tile=64, levels=(1,)).path
    store = tmp_path / "s.ome.zarr"
    wsistore.convert(slide, store).raise_for_failures()
    with wsistore.open_slide(store) as opened:
        refs = opened.tile_table(0).locate(np.array([0]), np.array([0]))
        shard = opened.tile_table(0).source(int(refs.parts[0])).name
    with Path(shard).open("r+b") as file:
        file.seek(int(refs.offsets[0] + refs.counts[0]) - 4 - 12)  # within the codes
        old = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([old ^ 1]))
    requests = [(str(store), 0, 0)] * uses
    with pytest.raises(DamagedTileError, match="crc32c"):
        wsistore.read_tiles(requests, 32, 0)
    pixels, report = wsistore.read_tiles(
        requests, 32, 0, on_bad_tile="fill", fill=7, return_report=True
    )
    assert (pixels == 7).all()
    assert ["crc32c" in fault.reason for fault in report.faults] == [True] * uses
