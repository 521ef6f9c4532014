"""Encoders that need nothing: numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wsistore.encoders import COLOUR_STATS_FEATURES, Encoder, load_encoder
from wsistore.errors import UsageError


def flat(red, green, blue, side=16):
    """Return one tile of one colour, (1, 3, side, side)."""
    return np.broadcast_to(
        np.array([red, green, blue], np.uint8)[None, :, None, None], (1, 3, side, side)
    )


def stats(tile):
    row = load_encoder("colour-stats").encode(tile)[0]
    return dict(zip(COLOUR_STATS_FEATURES, row.tolist(), strict=True))


def test_names_are_unique_and_fill_the_dimension():
    encoder = load_encoder("colour-stats")
    assert len(set(COLOUR_STATS_FEATURES)) == len(COLOUR_STATS_FEATURES) == encoder.dim == 30


def test_white_is_glass_and_nothing_else():
    found = stats(flat(255, 255, 255))
    ones = {"red_mean", "green_mean", "blue_mean", "value_mean", "glass_fraction"}
    assert {name for name, value in found.items() if value != 0} == ones
    assert all(found[name] == 1 for name in ones)


def test_black_is_black():
    found = stats(flat(0, 0, 0))
    assert found["black_fraction"] == 1
    assert found["tissue_fraction"] == found["glass_fraction"] == 0
    assert found["od_red_mean"] == pytest.approx(np.log10(256))


def test_moments_of_channels(tiles):
    tile = tiles(1)
    found = stats(tile)
    for channel, name in enumerate(["red", "green", "blue"]):
        values = tile[0, channel] / 255
        density = -np.log10((tile[0, channel] + 1.0) / 256)
        assert found[f"{name}_mean"] == pytest.approx(values.mean(), rel=1e-5)
        assert found[f"{name}_std"] == pytest.approx(values.std(), rel=1e-5)
        assert found[f"od_{name}_mean"] == pytest.approx(density.mean(), rel=1e-5)
        assert found[f"od_{name}_std"] == pytest.approx(density.std(), rel=1e-5)


@pytest.mark.parametrize(
    ("stain", "vector"),
    [("haematoxylin", (0.65, 0.70, 0.29)), ("eosin", (0.07, 0.99, 0.11))],
)
def test_a_stain_is_found_as_itself(stain, vector):
    density = 0.8 * np.array(vector) / np.linalg.norm(vector)
    colour = np.round(256 * 10**-density - 1).astype(int)
    found = stats(flat(*colour))
    assert found[f"{stain}_mean"] == pytest.approx(0.8, abs=0.02)
    others = {"haematoxylin", "eosin", "residual"} - {stain}
    assert all(abs(found[f"{other}_mean"]) < 0.03 for other in others)
    assert found["tissue_fraction"] == 1


@pytest.mark.parametrize(
    ("colour", "direction"),
    [((255, 0, 0), 0), ((0, 255, 0), 120), ((0, 0, 255), 240)],
)
def test_hue_is_a_direction(colour, direction):
    found = stats(flat(*colour))
    angle = np.deg2rad(direction)
    assert (found["hue_cos"], found["hue_sin"]) == pytest.approx(
        (np.cos(angle), np.sin(angle)), abs=1e-6
    )
    assert found["saturation_mean"] == found["value_mean"] == 1


def test_fractions_count_pixels():
    tile = np.full((1, 3, 10, 10), 255, np.uint8)
    tile[0, :, :3] = np.array([200, 100, 160])[:, None, None]  # 30 % pink
    tile[0, :, 9] = 0  # 10 % black
    found = stats(tile)
    assert found["tissue_fraction"] == pytest.approx(0.3)
    assert found["glass_fraction"] == pytest.approx(0.6)
    assert found["black_fraction"] == pytest.approx(0.1)


def test_entropy_is_in_bits():
    tile = np.zeros((1, 3, 16, 16), np.uint8)
    tile[0] = np.arange(256).reshape(16, 16)
    assert stats(tile)["grey_entropy"] == pytest.approx(8)
    tile[0] = np.arange(256).reshape(16, 16) % 4
    assert stats(tile)["grey_entropy"] == pytest.approx(2)


def test_blur_lowers_focus(tiles):
    cv2 = pytest.importorskip("cv2")
    sharp = tiles(1, 64)
    blurred = cv2.GaussianBlur(sharp[0].transpose(1, 2, 0), (0, 0), 2).transpose(2, 0, 1)[None]
    before, after = stats(sharp), stats(blurred)
    for name in ("focus_laplacian", "focus_gradient"):
        assert after[name] < before[name] - 0.5


def test_focus_is_its_formula(tiles):
    cv2 = pytest.importorskip("cv2")
    tile = tiles(1)
    grey = cv2.cvtColor(np.ascontiguousarray(tile[0].transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    padded = np.pad(grey.astype(float), 1, mode="reflect")
    laplacian = (
        padded[:-2, 1:-1]
        + padded[2:, 1:-1]
        + padded[1:-1, :-2]
        + padded[1:-1, 2:]
        - 4 * grey.astype(float)
    )
    assert stats(tile)["focus_laplacian"] == pytest.approx(np.log10(1 + laplacian.var()), rel=1e-5)


@pytest.mark.parametrize("name", ["colour-stats", "null"])
def test_any_size_and_batch_gives_the_same(name, tiles):
    encoder = load_encoder(name)
    batch = tiles(7, 24)
    whole = encoder.encode(batch)
    assert whole.shape == (7, encoder.dim)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    alone = np.concatenate([encoder.encode(batch[i : i + 1]) for i in range(7)])
    assert np.array_equal(whole, alone)
    interleaved = np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(whole, encoder.encode(interleaved))


@pytest.mark.parametrize("name", ["colour-stats", "null"])
def test_an_empty_batch_is_an_empty_answer(name):
    encoder = load_encoder(name)
    assert encoder.encode(np.empty((0, 3, 8, 8), np.uint8)).shape == (0, encoder.dim)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((2, 3, 8, 8), np.float32),
        np.zeros((2, 3, 0, 8), np.uint8),
        [[1, 2]],
    ],
)
def test_other_batches_are_refused(batch):
    with pytest.raises(UsageError, match=r"takes \(n, 3, h, w\) uint8"):
        load_encoder("colour-stats").encode(batch)


def test_a_batch_with_channels_last_gets_advice():
    with pytest.raises(UsageError, match="transpose"):
        load_encoder("null").encode(np.zeros((2, 8, 8, 3), np.uint8))


def test_they_are_encoders_and_tell_all():
    for name in ("colour-stats", "null"):
        encoder = load_encoder(name)
        assert isinstance(encoder, Encoder)
        told = encoder.describe()
        assert told["fingerprint"] == encoder.fingerprint == load_encoder(name).fingerprint
        assert encoder.fingerprint.startswith(f"{name}:builtin:")
        assert told["versions"]["wsistore"]
    assert load_encoder("null").reads_pixels is False
    assert load_encoder("colour-stats").reads_pixels is True


def test_a_closed_encoder_says_so(tiles):
    with load_encoder("null") as encoder:
        assert encoder.encode(tiles(1)).tolist() == [[0.0]]
    with pytest.raises(UsageError, match="closed"):
        encoder.encode(tiles(1))
