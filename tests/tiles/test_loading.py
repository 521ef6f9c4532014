"""Batches of numpy arrays in the order of a sampler."""

import numpy as np
import pytest

from wsistore.errors import UsageError
from wsistore.tiles import TileIndex, TileLoader, TileSampler, read_tiles


@pytest.fixture(scope="module")
def index(aperio):
    paths = [aperio(size=(300, 200), seed=seed).path for seed in (1, 2, 3)]
    return TileIndex.from_grids(paths, 64, 0, labels=[5, 6, 7])


def sampler_of(index, **options):
    return TileSampler(index, 8, seed=4, **options)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_batches_hold_what_was_drawn(index, layout):
    loader = TileLoader(sampler_of(index), 64, 0, layout=layout)
    draws = list(sampler_of(index))
    batches = list(loader)
    assert len(batches) == len(draws) == len(loader) == 5
    for batch, draw in zip(batches, draws, strict=True):
        requests = [
            (index.slides[s], x, y)
            for s, x, y in zip(index.slide[draw.rows], draw.x, draw.y, strict=True)
        ]
        assert np.array_equal(batch["image"], read_tiles(requests, 64, 0, layout=layout))
        assert np.array_equal(batch["row"], draw.rows)
        assert np.array_equal(batch["x"], draw.x)
        assert np.array_equal(batch["y"], draw.y)
        assert np.array_equal(batch["slide"], index.slide[draw.rows])
        assert np.array_equal(batch["label"], index.label[draw.rows])
        assert (batch["epoch"], batch["number"]) == (draw.epoch, draw.number)
        assert batch["valid_fraction"].tolist() == [1.0] * len(draw)
        assert batch["faults"] == []


@pytest.mark.parametrize(
    "options", [{"prefetch": 0}, {"prefetch": 5}, {"threads": 1}, {"threads": 3}]
)
def test_threads_and_prefetch_change_nothing(index, options):
    plain = [batch["image"] for batch in TileLoader(sampler_of(index), 64, 0)]
    other = [batch["image"] for batch in TileLoader(sampler_of(index), 64, 0, **options)]
    assert all(np.array_equal(a, b) for a, b in zip(plain, other, strict=True))


def test_it_goes_on_in_mid_epoch_whatever_was_read_ahead(index):
    through = [b["row"].tolist() for b in TileLoader(sampler_of(index), 64, 0)]
    loader = TileLoader(sampler_of(index), 64, 0, prefetch=3)
    walk = iter(loader)
    next(walk)
    batch = next(walk)
    state = loader.state_dict()
    assert state == loader.state_dict(after=batch)
    walk.close()
    resumed = TileLoader(sampler_of(index), 64, 0)
    resumed.load_state_dict(state)
    assert [b["row"].tolist() for b in resumed] == through[2:]
    assert [b["epoch"] for b in resumed] == [1] * 5
    resumed.set_epoch(0)
    assert [b["row"].tolist() for b in resumed] == through


def test_workers_share_the_rest_of_an_epoch(index):
    through = [b["row"].tolist() for b in TileLoader(sampler_of(index), 64, 0)]
    state = {**sampler_of(index).state_dict(), "done": 2}
    shares = []
    for worker in range(2):
        loader = TileLoader(sampler_of(index), 64, 0)
        loader.load_state_dict(state)
        shares.append([b["row"].tolist() for b in loader.share(worker, 2)])
        assert next(loader.share(worker, 2))["epoch"] == 1
    assert [shares[0][0], shares[1][0], shares[0][1]] == through[2:]
    assert [len(share) for share in shares] == [2, 1]


def test_the_transform_sees_whole_batches(index):
    seen = []

    def transform(images):
        seen.append(images.shape)
        return images.mean(axis=(1, 2, 3))

    batches = list(TileLoader(sampler_of(index), 64, 0, transform=transform))
    assert [batch["image"].shape for batch in batches] == [shape[:1] for shape in seen]


def test_what_can_not_be_read_is_filled_and_told(aperio, tmp_path):
    good = aperio(size=(256, 256))
    index = TileIndex.from_positions([(good.path, [[0, 0]]), (tmp_path / "gone.svs", [[0, 0]])])
    loader = TileLoader(TileSampler(index, 2, seed=1), 32, 0, on_bad_tile="fill", fill=9)
    (batch,) = loader
    lost = batch["slide"] == 1
    assert batch["valid_fraction"].tolist() == (1.0 - lost).tolist()
    assert (batch["image"][lost] == 9).all()
    (fault,) = batch["faults"]
    assert fault.slide.endswith("gone.svs")
    assert batch["slide"][fault.request] == 1


def test_an_error_reaches_the_loop(index):
    def transform(images):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(TileLoader(sampler_of(index), 64, 0, transform=transform))


def test_options_are_checked_at_once(index):
    with pytest.raises(UsageError, match="layout"):
        TileLoader(sampler_of(index), 64, 0, layout="hwcn")
    with pytest.raises(UsageError, match="at least 0"):
        next(iter(TileLoader(sampler_of(index), 64, 0, prefetch=-1)))
