from __future__ import annotations

import io
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsistore.testing import texture
from wsistore.testing.texture import block_mean, sample

WHOLE = texture(300, 260, seed=5)


@given(x=st.integers(0, 250), y=st.integers(0, 200), w=st.integers(1, 50), h=st.integers(1, 60))
def test_a_window_is_that_part_of_the_whole(x: int, y: int, w: int, h: int) -> None:
    np.testing.assert_array_equal(texture(w, h, seed=5, x=x, y=y), WHOLE[y : y + h, x : x + w])


def test_reduced_pixels_are_means_of_blocks() -> None:
    reduced = texture(75, 65, seed=5, downsample=4)
    means = WHOLE.reshape(65, 4, 75, 4, 3).astype(np.float64).mean((1, 3))
    np.testing.assert_array_equal(reduced, np.floor(means + 0.5).astype(np.uint8))


def test_a_reduced_window_starts_at_level_0_px() -> None:
    np.testing.assert_array_equal(
        texture(20, 10, seed=5, downsample=4, x=40, y=80),
        block_mean(np.ascontiguousarray(WHOLE[80:120, 40:120]), 4),
    )


def test_rows_cut_into_slabs_agree_with_the_whole() -> None:
    wide = texture(3000, 100, seed=2)  # more than one slab of rows
    np.testing.assert_array_equal(wide[90:], texture(3000, 10, seed=2, y=90))


def test_scattered_columns_are_those_of_the_whole() -> None:
    xs, ys = np.array([3, 299, 17]), np.array([250, 0])
    np.testing.assert_array_equal(sample(xs, ys, seed=5), WHOLE[np.ix_(ys, xs)])


def test_seeds_make_textures_and_repeat_them() -> None:
    assert not np.array_equal(
        texture(64, 64, seed=1, x=300, y=200), texture(64, 64, seed=2, x=300, y=200)
    )
    # Pinned, so that a change of the texture, or a machine that rounds otherwise, is seen.
    assert zlib.crc32(texture(200, 200, x=250, y=150).tobytes()) == 2510037957


def test_it_looks_like_stained_tissue_on_glass() -> None:
    pixels = texture(1200, 900).astype(np.int64)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    glass = pixels.min(-1) > 225
    pink = (red - green > 30) & (red > 180)
    purple = (red < 130) & (blue > red + 10) & (green < red)
    assert 0.3 < glass.mean() < 0.65
    assert 0.25 < pink.mean() < 0.6
    assert 0.015 < purple.mean() < 0.12
    assert np.abs(pixels[glass].mean(0) - 244).max() < 2
    assert pixels[glass].std(0).max() < 6


def test_tissue_compresses_like_tissue() -> None:
    sizes = []
    for x, y in ((280, 120), (250, 250), (420, 300)):
        stream = io.BytesIO()
        tile = Image.fromarray(texture(256, 256, x=x, y=y))
        tile.save(stream, "jpeg", quality=75, subsampling="4:2:2")
        sizes.append(stream.tell())
    assert 11_000 < np.mean(sizes) < 15_500
    glass = io.BytesIO()
    Image.fromarray(texture(256, 256, x=700, y=300)[:, :80]).save(glass, "jpeg", quality=75)
    assert glass.tell() < 2500
