"""Data sets for torch: equal streams whatever loads them, and no torch where none is."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from wsistore.tiles import TileIndex, TileLoader, TileSampler

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, default_collate  # noqa: E402 (torch may be missing)

from wsistore.tiles import TileDataset, TileStream, collate_tiles  # noqa: E402


@pytest.fixture(scope="module")
def index(aperio):
    paths = [aperio(size=(300, 200), seed=seed).path for seed in (1, 2, 3)]
    return TileIndex.from_grids(paths, 64, 0, labels=[5, 6, 7])


def sampler_of(index, **options):
    return TileSampler(index, 8, seed=4, **options)


@pytest.fixture(scope="module")
def expected(index):
    """Two epochs of batches as numpy arrays."""
    loader = TileLoader(sampler_of(index), 64, 0, layout="nchw")
    return [batch for _ in range(2) for batch in loader]


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert (batch["epoch"], batch["number"]) == (other["epoch"], other["number"])
        for name in ("image", "x", "y", "slide", "row", "label", "valid_fraction"):
            assert isinstance(batch[name], torch.Tensor)
            assert np.array_equal(batch[name].numpy(), other[name]), name


# In this process


def test_items_are_rows_of_the_index(index, expected):
    data = TileDataset(index, 64, 0)
    assert len(data) == len(index) == 36
    first = expected[0]
    for place, row in enumerate(first["row"].tolist()):
        for item in (row, row - len(index)):
            sample = data[item]
            assert sample["image"].dtype == torch.uint8
            assert sample["image"].shape == (3, 64, 64)
            assert np.array_equal(sample["image"].numpy(), first["image"][place])
            assert sample["row"] == row
            assert sample["label"] == first["label"][place]
            assert set(sample) == {"image", "slide", "x", "y", "row", "label", "valid_fraction"}
    for item in (36, -37):
        with pytest.raises(IndexError, match="of 36 tiles"):
            data[item]


def test_samples_of_a_batch_come_from_one_reading(index):
    data = TileDataset(index, 64, 0)
    samples = data.__getitems__([3, 1, 3])
    assert len(samples) == 3
    batch = collate_tiles(samples)
    assert batch["image"] is samples.batch["image"]
    assert samples[1]["image"].data_ptr() == batch["image"][1].data_ptr()
    stacked = default_collate(list(samples))
    assert stacked.keys() == batch.keys()
    assert all(torch.equal(stacked[name], batch[name]) for name in batch)
    assert [s["row"].item() for s in samples[1:]] == [1, 3]
    assert torch.equal(collate_tiles([data[3], data[1], data[3]])["image"], batch["image"])


def test_transforms_of_samples(index):
    calls = []

    def transform(image):
        calls.append(image.shape)
        return image.float().mean(dim=(1, 2))

    data = TileDataset(index, 64, 0, transform=transform)
    batch = collate_tiles(data.__getitems__([0, 5]))
    assert calls == [(3, 64, 64)] * 2
    assert batch["image"].shape == (2, 3)
    plain = TileDataset(index, 64, 0).__getitems__([0, 5]).batch["image"]
    assert torch.equal(batch["image"], plain.float().mean(dim=(2, 3)))
    assert torch.equal(data[5]["image"], batch["image"][1])


def test_torchs_own_shuffling_and_collating_work(index):
    loader = DataLoader(TileDataset(index, 64, 0), batch_size=16, shuffle=True)
    batches = list(loader)
    assert sorted(torch.cat([b["row"] for b in batches]).tolist()) == list(range(36))
    assert batches[0]["image"].shape == (16, 3, 64, 64)


def test_the_stream_by_itself(index, expected):
    stream = TileStream(sampler_of(index), 64, 0)
    assert len(stream) == 5
    assert_same([batch for _ in range(2) for batch in stream], expected)


def test_channels_last_is_a_matter_of_memory_alone(index, expected):
    stream = TileStream(sampler_of(index), 64, 0, channels_last=True)
    batches = list(stream)
    assert_same(batches, expected[:5])
    assert batches[0]["image"].is_contiguous(memory_format=torch.channels_last)
    data = TileDataset(index, 64, 0, channels_last=True)
    assert torch.equal(data[7]["image"], TileDataset(index, 64, 0)[7]["image"])


def test_transforms_of_streams_see_whole_batches(index, expected):
    stream = TileStream(sampler_of(index), 64, 0, transform=lambda images: images.float() / 255)
    for batch, other in zip(stream, expected, strict=False):
        assert batch["image"].dtype == torch.float32
        assert np.array_equal(batch["image"].numpy(), other["image"] / np.float32(255))


def test_a_loader_without_workers(index, expected):
    stream = TileStream(sampler_of(index), 64, 0)
    assert_same([b for _ in range(2) for b in DataLoader(stream, batch_size=None)], expected)
    sampler = sampler_of(index)
    loader = DataLoader(TileDataset(index, 64, 0), batch_sampler=sampler, collate_fn=collate_tiles)
    assert len(loader) == 5
    assert_same([b for _ in range(2) for b in loader], expected)


def test_states_come_from_batches(index, expected):
    sampler = sampler_of(index)
    loaders = {
        "tiles": DataLoader(
            TileDataset(index, 64, 0), batch_sampler=sampler, collate_fn=collate_tiles
        ),
        "default": DataLoader(TileDataset(index, 64, 0), batch_sampler=sampler),
    }
    for loader in loaders.values():
        sampler.set_epoch(0)
        walk = iter(loader)
        next(walk)
        state = sampler.state_dict(after=next(walk))
        assert (state["epoch"], state["done"]) == (0, 2)
    stream = TileStream(sampler_of(index), 64, 0)
    stream.load_state_dict(json.loads(json.dumps(state)))
    stream.set_epoch(0)
    rest = [batch for _ in range(2) for batch in stream]
    assert_same(rest, expected[2:])
    assert stream.state_dict(rest[0])["done"] == 3


def test_data_sets_pickle_without_what_they_have_open(index, expected):
    data, stream = TileDataset(index, 64, 0), TileStream(sampler_of(index), 64, 0)
    assert data[0]["row"] == 0
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy[3]["image"], data[3]["image"])
    assert_same(list(pickle.loads(pickle.dumps(stream))), expected[:5])


# In other processes. Loaders run in an interpreter of their own, as in a training script:
# spawned workers need a main module to import.

CASES = {  # kind of data set, workers, start method, persistent workers
    "stream, 1 forked worker": ("stream", 1, "fork", False),
    "stream, 2 persistent forked workers": ("stream", 2, "fork", True),
    "stream, 2 spawned workers": ("stream", 2, "spawn", True),
    "rows, 2 forked workers": ("rows", 2, "fork", False),
    "rows, 2 workers forked beside threads": ("rows", 2, "fork", False),
}

TRAINING = """
import hashlib, json, sys, warnings
import torch
from torch.utils.data import DataLoader
from wsistore.tiles import TileDataset, TileIndex, TileSampler, TileStream, collate_tiles


