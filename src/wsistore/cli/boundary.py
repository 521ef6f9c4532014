"""Where errors end: one line and a hint on stderr, an exit code, no traceback."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any, ParamSpec

import typer

from wsistore.errors import UsageError, WsistoreError

P = ParamSpec("P")


class ExitCode(IntEnum):
    """What the exit codes of all commands mean."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY_FAILED = 3
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""


Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Output")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel="Output")
]
PixelSize = Annotated[
    str | None,
    typer.Option(metavar="X[,Y]", help="Pixel size at level 0, µm/px.", rich_help_panel="Metadata"),
]


def pixel_size(text: str | None) -> float | tuple[float, float] | None:
    """Return µm/px from ``"0.5"``, or along x and y from ``"0.5,0.51"``.

    Raises
    ------
    UsageError
        If the text is neither.
    """
    if text is None:
        return None
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise UsageError(f"can't read {text!r} as a pixel size", hint="Write 0.5 or 0.5,0.51.")
    return values[0] if len(values) == 1 else (values[0], values[1])


def complain(error: WsistoreError, *, about: str = "") -> None:
    """Print an error on stderr: ``error WSI302: message`` and, below, the hint.

    Parameters
    ----------
    error : WsistoreError
        What went wrong.
    about : str
        The slide or store that it is about, put first where the message doesn't name it.
    """
    message = " ".join(error.message.split())
    if about not in message:
        message = f"{about}: {message}"
    typer.echo(f"error {error.code}: {message}", err=True)
    if error.hint:
        typer.echo(f"  hint: {' '.join(error.hint.split())}", err=True)


def error_record(error: WsistoreError) -> dict[str, str]:
    """Return an error as JSON output has it."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def print_json(record: object, *, indent: int | None = 2) -> None:
    """Print a record as JSON on stdout; only plain values may be in it."""
    typer.echo(json.dumps(record, indent=indent, ensure_ascii=False, allow_nan=False))


def guarded(command: Callable[P, ExitCode]) -> Callable[P, None]:
    """Turn the errors of a command into one line on stderr and an exit code.

    Parameters
    ----------
    command : callable
        Returns its exit code. Its keyword ``debug`` lets errors through as tracebacks;
        its keyword ``as_json`` has them printed as ``{"error": {...}}`` on stdout too.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except WsistoreError as error:
            if kwargs.get("debug"):
                raise
            complain(error)
            if kwargs.get("as_json"):
                print_json({"error": error_record(error)}, indent=None)
            code = ExitCode.USAGE if isinstance(error, UsageError) else ExitCode.FAILED
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:
            # The reader has left (`wsistore info ... | head`): so does this program, silently.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ExitCode.FAILED
        raise typer.Exit(int(code))

    run.__annotations__ = {**command.__annotations__, "return": None}
    return run


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within the block, SIGTERM (of ``kill``, of batch systems) does what Ctrl-C does.

    So worker processes end too, and the user is told how to go on. Outside of the main
    thread, where signals can't be handled, it does nothing.
    """

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: tuples as lists, paths and the unknown as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
