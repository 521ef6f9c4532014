"""The job scripts of SLURM: clean bash, and calls that the command line takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from wsistore.cli.app import app
from wsistore.cli.encoder_options import feature_device

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "slurm"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.sbatch"))
FAKE = """#!{python}
import os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write("\\0".join(sys.argv[1:]) + "\\n")
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run a script with a ``wsistore`` that notes how it is called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "wsistore").write_text(FAKE.format(python=sys.executable))
    (tools / "wsistore").chmod(0o755)
    plans = tmp_path / "patches"
    plans.mkdir()
    for name in "abcde":
        (plans / f"{name} 1.h5").touch()

    def call(script: str, *arguments: str, code: int = 0, **variables: str) -> list[list[str]]:
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "CODE": str(code),
            "SLIDES": "s3://archive/a b/",
            "OUTPUT": str(tmp_path / "out"),
            "PLANS": str(plans),
            "STORE": "s3://features/cohort.zarr",
            **variables,
        }
        command = ["bash", str(FOLDER / script), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line.split("\0") for line in lines]

    return call


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean(script: str) -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [checker, str(FOLDER / script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("plan.sbatch", {"path": "s3://archive/a b/", "patch_workers": 8, "max_open_slides": 200}),
        ("embed_array.sbatch", {"store": "s3://features/cohort.zarr", "feature_num_workers": 8}),
        ("process_jobqueue.sbatch", {"scheduler": "slurm", "workers": 4, "recursive": True}),
    ],
)
def test_the_command_line_takes_their_calls(run: Any, script: str, wanted: dict[str, Any]) -> None:
    (words,) = run(script, "--verbose", SLURM_CPUS_PER_TASK="8")
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    told = command.make_context(words[0], words[1:]).params
    assert {name: told[name] for name in wanted} == wanted
    assert told["verbose"]


def test_jobs_of_an_array_share_out_all_plans(run: Any) -> None:
    seen: list[str] = []
    for job in ("3", "4", "5"):
        variables = {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "3"}
        (words,) = run("embed_array.sbatch", SLURM_ARRAY_TASK_ID=job, **variables)
        seen += [Path(word).name for word in words if word.endswith(".h5")]
    assert sorted(seen) == [f"{name} 1.h5" for name in "abcde"]
    variables = {"SLURM_ARRAY_TASK_COUNT": "9", "SLURM_ARRAY_TASK_MIN": "0"}
    assert run("embed_array.sbatch", SLURM_ARRAY_TASK_ID="8", **variables) == []


def test_the_exit_code_is_that_of_the_run(run: Any) -> None:
    assert len(run("embed_array.sbatch", code=3)) == 1


def test_the_gpu_of_a_worker_elsewhere_is_not_looked_for_here() -> None:
    assert feature_device("cuda:1", "slurm") == "cuda:1"
    assert feature_device("cuda", "tcp://10.0.0.1:8786") == "cuda"
    assert feature_device("cpu", "slurm") == "cpu"
