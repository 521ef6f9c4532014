"""What a conversion says while it runs: a progress bar, JSON lines, or errors only."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from wsistore.cli.boundary import complain, plain, print_json
from wsistore.cli.records import plan_record
from wsistore.cli.tables import console, human_bytes, print_plan
from wsistore.durable.outcome import counted
from wsistore.pyramid.events import (
    Event,
    ShardDone,
    SlideFailed,
    SlideFinished,
    SlideResumed,
    SlideStarted,
)
from wsistore.pyramid.planning import ConversionPlan

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wsistore.engine import ConvertReport

READERS = {
    "jpeg": "wsistore or imagecodecs >= 2026.5.10",
    "jpeg2000": "wsistore or imagecodecs >= 2026.5.10",
    "jpeg2000-ycbcr": "wsistore",
    "jpegxl": "wsistore or imagecodecs >= 2026.5.10",
}
"""What zarr-python needs for stored codecs that are no part of Zarr's core."""


class Voice(ABC):
    """Tells the events of a run, and at the end how it went."""

    @abstractmethod
    def tell(self, event: Event) -> None:
        """Tell one event, as it happens; called from any thread."""

    @abstractmethod
    def sum_up(self, report: ConvertReport) -> None:
        """Tell how the run went."""


@contextmanager
def narrator(*, quiet: bool, as_json: bool) -> Iterator[Voice]:
    """Give the voice that the options ask for; its progress bar ends with the block."""
    if as_json:
        yield JsonVoice()
    elif quiet:
        yield QuietVoice()
    else:
        progress = _progress()
        with progress:
            yield TerminalVoice(progress)


def event_record(event: Event) -> dict[str, Any]:
    """Return an event as a line of ``--json`` has it; ``event`` names its kind."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    record: dict[str, Any] = {"event": name}
    for attribute in dataclasses.fields(event):
        value = getattr(event, attribute.name)
        is_plan = isinstance(value, ConversionPlan)
        record[attribute.name] = plan_record(value) if is_plan else plain(value)
    return record


class JsonVoice(Voice):
    """One JSON object a line on stdout."""

    def tell(self, event: Event) -> None:
        """Print the event."""
        print_json(event_record(event), indent=None)

    def sum_up(self, report: ConvertReport) -> None:
        """Print the ``summary`` line, and the errors on stderr too."""
        for source, plan in report.plans.items():
            print_json({"event": "plan", "source": source, "plan": plan_record(plan)}, indent=None)
        outcomes = [plain(dataclasses.asdict(outcome)) for outcome in report.outcomes]
        summary = {"event": "summary", "exit_code": report.exit_code, "outcomes": outcomes}
        print_json(summary, indent=None)
        print_failures(report)


class QuietVoice(Voice):
    """Errors on stderr, nothing else."""

    def tell(self, event: Event) -> None:
        """Say nothing."""

    def sum_up(self, report: ConvertReport) -> None:
        """Print the errors."""
        print_failures(report)


@dataclass(slots=True)
class _Bar:
    """The bar of one slide: bytes moved so far, since when, to what end."""

    task: TaskID
    plan: ConversionPlan
    moved: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the slide was begun."""
        return time.monotonic() - self.begun


class TerminalVoice(Voice):
    """A progress bar a slide on stderr, a line a finished slide on stdout."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, _Bar] = {}
        self._codecs: dict[str, None] = {}

    def tell(self, event: Event) -> None:
        """Move the bar; print a line where a slide ends or goes on from before."""
        tellers: dict[type, Callable[[Any], None]] = {
            SlideStarted: self._started,
            SlideResumed: self._resumed,
            ShardDone: self._shard,
            SlideFinished: self._finished,
            SlideFailed: self._failed,
        }
        tellers[type(event)](event)

    def _started(self, event: SlideStarted) -> None:
        task = self._progress.add_task(_base(event.source), total=event.shards, rate="")
        self._bars[event.source] = _Bar(task, event.plan)

    def _resumed(self, event: SlideResumed) -> None:
        kept = f"{counted(event.kept, 'shard')} ({human_bytes(event.kept_bytes)})"
        line = f"{event.source}: resumed, kept {kept}"
        if event.redone:
            line += f", {event.redone} that were not whole are written again"
        self._say(line)
        self._progress.advance(self._bars[event.source].task, event.kept)

    def _shard(self, event: ShardDone) -> None:
        bar = self._bars[event.source]
        bar.moved += event.bytes_in
        rate = f"{human_bytes(bar.moved / max(bar.seconds, 1e-6))}/s"
        self._progress.update(bar.task, advance=1, rate=rate)

    def _finished(self, event: SlideFinished) -> None:
        bar = self._drop(event.source)
        store = _from_here(event.store)
        if event.skipped or bar is None:
            self._say(f"{event.source}: {store} is finished already, skipped")
            return
        self._codecs |= dict.fromkeys(bar.plan.codecs)
        told = [human_bytes(event.bytes_out), f"{bar.seconds:.1f} s"]
        for count, word in ((event.missing, "missing"), (event.damaged, "damaged")):
            if count:
                told.append(f"{counted(count, f'{word} tile')} left out")
        self._say(f"{event.source} -> {store}: {', '.join((*told, *event.notes))}")

    def _failed(self, event: SlideFailed) -> None:
        self._drop(event.source)

    def _drop(self, source: str) -> _Bar | None:
        bar = self._bars.pop(source, None)
        if bar is not None:
            self._progress.remove_task(bar.task)
        return bar

    def _say(self, line: str) -> None:
        if self._progress.console.is_terminal:  # print above the bar, not through it
            self._progress.console.print(line, markup=False, soft_wrap=True)
        else:
            typer.echo(line)

    def sum_up(self, report: ConvertReport) -> None:
        """Print plans of a dry run, who reads the stores, the failures and the count."""
        for source, plan in report.plans.items():
            print_plan(console(), source, plan_record(plan))
        line = readers_line(tuple(self._codecs))
        if line:
            typer.echo(line)
        print_failures(report)
        failed = sum(outcome.status == "failed" for outcome in report.outcomes)
        if failed and len(report.outcomes) > 1:
            typer.echo(f"{failed} of {counted(len(report.outcomes), 'slide')} failed", err=True)


def readers_line(codecs: tuple[str, ...]) -> str:
    """Return who reads a store of these codecs; empty where every Zarr reader does."""
    special = [codec for codec in codecs if codec in READERS]
    if not special:
        return ""
    # The one that fewest read decides.
    who = READERS["jpeg2000-ycbcr" if "jpeg2000-ycbcr" in special else special[0]]
    return (
        f"Chunks of {' and '.join(special)} are read by wsistore, and by zarr-python where {who} "
        "is installed; --codec zstd writes a store for the others (tensorstore, zarrita.js, ...)."
    )


def print_failures(report: ConvertReport) -> None:
    """Print the error and the hint of each slide that failed, on stderr."""
    failed = [outcome.unit for outcome in report.outcomes if outcome.status == "failed"]
    for unit, error in zip(failed, report.errors, strict=True):
        complain(error, about=unit)


def _from_here(path: str) -> str:
    """Return a path as seen from the working folder, where it lies below it."""
    if "://" in path:
        return path
    below = os.path.relpath(path)
    return path if below.startswith(os.pardir) else below


def _base(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _progress() -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    out = console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