def digest(batches):
    told = hashlib.sha256()
    for batch in batches:
        told.update(repr((batch["epoch"], batch["number"])).encode())
        for name in ("row", "x", "y", "slide", "label", "image"):
            told.update(torch.as_tensor(batch[name]).numpy().tobytes())
    return told.hexdigest()


def epochs(index, kind, workers, method, persistent):
    sampler = TileSampler(index, 8, seed=4)
    options = {
        "num_workers": workers,
        "multiprocessing_context": method,
        "persistent_workers": persistent,
    }
    if kind == "stream":
        loader = DataLoader(TileStream(sampler, 64, 0), batch_size=None, **options)
    else:
        options |= {"batch_sampler": sampler, "collate_fn": collate_tiles}
        loader = DataLoader(TileDataset(index, 64, 0), **options)
    for epoch in range(2):
        if not persistent:
            sampler.set_epoch(epoch)
        yield from loader


if __name__ == "__main__":
    cases, paths = json.loads(sys.argv[1]), sys.argv[2:]
    # Python 3.12 and later warn of forks beside threads, and torch's loader has threads of
    # its own. That forked workers read right all the same is what is tried here.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    index = TileIndex.from_grids(paths, 64, 0, labels=[5, 6, 7])
    for name, case in cases.items():
        if "beside threads" in name:
            list(TileStream(TileSampler(index, 8), 64, 0, threads=2))
        print(json.dumps([name, digest(epochs(index, *case))]), flush=True)
"""


@pytest.fixture(scope="module")
def trained(index, tmp_path_factory):
    """Digest of two epochs for each case, and the script's own function to make one."""
    script = tmp_path_factory.mktemp("training") / "train.py"
    script.write_text(TRAINING, encoding="utf-8")
    paths = [str(path) for path in index.slides]
    run = subprocess.run(
        [sys.executable, "-W", "error", script, json.dumps(CASES), *paths],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    namespace = {"__name__": "training"}
    exec(TRAINING, namespace)
    return dict(map(json.loads, run.stdout.splitlines())), namespace["digest"]


@pytest.mark.parametrize("case", CASES)
def test_workers_give_the_same_stream(trained, expected, case):
    digests, digest = trained
    assert digests[case] == digest(expected)
