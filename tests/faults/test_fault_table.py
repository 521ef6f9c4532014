"""The fault table: what each deed on a remote slide makes of each thing a server can do wrong.

Every cell ends in time, with the result of the local run, byte for byte, or with an error
of wsistore. `WSISTORE_FAULT_TABLE` names a file to which the table is added, as Markdown.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import wsistore
from wsistore.errors import WsistoreError
from wsistore.sources import configure_storage, open_place
from wsistore.testing import faults, write_slide
from wsistore.testing.faults import Fault, Request
from wsistore.testing.server import FaultServer
from wsistore.tiles.batch import read_tiles
from wsistore.tissue import make_segmenter, segment_slide

PATIENT = {"deadline_s": 120.0, "timeout_s": 4.0, "retries": 4}
"""For what passes, or ends when it was repeated: however slow the machine is."""
DEADLINE_S = 1.5
HASTY = {"deadline_s": DEADLINE_S, "timeout_s": 0.5, "retries": 4}
"""For what neither passes nor answers, and ends only because time is up."""
SPEC = wsistore.TileSpec(64, 64, "20x")

READING: dict[str, Fault] = {
    "500": faults.Status(500),
    "503": faults.Status(503),
    "429": faults.Status(429),
    "403": faults.Status(403),
    "404": faults.Status(404),
    "412 (replaced)": faults.Status(412),
    "cut body": faults.Cut(),
    "stalled body": faults.Stall(),
    "reset": faults.Reset(),
    "reset in the body": faults.Reset(100),
    "range ignored": faults.IgnoreRange(),
    "other range, told": faults.WrongRange(7),
    "other range, lying": faults.WrongRange(7, lying=True),
    "short body": faults.ShortBody(),
    "cut body without length": faults.NoLength(100),
    "wrong bytes": faults.Garbage(),
    "wrong total size": faults.WrongSize(5),
    "other ETag": faults.ChangedETag(),
    "no ETag": faults.NoETag(),
    "slow start": faults.SlowStart(0.05),
}
MENDED = {"500", "503", "429", "cut body", "stalled body", "reset", "reset in the body"}
"""What passes when it strikes one request: repeating gives the right result."""

WRITING: dict[str, Fault] = {
    "PUT 500": faults.Status(500),
    "PUT 503": faults.Status(503),
    "PUT 403": faults.Status(403),
    "upload reset": faults.ResetUpload(100),
    "answer lost": faults.Reset(),
    "no answer": faults.SlowStart(30),
    "slow answer": faults.SlowStart(0.05),
}

LOST = ("answer lost", "no answer")
SILENT = ("stalled body", "no answer")
"""What is noticed by the time that it takes."""

WHEN: dict[str, Callable[[Fault, int], Iterable[Fault | None]]] = {
    "first": lambda fault, _: [fault],
    "middle": lambda fault, count: [*[None] * (count // 2), fault],
    "last": lambda fault, count: [*[None] * (count - 1), fault],
    "from the middle on": lambda fault, count: itertools.chain(
        [None] * (count // 2), itertools.repeat(fault)
    ),
    "always": lambda fault, _: itertools.repeat(fault),
}
"""Which requests are struck, by how many an untroubled deed makes."""
ONCE = ("first", "middle", "last")


class Cell(NamedTuple):
    """What became of a deed."""

    deed: str
    fault: str
    when: str
    told: str  # "right...", "WRONG...", a code, or an error that is none of wsistore's
    requests: int
    seconds: float

    @property
    def ends_well(self) -> bool:
        return self.told.startswith(("right", "WSI"))


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    configure_storage(PATIENT)
    yield
    configure_storage({})


@contextmanager
def hasty() -> Iterator[None]:
    configure_storage(HASTY)
    yield
    configure_storage(PATIENT)


def goes_on(told: tuple[str, str]) -> bool:
    """Return whether a fault, struck at a time, leaves nothing but the deadline to end it."""
    fault, when = told
    return fault in SILENT and when not in ONCE


def longest_s(began: float) -> float:
    """Return what a cell may take that only the deadline ends, by what a plain deed took.

    Some reads follow each other, and others are done beside it.
    """
    return 10 * DEADLINE_S + 20 * (time.monotonic() - began)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a slide whose bytes take more than one request."""
    path = tmp_path_factory.mktemp("served") / "s.svs"
    path = write_slide(path, size=(700, 500), tile=64, levels=(1, 4), quality=90).path
    assert Path(path).stat().st_size > 2 * 65536
    return Path(path)


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def read(url: str, _: Path) -> Any:
    with wsistore.open_slide(url) as slide:
        plan = wsistore.plan_tiles(slide, SPEC)
        pixels = np.asarray(read_tiles(plan.requests(slide), plan.size, plan.resolution))
        return [pixels.tobytes(), slide.read_region((3, 5), 1, (100, 90)).tobytes()]


