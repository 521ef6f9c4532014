"""Errors become one line, a hint and an exit code."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from wsistore import errors
from wsistore.cli.boundary import ExitCode, guarded, pixel_size, plain


def command_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @guarded
    def run(as_json: bool = False, debug: bool = False) -> ExitCode:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("wrong", hint="Do it so."), 2),
        (errors.ResolutionError("wrong"), 2),
        (errors.DependencyError("missing"), 1),
        (errors.SourceNotFoundError("no such file"), 1),
        (errors.CorruptSlideError("broken"), 1),
        (errors.StoreWriteError("disk full"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    result = CliRunner().invoke(command_that_raises(error))
    assert result.exit_code == code
    assert result.stdout == ""


def test_an_error_is_one_line_and_a_hint() -> None:
    error = errors.CorruptSlideError("IFD 3 lies\noutside of the file", hint="Fetch it again.")
    result = CliRunner().invoke(command_that_raises(error))
    assert result.stderr.splitlines() == [
        "error WSI302: IFD 3 lies outside of the file",
        "  hint: Fetch it again.",
    ]


def test_json_output_holds_the_error_too() -> None:
    error = errors.SourceNotFoundError("no such file: x.svs", hint="Look again.")
    result = CliRunner().invoke(command_that_raises(error), ["--as-json"])
    assert json.loads(result.stdout) == {
        "error": {"code": "WSI201", "message": "no such file: x.svs", "hint": "Look again."}
    }
    assert result.exit_code == 1


def test_debug_lets_the_error_through() -> None:
    error = errors.SlideError("broken")
    result = CliRunner().invoke(command_that_raises(error), ["--debug"])
    assert result.exception is error


def test_a_bug_is_no_error_of_ours() -> None:
    bug = ZeroDivisionError("a bug")
    result = CliRunner().invoke(command_that_raises(bug))
    assert result.exception is bug


@pytest.mark.parametrize(
    ("text", "pair"), [(None, None), ("0.5", 0.5), ("0.25,0.26", (0.25, 0.26))]
)
def test_pixel_sizes_are_read(text: str | None, pair: object) -> None:
    assert pixel_size(text) == pair


@pytest.mark.parametrize("text", ["", "big", "0,5,1", "0.5 0.5"])
def test_bad_pixel_sizes_are_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="pixel size"):
        pixel_size(text)


def test_plain_values_can_be_told_in_json() -> None:
    value = {"a": (1, 2.5), 3: {None}, "path": Path("x"), "nan": math.nan, "yes": True}
    assert plain(value) == {"a": [1, 2.5], "3": [None], "path": "x", "nan": None, "yes": True}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["convert", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    heavy = ("zarr", "dask", "numpy", "cv2", "tifffile", "imagecodecs", "torch", "obstore")
    script = (
        "import sys\n"
        f"sys.argv = ['wsistore', *{arguments!r}]\n"
        "from wsistore.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from wsistore.cli.boundary import guarded, ExitCode, print_json\n"
        "import typer\n"
        "app = typer.Typer(pretty_exceptions_enable=False)\n"
        "@app.command()\n"
        "@guarded\n"
        "def run() -> ExitCode:\n"
        "    for n in range(20000):\n"
        "        print_json({'n': n})\n"
        "    return ExitCode.DONE\n"
        "app()\n"
    )
    with (tmp_path / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=stderr
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        stderr.seek(0)
        assert stderr.read() == ""
