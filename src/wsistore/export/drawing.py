"""What overlays are drawn with: colours, text, a scale bar, and pictures as files."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import atomic_write
from wsistore.errors import StoreWriteError, UsageError

if TYPE_CHECKING:
    from PIL import ImageDraw

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

# Of Okabe and Ito's palette, that people with any colour vision tell apart, and far from
# the pink and violet of stained tissue.
GREEN: Colour = (0, 158, 115)
BLUE: Colour = (0, 114, 178)
ORANGE: Colour = (230, 120, 0)
RED: Colour = (200, 40, 30)
INK: Colour = (40, 44, 52)
GREY: Colour = (120, 126, 136)
PAPER: Colour = (255, 255, 255)

_LONGEST = 300
"""Letters of a line that are measured."""
_BAR_SHARE = 0.2
"""Longest scale bar, as a share of the picture's width."""


def as_picture(thumbnail: Any) -> Pixels:
    """Return a copy of a picture to draw on.

    Raises
    ------
    UsageError
        If it is not (h, w, 3) uint8.
    """
    pixels = np.array(thumbnail, copy=True, order="C")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise UsageError(f"a picture is (h, w, 3) uint8, got {pixels.dtype} of {pixels.shape}")
    return pixels


def blend(
    picture: Pixels, colour: Colour, opacity: float, where: NDArray[np.bool_] | None = None
) -> None:
    """Mix a colour into a picture, in place; everywhere, or where a mask says."""
    paint = np.array(colour, np.float32) * opacity
    chosen = picture if where is None else picture[where]
    mixed = np.rint(chosen.astype(np.float32) * (1 - opacity) + paint).astype(np.uint8)
    if where is None:
        picture[:] = mixed
    else:
        picture[where] = mixed


def font(size: int) -> Any:
    """Return the typeface of all pictures (Pillow's own, so that no file is needed)."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


_SPELT = str.maketrans({"µ": "u", "μ": "u", "×": "x", "–": "-", "²": "2"})  # noqa: RUF001


def drawable(text: str) -> str:
    """Return the text without the signs that the typeface lacks."""
    return " ".join(text.translate(_SPELT).split())


def fitted(draw: ImageDraw.ImageDraw, text: str, face: Any, width: float) -> str:
    """Return the text, cut in its middle with an ellipsis where it is too wide."""
    if len(text) > _LONGEST:  # measuring costs time, and this much never fits
        text = f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
    if draw.textlength(text, font=face) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        head = (keep + 1) // 2
        cut = f"{text[:head]}…{text[len(text) - (keep - head) :]}"
        if draw.textlength(cut, font=face) <= width:
            return cut
    return "…"


def wrapped(draw: ImageDraw.ImageDraw, text: str, face: Any, width: float, lines: int) -> list[str]:
    """Return the text as lines that fit a width; the last one is cut where more is left."""
    found: list[str] = []
    line = ""
    words = text.split()
    for at, word in enumerate(words):
        longer = f"{line} {word}".strip()
        if not line or draw.textlength(longer, font=face) <= width:
            line = longer
            continue
        if len(found) == lines - 1:
            return [*found, fitted(draw, " ".join([line, *words[at:]]), face, width)]
        found.append(fitted(draw, line, face, width))
        line = word
    return [*found, fitted(draw, line, face, width)] if line else found


def draw_scale_bar(picture: Pixels, mpp: float | None) -> None:
    """Draw a bar of a round length into the lower left corner, in place.

    Parameters
    ----------
    picture : (h, w, 3) uint8
        Drawn on.
    mpp : float or None
        µm per px **of the picture**; without, or on tiny pictures, nothing is drawn.
    """
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    if mpp is None or width < 200 or height < 100:
        return
    length_mm = bar_length(width * _BAR_SHARE * mpp / 1000)
    length, label = max(2, round(length_mm * 1000 / mpp)), f"{length_mm:g} mm"
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    face = font(14)
    left, bottom = 14, height - 16
    text_width = draw.textlength(label, font=face)
    plate = (left - 8, bottom - 26, left + max(length, text_width) + 8, bottom + 10)
    overlay = picture[int(plate[1]) : int(plate[3]), int(plate[0]) : int(plate[2])].copy()
    blend(overlay, PAPER, 0.75)
    image.paste(Image.fromarray(overlay), (int(plate[0]), int(plate[1])))
    draw.rectangle((left, bottom - 1, left + length - 1, bottom + 2), fill=INK)
    draw.text((left, bottom - 23), label, font=face, fill=INK)
    picture[:] = np.asarray(image)


def bar_length(most_mm: float) -> float:
    """Return the longest of 1, 2, 5, 10, ... (and 0.5, 0.2, ...) mm not above `most_mm`."""
    power = 10.0 ** math.floor(math.log10(most_mm))
    return max(step * power for step in (1, 2, 5) if step * power <= most_mm * (1 + 1e-9))


def save_picture(path: str | os.PathLike[str], picture: Pixels) -> None:
    """Write a picture; the extension says how (``.png``, ``.jpg``, ``.webp``, ``.tif``).

    The file appears whole or not at all.

    Raises
    ------
    UsageError
        If Pillow knows no such format.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    atomic_write(path, encode_picture(picture, os.path.splitext(os.fspath(path))[1]))  # noqa: PTH122


def encode_picture(picture: Pixels, extension: str) -> bytes:
    """Return a picture as the bytes of a file; see `save_picture`."""
    import io

    from PIL import Image

    known = Image.registered_extensions().get(extension.lower())
    if known is None:
        raise UsageError(
            f"no picture format is known by the extension {extension!r}",
            hint="Use .png, .jpg, .webp or .tif.",
        )
    buffer = io.BytesIO()
    # PNG at level 2 takes a third of the time of level 6, for a tenth more bytes.
    options = {"PNG": {"compress_level": 2}, "JPEG": {"quality": 90}, "WEBP": {"quality": 90}}
    try:
        Image.fromarray(picture).save(buffer, format=known, **options.get(known, {}))
    except (OSError, KeyError, ValueError) as error:
        raise StoreWriteError(f"Pillow can't write {known}: {error}") from error
    return buffer.getvalue()