def plan(url: str, _: Path) -> Any:
    with wsistore.open_slide(url) as slide:
        mask = segment_slide(slide, make_segmenter("otsu"))
        found = wsistore.plan_tiles(slide, SPEC, mask)
        return [mask.pixels.tobytes(), found.x.tobytes(), found.y.tobytes()]


def convert(url: str, place: Path) -> Any:
    wsistore.convert(url, place / "s.zarr", shard=256).raise_for_failures()
    return tree(place / "s.zarr")


def embed(url: str, place: Path) -> Any:
    with wsistore.open_slide(url) as slide:
        planned = wsistore.plan_tiles(slide, SPEC)
    store = place / "f.zarr"
    report = wsistore.embed(
        planned, "colour-stats", store, unit_tiles=32, batch_size=16, on_bad_tile="raise"
    )
    report.raise_for_failures()
    found = wsistore.open_features(store, planned.slide.name)
    return [found[name].to_numpy().tobytes() for name in sorted(found.variables)]


DEEDS: dict[str, Callable[[str, Path], Any]] = {
    "read": read,
    "plan": plan,
    "convert": convert,
    "embed": embed,
}


def judge(right: Any, do: Callable[[], Any]) -> str:
    try:
        return compare(do(), right)
    except WsistoreError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 (a cell of the table, that fails the test)
        return f"{type(error).__name__}: {error}"[:100]


def compare(found: Any, right: Any) -> str:
    """Return "right" for equal results, or for a store that tells which picture it lacks."""
    if found == right:
        return "right"
    if isinstance(found, dict) and b"left out, it can't be read (WSI" in found["zarr.json"]:
        tiles = {key for key in right if key.startswith(("0/", "1/"))}
        if all(found.get(key) == right[key] for key in tiles):
            return "right, thumbnail noted as left out"
    return "WRONG"


def struck(
    deed: str, fault: str, when: str, slide: Path, place: Path, plain: tuple[Any, int]
) -> Cell:
    """Do one deed on the slide, served with a fault."""
    place.mkdir()
    right, count = plain
    with FaultServer(slide.parent) as server:
        server.play(WHEN[when](READING[fault], count))
        began = time.monotonic()
        told = judge(right, lambda: DEEDS[deed](f"{server.url}/{slide.name}", place))
        took = time.monotonic() - began
        return Cell(deed, fault, when, told, len(server.requests), took)


@pytest.mark.parametrize("deed", DEEDS)
def test_reading_faults_give_the_right_result_or_an_error(
    deed: str, slide: Path, tmp_path: Path
) -> None:
    right = DEEDS[deed](str(slide), tmp_path)
    with FaultServer(slide.parent) as server:
        (tmp_path / "plain").mkdir()
        began = time.monotonic()
        assert DEEDS[deed](f"{server.url}/{slide.name}", tmp_path / "plain") == right
        longest = longest_s(began)
        count = len(server.requests)
        assert count > 3  # so that there are some to strike after the slide is open
    # All deeds open a slide alike, so the first request is struck once for the quick ones.
    whens = [when for when in WHEN if when != "first" or deed in ("read", "plan")]
    todo = sorted(itertools.product(READING, whens), key=goes_on)

    def cell(told: tuple[str, str]) -> Cell:
        place = tmp_path / f"cell-{todo.index(told)}"
        return struck(deed, *told, slide, place, (right, count))

    with ThreadPoolExecutor(6) as pool:
        cells = list(pool.map(cell, itertools.filterfalse(goes_on, todo)))
        with hasty():
            endless = list(pool.map(cell, filter(goes_on, todo)))
    cells += endless
    show(cells)
    assert [cell for cell in cells if not cell.ends_well] == []
    assert [cell for cell in endless if cell.seconds > longest] == []
    once = [cell for cell in cells if cell.when in ONCE]
    assert [cell for cell in once if cell.fault in MENDED and cell.told != "right"] == []
    always = {cell.fault: cell.told for cell in cells if cell.when == "always"}
    assert always["403"] == "WSI202"
    assert always["404"] == "WSI201"
    assert always["503"] == "WSI205"
    assert always["slow start"] == "right"


def upload(source: str, url: str) -> None:
    wsistore.convert(source, f"{url}/s", shard=256).raise_for_failures()


def embed_there(source: str, url: str) -> None:
    with wsistore.open_slide(source) as slide:
        planned = wsistore.plan_tiles(slide, SPEC)
    report = wsistore.embed(
        planned, "colour-stats", f"{url}/s", unit_tiles=64, batch_size=16, workers=2
    )
    report.raise_for_failures()


def store_at(url: str) -> dict[str, bytes | None]:
    """Return the objects of a store, where a reader finds one."""
    wsistore.open_slide(f"{url}/s").close()
    place = open_place(f"{url}/s")
    return {info.key: place.get(info.key) for info in place.list_tree()}


