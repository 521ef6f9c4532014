"""Plans are columns: checked, ordered, sliced, joined, told apart, and sent about."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from wsistore import TilePlan, TileSpec, plan_tiles
from wsistore.errors import UsageError
from wsistore.testing.blank import blank_slide
from wsistore.tiles.cohort import CohortPlan, concat
from wsistore.tiles.plan import COLUMNS

GOLDEN = "f5253d82e3600dab158be51af807dca174496fbfc5e28fa32a73eb1afc7c7119"
"""plan_id of `plan()`; a change of the recipe or of planning makes all stored plans strange."""


def slide(**changes):
    return blank_slide((5000, 3000), **changes)


def mask():
    pixels = np.zeros((30, 50), np.bool_)
    pixels[5:20, 10:33] = True
    return pixels


def plan(spec=None, **changes):
    spec = spec or TileSpec(256, resolution="20x")
    return plan_tiles(slide(), spec, mask(), **changes)


def test_columns_have_their_types_and_cannot_be_written():
    made = plan()
    assert {name: values.dtype for name, values in made.columns.items()} == dict(COLUMNS)
    assert len(made) == len(made.x) == 12
    with pytest.raises(ValueError, match="read-only"):
        made.x[0] = 1
    assert made.boxes.tolist()[0] == [made.x[0], made.y[0], 512, 512]


def test_a_plan_tells_where_it_comes_from():
    told = plan().provenance
    assert told["slide"]["mpp_origin"] == told["slide"]["magnification_origin"] == "blank"
    assert told["geometry"]["size_level0"] == [512, 512]
    assert [rule["name"] for rule in told["rules"]] == ["edge", "tissue"]
    edge, tissue = told["rules"]
    assert (edge["seen"], edge["dropped"]) == (60, 15)
    assert (tissue["seen"], tissue["dropped"]) == (45, 33)
    assert tissue["parameters"]["min_tissue"] == 0.5
    assert tissue["parameters"]["method"] == "array"
    assert len(tissue["parameters"]["mask"]) == 64


def test_rows_are_taken_in_order_alone():
    made = plan()
    assert made[2:5].x.tolist() == made.x[2:5].tolist()
    assert made[::2].x.tolist() == made.x[::2].tolist()
    assert made[made.x > 2000].y.tolist() == made.y[made.x > 2000].tolist()
    assert made[[0, 3]].x.tolist() == made.x[[0, 3]].tolist()
    assert len(made[[]]) == len(made[0:0]) == 0
    for bad in (slice(None, None, -1), [3, 0], [1, 1], [-1], [len(made)], np.ones(3, bool), [0.5]):
        with pytest.raises(UsageError):
            made[bad]
    with pytest.raises(TypeError):
        iter(made)


def test_keeping_rows_is_remembered():
    made = plan()
    kept = made.keep(made.y > 600, "hand", why="clean")
    assert kept.rules[-1].to_dict() == {
        "name": "hand",
        "parameters": {"why": "clean"},
        "seen": 12,
        "dropped": 12 - len(kept),
    }
    assert 0 < len(kept) < 12
    assert kept.plan_id != made[made.y > 600].plan_id != made.plan_id


@pytest.mark.parametrize(("rows", "expected"), [(5, [5, 5, 2]), (12, [12]), (100, [12])])
def test_runs_start_at_whole_chunks(rows, expected):
    made = plan()
    runs = made.split(rows)
    assert [len(made[run]) for run in runs] == expected
    assert all(run.start % rows == 0 for run in runs)
    assert np.concatenate([made[run].x for run in runs]).tolist() == made.x.tolist()
    with pytest.raises(UsageError):
        made.split(0)


def test_further_columns_travel_with_their_rows():
    made = plan().with_columns(score=np.arange(12.0), label=["a"] * 5 + ["b"] * 7)
    assert made[made.extras["label"] == "b"].extras["score"].tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert made.plan_id == plan().plan_id
    assert made != plan()
    for bad in ({"x": np.arange(12)}, {"score": np.arange(3)}, {"score": [object()] * 12}):
        with pytest.raises(UsageError, match=r"column"):
            plan().with_columns(**bad)


def test_columns_that_do_not_fit_are_refused():
    made = plan()
    with pytest.raises(UsageError, match="column y"):
        replace(made, y=made.y[:3])
    with pytest.raises(UsageError, match=r"column row has .* int64"):
        replace(made, row=made.row.astype(np.int64))


def test_plans_travel_by_pickle_and_by_json():
    made = plan().with_columns(score=np.arange(12.0))
    assert pickle.loads(pickle.dumps(made)) == made
    told = json.loads(json.dumps(made.provenance))
    columns = {name: values.tolist() for name, values in made.columns.items()}
    again = TilePlan.from_columns(columns, told)
    assert again == made
    assert again.plan_id == made.plan_id
    assert not again.x.flags.writeable
    del columns["row"]
    with pytest.raises(UsageError, match="needs columns row"):
        TilePlan.from_columns(columns, told)
    with pytest.raises(UsageError, match="needs geometry"):
        TilePlan.from_columns(made.columns, {"slide": told["slide"], "spec": told["spec"]})


def test_equal_plans_are_equal():
    assert plan() == plan()
    assert hash(plan()) == hash(plan())
    assert plan() != plan()[1:]
    assert plan() != "plan"
    bare = plan_tiles(slide(), TileSpec(256, resolution="20x"))  # ratios are NaN
    assert bare == plan_tiles(slide(), TileSpec(256, resolution="20x"))


def test_the_id_of_a_plan_is_stable():
    assert plan().plan_id == GOLDEN


def test_the_id_of_a_plan_depends_on_all_that_decides_the_pixels():
    base = TileSpec(256, resolution="20x")
    bent = mask()
    bent[0, 0] = True  # tiles stay the same
    ids = [
        plan().plan_id,
        plan(replace(base, stride=(200, 256))).plan_id,
        plan(replace(base, edge="keep")).plan_id,
        plan(replace(base, fill=0)).plan_id,
        plan(TileSpec(256, resolution="0.5mpp")).plan_id,
        plan(min_tissue=0.4999).plan_id,
        plan()[1:].plan_id,
        plan_tiles(slide(), base, bent).plan_id,
        plan_tiles(slide(), base).plan_id,
        plan_tiles(slide(mpp=0.2501), base, mask()).plan_id,
        plan_tiles(slide(downsamples=(1, 2)), base, mask()).plan_id,
        plan_tiles(slide(downsamples=(1,)), base, mask()).plan_id,
    ]
    assert len(set(ids)) == len(ids)
    elsewhere = plan_tiles(slide(name="/other/place.svs"), base, mask())
    assert elsewhere.plan_id == plan().plan_id


def test_a_plan_asks_for_its_tiles():
    made = plan()
    opened = slide()
    assert made.requests(opened)[0] == (opened, int(made.x[0]), int(made.y[0]))
    assert made.requests()[0][0] == "blank.svs"
    other = blank_slide((5000, 3001))
    with pytest.raises(UsageError, match="not the slide of this plan"):
        made.requests(other)
    with pytest.raises(UsageError, match="knows no path"):
        replace(made, slide=replace(made.slide, path="")).requests()


def test_plans_become_tables():
    made = plan().with_columns(score=np.arange(12.0))
    pandas = pytest.importorskip("pandas")
    frame = made.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == [*COLUMNS, "score"]
    assert frame.attrs["plan_id"] == made.plan_id
    pytest.importorskip("xarray")
    data = made.to_xarray()
    assert data.sizes == {"tile": 12}
    assert set(data.coords) == {"x", "y"}
    assert data["tissue_ratio"].dtype == np.float32
    assert (
        TilePlan.from_columns(
            {name: data[name].values for name in made.columns},
            json.loads(data.attrs["provenance"]),
        )
        == made
    )


def test_slides_are_joined():
    first, second = plan(), plan_tiles(slide(name="b.svs"), TileSpec(512, resolution="10x"))
    both = concat([first, second])
    assert len(both) == len(first) + len(second)
    columns = both.columns
    assert columns["slide"].tolist() == [0] * len(first) + [1] * len(second)
    assert columns["level"][0] == 0
    assert columns["level"][-1] == 1
    assert both.requests()[-1][0] == "b.svs"
    assert both.plan_id != concat([second, first]).plan_id
    assert pickle.loads(pickle.dumps(both)) == both
    with pytest.raises(UsageError, match="other columns"):
        _ = concat([first.with_columns(score=np.arange(12)), second]).columns
    with pytest.raises(UsageError):
        CohortPlan(())
    pytest.importorskip("pandas")
    names = concat([first, second, first]).to_pandas()["slide_name"]
    assert list(names.unique()) == ["blank#0", "b", "blank#2"]
