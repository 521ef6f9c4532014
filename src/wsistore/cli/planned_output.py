"""What planning commands say: a progress bar, a line a slide, a table, JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from wsistore.cli.boundary import complain, error_record, plain, print_json
from wsistore.cli.tables import console, table
from wsistore.durable.outcome import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsistore.engine.planning import PlanningReport, SlideResult


def warn(lines: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for line in lines:
        typer.echo(f"warning: {line}", err=True)


@contextmanager
def progress_of(
    count: int, *, verbose: bool, as_json: bool
) -> Iterator[Callable[[SlideResult], None]]:
    """Give what is to be told of each slide: it moves a bar on stderr, or prints a line."""
    if verbose:
        logging.basicConfig(level=logging.DEBUG)
        yield _say_line
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    out = console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=as_json or not out.is_terminal,
    )
    with bar:
        task = bar.add_task("slides", total=count)

        def tell(result: SlideResult) -> None:
            bar.update(task, advance=1, description=result.name[:40])

        yield tell


def _say_line(result: SlideResult) -> None:
    word = {"done": "[OK]", "skipped": "[SKIP]", "failed": "[FAIL]"}[result.status]
    typer.echo(f"{word} {result.path}: {result.detail} ({result.seconds:.2f} s)", err=True)


def result_record(result: SlideResult) -> dict[str, Any]:
    """Return what became of a slide as ``--json`` has it; keys are only ever added."""
    record: dict[str, Any] = {
        "path": result.path,
        "name": result.name,
        "status": result.status,
        "width": None if result.size is None else result.size[0],
        "height": None if result.size is None else result.size[1],
        "mpp": result.mpp,
        "mpp_origin": result.mpp_origin,
        "tissue_fraction": result.tissue,
        "pieces": result.pieces,
        "tiles": result.tiles,
        "seconds": round(result.seconds, 3),
        "files": list(result.files),
        "detail": result.detail,
        "error": None if result.error is None else error_record(result.error),
    }
    made: dict[str, Any] = plain(record)
    return made


def print_planned(report: PlanningReport, *, as_json: bool) -> None:
    """Print how a run went: a table and its failures, or one JSON object."""
    if as_json:
        print_json(
            {
                "folder": str(report.folder),
                "exit_code": report.exit_code,
                "contact_sheets": [str(path) for path in report.sheets],
                "slides": [result_record(result) for result in report.results],
            }
        )
        return
    out = console()
    out.print(table(_COLUMNS, [_row(result) for result in report.results], left=2))
    typer.echo(_closing(report))
    failed = [result for result in report.results if result.error is not None]
    for result in failed:
        if result.error is not None:
            complain(result.error, about=result.path)


_NAME = 22
"""Letters of a slide's name in the table, so that it fits a terminal of 80 columns."""

_COLUMNS = ("slide", "status", "size, px", "µm/px", "tissue", "tiles")


def _row(result: SlideResult) -> list[str]:
    return [
        result.name if len(result.name) <= _NAME else f"{result.name[: _NAME - 1]}…",
        "look at it" if result.is_odd else result.status,
        "-" if result.size is None else f"{result.size[0]} x {result.size[1]}",
        "-" if result.mpp is None else f"{result.mpp:.3g}",
        "-" if result.tissue is None else f"{100 * result.tissue:.0f} %",
        "-" if result.tiles is None else str(result.tiles),
    ]


def _closing(report: PlanningReport) -> str:
    counts = {
        status: sum(result.status == status for result in report.results)
        for status in ("done", "skipped", "failed")
    }
    tiles = sum(result.tiles or 0 for result in report.results)
    told = [f"{counts['done']} done", f"{counts['skipped']} skipped", f"{counts['failed']} failed"]
    if any(result.tiles is not None for result in report.results):
        told.append(counted(tiles, "tile"))
    line = f"{', '.join(told)}; results are in {report.folder}"
    if report.sheets:
        line += f", all slides at a glance in {report.sheets[0]}"
    return line
