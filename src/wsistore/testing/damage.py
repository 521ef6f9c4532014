"""Damage done to slides on purpose: small, and the same for the same arguments.

All functions change the file in place; copy a shared slide first.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, get_args

from wsistore.geometry import ceil_div

How = Literal["zeros", "flip", "noise", "truncate", "missing", "beyond"]

_TYPE_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 13: 4, 16: 8, 18: 8}
_TYPE_FORMAT = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_ZEROED = 512


class Field(NamedTuple):
    """A directory entry: field type, number of values, and where the values lie."""

    type: int
    length: int
    offset: int


@dataclass(frozen=True, slots=True)
class Page:
    """A directory of a little-endian TIFF: its offset and its fields by tag number."""

    offset: int
    fields: dict[int, Field]


class Mutation(NamedTuple):
    """A byte that was changed."""

    offset: int
    before: int
    after: int


def truncate(
    path: str | os.PathLike[str], size: int | None = None, *, fraction: float | None = None
) -> int:
    """Cut a file off.

    Parameters
    ----------
    path : path-like
        File to change.
    size : int, optional
        Bytes to keep.
    fraction : float, optional
        Share of the bytes to keep, 0 to 1; one of the two must be given.

    Returns
    -------
    int
        The new size in bytes.
    """
    if (size is None) == (fraction is None):
        raise ValueError("state either size or fraction")
    whole = Path(path).stat().st_size
    keep = int(whole * (fraction or 0)) if size is None else size
    if not 0 <= keep <= whole:
        raise ValueError(f"can't keep {keep} of {whole} bytes")
    os.truncate(path, keep)
    return keep


def overwrite_tile(
    path: str | os.PathLike[str],
    level: int,
    column: int,
    row: int,
    how: How = "zeros",
    *,
    seed: int = 0,
) -> None:
    """Damage one encoded tile.

    Parameters
    ----------
    path : path-like
        A TIFF written by `write_slide`.
    level, column, row : int
        Which tile: level index (0 is the largest) and tile coordinates in its grid.
    how : str
        ``"zeros"``: 512 bytes in the middle become 0. ``"flip"``: one bit of the second
        half. ``"noise"``: every byte is replaced. ``"truncate"``: half the byte count.
        ``"missing"``: byte count and offset 0. ``"beyond"``: the offset points behind the
        end of the file.
    seed : int
        For ``"flip"`` and ``"noise"``.

    Raises
    ------
    ValueError
        If there is no such tile, or it holds no bytes.
    """
    if how not in get_args(How):
        raise ValueError(f"how must be one of {get_args(How)}, got {how!r}")
    with Path(path).open("r+b") as file:
        offsets, counts, index = _tile_fields(file, level, column, row)
        offset, count = _value(file, offsets, index), _value(file, counts, index)
        if count == 0:
            raise ValueError(f"tile ({column}, {row}) of level {level} holds no bytes")
        if how == "truncate":
            _set_value(file, counts, index, count // 2)
        elif how == "missing":
            _set_value(file, counts, index, 0)
            _set_value(file, offsets, index, 0)
        elif how == "beyond":
            _set_value(file, offsets, index, file.seek(0, 2) + 4096)
        else:
            file.seek(offset)
            block = _damaged(file.read(count), how, seed)
            file.seek(offset)
            file.write(block)


def mutate(path: str | os.PathLike[str], seed: int, *, changes: int = 4) -> list[Mutation]:
    """Change a few bytes: half of them in the directories, half anywhere.

    Parameters
    ----------
    path : path-like
        A TIFF written by `write_slide`.
    seed : int
        Which bytes, and to what.
    changes : int
        How many bytes.

    Returns
    -------
    list of Mutation
        What was changed, in order.
    """
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    with Path(path).open("r+b") as file:
        size = file.seek(0, 2)
        entries = [(page.offset, 8 + 20 * len(page.fields)) for page in pages(file)]
        done = []
        for _ in range(changes):
            start, length = chance.choice([chance.choice(entries), (0, size)])
            at = min(size - 1, start + chance.randrange(length))
            file.seek(at)
            before = file.read(1)[0]
            after = (before + chance.randrange(1, 256)) % 256
            file.seek(at)
            file.write(bytes([after]))
            done.append(Mutation(at, before, after))
    return done


def pages(file: BinaryIO) -> list[Page]:
    """Return the directories of a sound little-endian TIFF, SubIFDs behind their page."""
    file.seek(0)
    head = file.read(16)
    big = head[2:4] == b"\x2b\x00"
    link: int = struct.unpack_from("<Q" if big else "<I", head, 8 if big else 4)[0]
    found = []
    while link:
        page, link = _page(file, link, big)
        found.append(page)
        if 330 in page.fields:
            below = _values(file, page.fields[330])
            found += [_page(file, offset, big)[0] for offset in below]
    return found


def _page(file: BinaryIO, offset: int, big: bool) -> tuple[Page, int]:
    """Return the directory at `offset` and the offset of the next one."""
    number, entry, inline = ("<Q", "<HHQ", 8) if big else ("<H", "<HHI", 4)
    at = offset + struct.calcsize(number)
    (count,) = _read(file, number, offset)
    fields = {}
    for _ in range(count):
        code, kind, values = _read(file, entry, at)
        value_at = at + struct.calcsize(entry)
        if values * _TYPE_SIZE[kind] > inline:
            (where,) = _read(file, "<Q" if big else "<I", value_at)
        else:
            where = value_at
        fields[code] = Field(kind, values, where)
        at = value_at + inline
    (following,) = _read(file, "<Q" if big else "<I", at)
    return Page(offset, fields), following


def _tile_fields(file: BinaryIO, level: int, column: int, row: int) -> tuple[Field, Field, int]:
    """Return the fields of offsets and counts of a level, and the tile's index there."""
    tiled = [page.fields for page in pages(file) if 324 in page.fields]
    tiled.sort(key=lambda fields: -_value(file, fields[256]))
    if not 0 <= level < len(tiled):
        raise ValueError(f"no level {level}: the file has {len(tiled)}")
    fields = tiled[level]
    columns = ceil_div(_value(file, fields[256]), _value(file, fields[322]))
    rows = ceil_div(_value(file, fields[257]), _value(file, fields[323]))
    if not (0 <= column < columns and 0 <= row < rows):
        raise ValueError(f"no tile ({column}, {row}): level {level} has {columns}x{rows}")
    return fields[324], fields[325], row * columns + column


def _damaged(block: bytes, how: str, seed: int) -> bytes:
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    changed = bytearray(block)
    if how == "zeros":
        length = min(_ZEROED, len(block))
        start = (len(block) - length) // 2
        changed[start : start + length] = bytes(length)
    elif how == "flip":
        changed[chance.randrange(len(block) // 2, len(block))] ^= 1 << chance.randrange(8)
    else:
        changed[:] = chance.randbytes(len(block))
    return bytes(changed)


def _read(file: BinaryIO, layout: str, offset: int) -> tuple[int, ...]:
    file.seek(offset)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _values(file: BinaryIO, field: Field) -> Iterator[int]:
    return (_value(file, field, index) for index in range(field.length))


def _value(file: BinaryIO, field: Field, index: int = 0) -> int:
    at = field.offset + index * _TYPE_SIZE[field.type]
    return _read(file, f"<{_TYPE_FORMAT[field.type]}", at)[0]


def _set_value(file: BinaryIO, field: Field, index: int, value: int) -> None:
    file.seek(field.offset + index * _TYPE_SIZE[field.type])
    file.write(struct.pack(f"<{_TYPE_FORMAT[field.type]}", value))
