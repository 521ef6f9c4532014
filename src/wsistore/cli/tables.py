"""Records as tables on a terminal; rich is loaded only here and for progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_UNITS = ("B", "kB", "MB", "GB", "TB")


def human_bytes(count: float) -> str:
    """Return a number of bytes for people: ``"12.7 kB"`` (1 kB is 1000 B)."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def console(*, stderr: bool = False) -> Console:
    """Return a console that never cuts lines where output is no terminal.

    Square brackets are printed as they are: names of slides hold them.
    """
    made = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)
    if not made.is_terminal:
        made.width = 160
    return made


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """Return a plain table; columns after the first `left` are numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        made.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def level_rows(levels: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each level of `slide_record`."""
    rows = []
    for level in levels:
        tile = level["tile_width"] and f"{level['tile_width']}x{level['tile_height']}"
        rows.append(
            [
                str(level["index"]),
                f"{level['width']} x {level['height']}",
                f"{level['downsample']:g}",
                "-" if level["mpp"] is None else f"{level['mpp']['x']:.4g}",
                tile or "-",
                " ".join(filter(None, (level["codec"], level["color"], level["checksum"]))) or "-",
                _known(level["tiles"]),
                _known(level["missing_tiles"]),
                "-" if level["bytes"] is None else human_bytes(level["bytes"]),
            ]
        )
    return rows


LEVEL_COLUMNS = (
    "level",
    "size, px",
    "down",
    "µm/px",
    "tile",
    "encoded as",
    "tiles",
    "missing",
    "bytes",
)


def plan_rows(plan: dict[str, Any]) -> list[list[str]]:
    """Return a row for each level of `plan_record`."""
    return [
        [
            str(level["index"]),
            f"{level['width']} x {level['height']}",
            f"{level['chunk_width']}x{level['chunk_height']}",
            f"{level['shard_width']}x{level['shard_height']}",
            level["codec"] + ("" if level["quality"] is None else f" q{level['quality']}"),
            "copied" if level["copied"] else "encoded",
            str(level["shards"]),
            "~" + human_bytes(level["estimated_bytes"]),
        ]
        for level in plan["levels"]
    ]


PLAN_COLUMNS = ("level", "size, px", "chunk", "shard", "codec", "tiles are", "shards", "bytes")


def print_plan(out: Console, heading: str, plan: dict[str, Any]) -> None:
    """Print what a conversion will write, as `plan_record` has it."""
    out.print(
        f"{heading}: NGFF {plan['format']}, about {human_bytes(plan['estimated_bytes'])} "
        f"in at most {plan['objects']} files"
        + (f", with {', '.join(plan['associated'])}" if plan["associated"] else ""),
        markup=False,
    )
    out.print(table(PLAN_COLUMNS, plan_rows(plan), left=2))


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)
