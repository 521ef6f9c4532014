"""The whole chain in a bucket: upload, info, convert, verify, tile, process, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import wsistore
from wsistore.cli.app import app
from wsistore.export import read_plan
from wsistore.sources import open_place
from wsistore.tiles.batch import read_tiles

RUN = "20x_64px_0px_overlap"


@pytest.fixture
def slides(slide_factory: Callable[..., Any], bucket: str, tmp_path: Path) -> tuple[Path, str]:
    """Return a folder of two slides, and the URL where the same ones were uploaded."""
    folder = tmp_path / "slides"
    folder.mkdir()
    place = open_place(f"{bucket}/archive")
    for name, variant in (("one", "jpeg_rgb_tables"), ("two", "j2k_33003")):
        made = slide_factory(variant, size=(400, 300), mpp="0.5", magnification="20", tile=64)
        data = Path(made.path).read_bytes()
        (folder / f"{name}.svs").write_bytes(data)
        place.put(f"{name}.svs", data)
    return folder, f"{bucket}/archive"


def call(*arguments: object) -> str:
    """Run the command line; return what it printed, and see that it ended well."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return str(done.stdout)


@pytest.mark.slow
def test_the_chain_on_the_command_line(
    slides: tuple[Path, str], bucket: str, tmp_path: Path
) -> None:
    folder, archive = slides
    near, far = tmp_path / "out", f"{bucket}/out"

    told = json.loads(call("info", f"{archive}/one.svs", "--json"))
    assert json.dumps(told["levels"]) == json.dumps(
        json.loads(call("info", folder / "one.svs", "--json"))["levels"]
    )

    call("convert", f"{archive}/", f"{bucket}/zarr/")
    call("convert", folder, tmp_path / "zarr")
    for name in ("one", "two"):
        store = f"{bucket}/zarr/{name}.ome.zarr"
        call("verify", store, "--against", f"{archive}/{name}.svs")
        local = wsistore.open_slide(tmp_path / "zarr" / f"{name}.ome.zarr")
        remote = wsistore.open_slide(store)
        for level in range(len(local.levels)):
            place = ((0, 0), level, local.levels[level].size)
            np.testing.assert_array_equal(remote.read_region(*place), local.read_region(*place))

    call("tile", f"{bucket}/zarr/one.ome.zarr", f"{far}/one.csv", "--target-mag", 20, "--size", 64)
    call("tile", tmp_path / "zarr/one.ome.zarr", near / "one.csv", "--target-mag", 20, "--size", 64)
    np.testing.assert_array_equal(read_plan(f"{far}/one.csv").x, read_plan(near / "one.csv").x)

    call("segment", f"{archive}/", "-o", f"{far}/tissue", "--method", "otsu")
    assert {"masks/one.png", "contours/two.geojson"} <= {
        found.key for found in open_place(f"{far}/tissue").list_tree()
    }

    for source, out in ((f"{archive}/", far), (folder, near)):
        call(
            "process", source, "--patch-size", 64, "--target-mag", 20, "--device", "cpu",
            "--feature-extractors", "colour-stats", "-o", out,
        )  # fmt: skip
    remote_features = wsistore.open_features(f"{far}/{RUN}/features.zarr")
    local_features = wsistore.open_features(near / RUN / "features.zarr")
    assert sorted(remote_features) == sorted(local_features) == ["one", "two"]
    for name, dataset in local_features.items():
        assert remote_features[name].equals(dataset)
        assert np.isfinite(remote_features[name]["colour-stats"]).all()

    store = f"{far}/{RUN}/features.zarr"
    assert "2 slides, 2 complete" in call("features", "ls", store)
    assert "0 differ" in call("features", "verify", store, "-k", 4)
    call("export", store, "--format", "trident", "-o", f"{far}/trident")
    assert open_place(far).get("trident/features_colour-stats/two.h5")
    call("embed", f"{far}/{RUN}/patches/", "--encoder", "null", "--store", f"{far}/more.zarr")
    assert "2 slides, 2 complete" in call("features", "ls", f"{far}/more.zarr")


def test_pixels_of_planned_tiles_are_those_of_the_local_slide(
    slides: tuple[Path, str], bucket: str
) -> None:
    folder, archive = slides
    spec = wsistore.TileSpec(64, 64, "20x")
    for name in ("one", "two"):
        near = wsistore.open_slide(folder / f"{name}.svs")
        far = wsistore.open_slide(f"{archive}/{name}.svs")
        plan = wsistore.plan_tiles(far, spec)
        np.testing.assert_array_equal(
            read_tiles(plan.requests(far), plan.size, plan.resolution),
            read_tiles(plan.requests(near), plan.size, plan.resolution),
        )