def features_at(url: str) -> list[bytes]:
    found = wsistore.open_features(f"{url}/s", "s")
    return [found[name].to_numpy().tobytes() for name in sorted(found.variables)]


UPLOADS: dict[str, tuple[Callable[[str, str], None], Callable[[str], Any]]] = {
    "convert to a bucket": (upload, store_at),
    "embed to a bucket": (embed_there, features_at),
}


def is_of_cell(request: Request, number: int) -> bool:
    return f"cell-{number}x" in request.path


class Striking:
    """Chooses faults by the cell whose URL a request has; counts requests of each.

    One server stands before the storage for all cells, whose address is one for a process.
    """

    def __init__(self) -> None:
        self.scripts: dict[int, Iterator[Fault | None]] = {}
        self.counts: dict[int, int] = {}

    def __call__(self, request: Request) -> Fault | None:
        found = re.search(r"cell-(\d+)x", request.path)
        if found is None:
            return None
        number = int(found[1])
        self.counts[number] = self.counts.get(number, 0) + 1
        if request.method not in ("PUT", "POST"):
            return None
        return next(self.scripts.get(number, iter(())), None)


@pytest.mark.parametrize("deed", UPLOADS)
def test_writing_faults_give_a_whole_store_or_none(
    deed: str, slide: Path, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, look = UPLOADS[deed]
    striking = Striking()
    with FaultServer.before(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.play(striking)
        began = time.monotonic()
        do(str(slide), f"{bucket}/cell-0x")
        longest = longest_s(began)
        right = look(f"{bucket}/cell-0x")
        puts = sum(r.method == "PUT" and is_of_cell(r, 0) for r in proxy.requests)

        # The commonest and the strangest: each needs some fifty requests.
        kinds = WRITING if deed.startswith("convert") else ("PUT 503", "PUT 403", *LOST)
        whens = WHEN if deed.startswith("convert") else ("middle", "last", "always")
        todo = sorted(itertools.product(kinds, whens), key=goes_on)

        def whole(url: str) -> Any:
            do(str(slide), url)
            return look(url)

        def cell(told: tuple[str, str]) -> Cell:
            number, (fault, when) = todo.index(told) + 1, told
            url = f"{bucket}/cell-{number}x"
            striking.scripts[number] = iter(WHEN[when](WRITING[fault], puts))
            began = time.monotonic()
            outcome = judge(right, lambda: whole(url))
            took = time.monotonic() - began
            striking.scripts.pop(number)
            return Cell(deed, fault, when, outcome, striking.counts[number], took)

        def aftermath(found: Cell) -> Cell:
            """See what a cell has left, and whether the deed can be done again."""
            if not found.told.startswith("WSI"):
                return found
            url = f"{bucket}/cell-{todo.index((found.fault, found.when)) + 1}x"
            left = judge(right, lambda: look(url))
            told = "" if left.startswith(("right", "WSI")) else f" BUT LEFT {left}"
            again = judge(right, lambda: whole(url))
            told += ", resumed" if again == "right" else f" BUT AGAIN {again}"
            return found._replace(told=found.told + told)

        with ThreadPoolExecutor(6) as pool:
            cells = list(pool.map(cell, itertools.filterfalse(goes_on, todo)))
            with hasty():
                endless = list(pool.map(cell, filter(goes_on, todo)))
            cells = list(pool.map(aftermath, cells + endless))
    show(cells)
    assert [cell for cell in cells if not cell.ends_well or "BUT" in cell.told] == []
    assert [cell for cell in endless if cell.seconds > longest] == []
    always = {cell.fault: cell.told for cell in cells if cell.when == "always"}
    assert always["PUT 503"] == "WSI505, resumed"
    assert always.get("slow answer", "right") == "right"
    passing = ("PUT 500", "PUT 503")
    once = [cell for cell in cells if cell.when in ONCE and cell.fault in passing]
    assert [cell for cell in once if cell.told != "right"] == []


def show(cells: list[Cell]) -> None:
    """Add a table to the file that is named, if one is."""
    path = os.environ.get("WSISTORE_FAULT_TABLE")
    if not path:
        return
    whens = list(dict.fromkeys(cell.when for cell in cells))
    lines = [
        f"\n### {cells[0].deed}\n",
        "| fault | " + " | ".join(whens) + " |",
        "|---" * (1 + len(whens)) + "|",
    ]
    for fault in dict.fromkeys(cell.fault for cell in cells):
        row = sorted((c for c in cells if c.fault == fault), key=lambda c: whens.index(c.when))
        told = (f"{c.told}, {c.requests} req, {c.seconds:.1f} s" for c in row)
        lines.append(f"| {fault} | " + " | ".join(told) + " |")
    with Path(path).open("a") as file:
        file.write("\n".join(lines) + "\n")
