"""Running a module: the same features whatever the batch, bounded, and honest about failing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from wsistore.encoders import (  # noqa: E402
    Encoder,
    encoder_from_callable,
    encoder_from_module,
    load_encoder,
)
from wsistore.encoders.devices import pick_device, pick_precision, pick_threads  # noqa: E402
from wsistore.encoders.torch_encoder import state_sha256  # noqa: E402
from wsistore.errors import DeviceError, EncoderError, UsageError  # noqa: E402

TOLERANCE = 1e-5


class Small(nn.Module):
    """Convolution, batch norm, dropout, mean: whatever differs between training and use."""

    def __init__(self, dim=16, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 24, 5, stride=2)
        self.norm = nn.BatchNorm2d(24)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(24, dim)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x).mean(dim=(2, 3)))


def small(module=None, **options):
    told = {"name": "small", "dim": 16, "input_size": 32, **options}
    return encoder_from_module(module if module is not None else Small(), **told)


def close(found, expected):
    return np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_it_is_an_encoder_in_evaluation_mode(tiles):
    encoder = small(mpp=0.5)
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim, encoder.input_size, encoder.mpp) == ("small", 16, 32, 0.5)
    batch = tiles(4)
    found = encoder.encode(batch)
    assert (found.shape, found.dtype) == ((4, 16), np.float32)
    assert np.array_equal(found, encoder.encode(batch))


def test_features_are_those_of_the_module_by_hand(tiles):
    batch = tiles(5)
    module = Small().eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        rows = [module(((torch.tensor(t) / 255 - mean) / std)[None])[0].numpy() for t in batch]
    assert close(small().encode(batch), np.stack(rows))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 33])
def test_features_do_not_depend_on_the_batch(tiles, n):
    batch = tiles(33)
    encoder = small()
    whole = encoder.encode(batch)
    parts = np.concatenate([encoder.encode(batch[i : i + n]) for i in range(0, 33, n)])
    assert close(parts, whole)
    shuffled = np.random.default_rng(1).permutation(33)
    assert close(encoder.encode(batch[shuffled]), whole[shuffled])


def test_tensors_and_arrays_give_the_same(tiles):
    batch = tiles(3)
    encoder = small()
    assert np.array_equal(encoder.encode(batch), encoder.encode(torch.from_numpy(batch)))


def test_other_sizes_are_resized(tiles):
    assert small().encode(tiles(2, 48)).shape == (2, 16)
    assert small(resize=40).preprocessing.size == 40


class OutOfMemory(nn.Module):
    """Takes at most `limit` tiles."""

    def __init__(self, limit, kind=None):
        super().__init__()
        self.inner, self.limit, self.kind = Small(), limit, kind
        self.seen = []

    def forward(self, x):
        if len(x) > self.limit:
            if self.kind is None:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
            raise RuntimeError(self.kind)
        self.seen.append(len(x))
        return self.inner(x)


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory",
        "MPS backend out of memory",
    ],
)
def test_batches_are_halved_until_they_fit(tiles, kind, caplog):
    module = OutOfMemory(5, kind)
    encoder = small(module)
    batch = tiles(23)
    found = encoder.encode(batch)
    assert close(found, small(module.inner).encode(batch))
    assert (encoder.batch_size, module.seen) == (5, [5, 5, 5, 5, 3])
    assert "out of memory with 23 tiles; batches have at most 11 now" in encoder.notes[0]
    assert "out of memory" in caplog.text
    encoder.encode(batch)
    assert len(encoder.notes) == 2  # 23 -> 11 -> 5, and then it is known
    assert encoder.describe()["batch_size"] == 5


def test_memory_for_no_tile_at_all_is_an_error(tiles):
    with pytest.raises(DeviceError, match="too small for a tile"):
        small(OutOfMemory(0)).encode(tiles(4))


def test_what_fails_otherwise_is_no_lack_of_memory(tiles):
    with pytest.raises(EncoderError, match="mat1 and mat2"):
        small(nn.Sequential(nn.Flatten(), nn.Linear(5, 16))).encode(tiles(2))


@pytest.mark.parametrize("module", [nn.Flatten(), nn.Identity()])
def test_another_dimension_than_stated_is_an_error(tiles, module):
    with pytest.raises(EncoderError, match="expected"):
        small(module).encode(tiles(2))


def test_fingerprints_tell_what_changes_features():
    one = small().fingerprint
    assert one == small().fingerprint
    assert one.startswith("small:custom:")
    others = [
        small(Small(seed=1)),
        small(name="other"),
        small(mean=None, std=None),
        small(input_size=64),
        small(resize=40),
        small(interpolation="bicubic"),
        small(precision="bfloat16"),
        small(version="2"),
    ]
    prints = {encoder.fingerprint for encoder in others}
    assert len(prints | {one}) == len(others) + 1
    assert small(mpp=0.25).fingerprint == one  # advice changes no feature
    assert small(threads=1).fingerprint == one


def test_the_hash_of_a_state_sees_each_part_of_it():
    module = Small()
    before = state_sha256(module)
    with torch.no_grad():
        module.norm.running_mean[3] += 1e-6
    assert state_sha256(module) != before
    assert state_sha256(Small().to(torch.bfloat16)) != state_sha256(Small())
    assert state_sha256(nn.Flatten()) == state_sha256(nn.Identity())


def test_bfloat16_is_near_and_not_the_same(tiles):
    batch = tiles(4)
    exact, rough = small().encode(batch), small(precision="bfloat16").encode(batch)
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    assert np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


def test_float16_on_a_cpu_becomes_float32(tiles, caplog):
    encoder = small(precision="float16")
    assert encoder.describe()["precision"] == "float32"
    assert "became float32" in encoder.notes[0]
    assert "became float32" in caplog.text
    assert encoder.fingerprint == small().fingerprint
    assert np.array_equal(encoder.encode(tiles(2)), small().encode(tiles(2)))


def test_threads_are_bounded_where_it_runs(tiles):
    seen = []

    class Counting(Small):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return super().forward(x)

    small(Counting(), threads=1).encode(tiles(1))
    assert seen == [1]
    assert 1 <= pick_threads(None) <= torch.get_num_threads() or pick_threads(None) == 1
    with pytest.raises(UsageError, match="at least 1"):
        pick_threads(0)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cpu:"])
def test_devices_that_are_none(name):
    if name == "cpu:":
        assert pick_device("cpu").type == "cpu"
        return
    with pytest.raises(UsageError, match="there is no device"):
        pick_device(name)


def test_devices_that_are_not_here():
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="sees 0 GPUs"):
            small(device="cuda")
    with pytest.raises(DeviceError, match="cuda:99"):
        pick_device("cuda:99")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}


def test_precisions_that_are_none():
    with pytest.raises(UsageError, match="no precision 'int8'"):
        pick_precision("int8", torch.device("cpu"))


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 0},
        {"input_size": 0},
        {"resize": 16},
        {"interpolation": "nearest"},
        {"mean": None},
        {"mean": (0.5,)},
        {"std": (0.5, 0, 0.5)},
        {"name": "a/b"},
    ],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(UsageError):
        small(**options)


def test_closing_frees_and_refuses(tiles):
    encoder = small()
    encoder.close()
    with pytest.raises(UsageError, match="closed"):
        encoder.encode(tiles(1))


def test_describe_is_plain(tiles):
    import json

    told = json.loads(json.dumps(small().describe()))
    assert told["weights"]["kind"] == "custom"
    assert len(told["weights"]["sha256"]) == 64
    assert told["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert told["device"] == "cpu"


def test_a_callable_is_an_encoder(tiles):
    def mean_colour(batch):
        return batch.mean(axis=(2, 3))

    encoder = encoder_from_callable(mean_colour, name="mean", dim=3, version="1", input_size=32)
    batch = tiles(4)
    assert np.allclose(encoder.encode(batch), batch.mean(axis=(2, 3)), rtol=1e-6)
    assert isinstance(encoder, Encoder)
    other = encoder_from_callable(mean_colour, name="mean", dim=3, version="2", input_size=32)
    assert encoder.fingerprint != other.fingerprint
    assert encoder.weights.sha256 is None


@pytest.mark.parametrize("answer", [np.zeros(3), np.zeros((2, 4)), np.zeros((1, 3)), "x", None])
def test_a_callable_that_answers_otherwise(tiles, answer):
    encoder = encoder_from_callable(lambda _: answer, name="odd", dim=3, version="1")
    with pytest.raises(EncoderError):
        encoder.encode(tiles(2))


def test_load_encoder_takes_encoders_and_makers(tiles):
    encoder = small()
    assert load_encoder(encoder) is encoder
    made = load_encoder(lambda device, precision, threads: small(device=device))
    assert np.array_equal(made.encode(tiles(1)), encoder.encode(tiles(1)))
    with pytest.raises(UsageError, match="encoder_from_module"):
        load_encoder(Small())
    with pytest.raises(EncoderError, match="expected an Encoder"):
        load_encoder(lambda **_: 3)


def test_a_process_that_only_lists_never_imports_torch():
    code = (
        "import sys; from wsistore.encoders import load_encoder; import numpy as np;"
        "load_encoder('colour-stats').encode(np.zeros((1, 3, 4, 4), np.uint8));"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
