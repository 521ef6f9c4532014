"""From bytes to the input of a model."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from wsistore.encoders import Preprocessing  # noqa: E402
from wsistore.encoders.preparing import as_tensor, prepare, resized_shape  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rule(size, crop, **more):
    return Preprocessing(size, crop, MEAN, STD, **more)


def by_hand(tiles):
    values = tiles.astype(np.float64) / 255
    return (values - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]


def test_a_tile_of_the_input_size_is_only_normalised(tiles):
    batch = tiles(3, 24)
    found = prepare(as_tensor(batch), rule(32, 24)).numpy()
    assert found.dtype == np.float32
    assert np.allclose(found, by_hand(batch), atol=1e-6)


def test_without_a_mean_values_are_0_to_1(tiles):
    batch = tiles(2, 8)
    found = prepare(as_tensor(batch), Preprocessing(8, 8, None, None)).numpy()
    assert np.array_equal(found, batch.astype(np.float32) / np.float32(255))


def test_the_middle_is_cropped(tiles):
    batch = tiles(2, 32)
    found = prepare(as_tensor(batch), rule(32, 24)).numpy()
    assert np.allclose(found, by_hand(batch[..., 4:28, 4:28]), atol=1e-6)


@pytest.mark.parametrize("side", [48, 20])
def test_bilinear_is_pillows_within_a_grey_level(tiles, side):
    batch = tiles(1, side)
    found = prepare(as_tensor(batch), Preprocessing(32, 32, None, None)).numpy() * 255
    image = Image.fromarray(batch[0].transpose(1, 2, 0))
    pillow = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    difference = np.abs(found[0] - pillow)
    assert difference.max() <= 1.001
    assert difference.mean() < 0.2


def test_resizing_gives_bytes_even_where_bicubic_overshoots(tiles):
    batch = np.where(tiles(1, 48) > 127, 255, 0).astype(np.uint8)
    told = Preprocessing(32, 32, None, None, "bicubic")
    found = prepare(as_tensor(batch), told).numpy() * 255
    assert found.min() >= 0
    assert found.max() <= 255
    assert np.allclose(found, np.round(found), atol=1e-3)


def test_resizing_is_antialiased():
    stripes = np.zeros((1, 3, 64, 64), np.uint8)
    stripes[..., ::2] = 200
    found = prepare(as_tensor(stripes), Preprocessing(16, 16, None, None)).numpy() * 255
    assert np.abs(found[..., 2:-2] - 100).max() < 8  # without it: 0 or 200


@pytest.mark.parametrize(
    ("shape", "square", "expected"),
    [
        ((512, 512), False, (256, 256)),
        ((512, 256), False, (512, 256)),
        ((300, 600), False, (256, 512)),
        ((300, 600), True, (256, 256)),
        ((224, 224), False, (224, 224)),
        ((256, 256), False, (256, 256)),
    ],
)
def test_sizes(shape, square, expected):
    assert resized_shape(*shape, rule(256, 224, square=square)) == expected


def test_what_can_be_shared_is_and_what_can_not_is_copied(tiles):
    batch = tiles(2, 8)
    assert as_tensor(batch).data_ptr() == batch.ctypes.data
    interleaved = np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert as_tensor(interleaved).data_ptr() == interleaved.ctypes.data
    frozen = batch.copy()
    frozen.flags.writeable = False
    flipped = batch[:, :, ::-1]
    for one in (frozen, flipped):
        assert np.array_equal(as_tensor(one).numpy(), one)


def test_the_batch_is_not_changed(tiles):
    batch = tiles(2, 32)
    before = batch.copy()
    prepare(as_tensor(batch), rule(24, 20))
    prepare(as_tensor(batch), rule(32, 32))
    assert np.array_equal(batch, before)
