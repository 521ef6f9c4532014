"""Runs that segment and plan many slides: ``wsistore segment-and-get-coords``, ``segment``.

A slide that fails ends nothing; a slide that is finished is left alone, if it was made
from the same slide with the same settings. Needs no dask: what is read are thumbnails.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from wsistore.durable import Outcome, write_error
from wsistore.engine.discovery import stem_of
from wsistore.engine.outlets import PathLike, below, open_outlet
from wsistore.engine.plan_results import PlanFiles, SlideResult
from wsistore.engine.planned import run_group
from wsistore.engine.reports import RunReport
from wsistore.engine.sheets import write_sheets
from wsistore.errors import UsageError, WsistoreError
from wsistore.export import PLAN_FORMATS, plan_format
from wsistore.export.foreign import need
from wsistore.sources import redact
from wsistore.tiles.filters import PixelFilter
from wsistore.tiles.spec import TileSpec
from wsistore.tissue import make_segmenter

PICTURES = ("grids", "mask", "contours")
"""Overlays that can be asked for."""


@dataclass(frozen=True)
class PlanningOptions:
    """What a run makes of each slide.

    Parameters
    ----------
    spec : TileSpec or None
        Which tiles; None segments only.
    method : str
        Of segmentation; see `wsistore.tissue.segmenter_names`.
    method_parameters : mapping
        Of the method, by name.
    tissue_thresh : float
        Pieces of tissue below this fraction of the slide are left out, 0 to 1.
    contour_rule : str
        When a tile is of a piece; see `wsistore.tissue.contour_ids`.
    filters : tuple of PixelFilter
        Put to the pixels of each tile.
    layout : {"slideprocessor", "atlaspatch", "clam", "trident"}
        Of the HDF5 files.
    pictures : tuple of {"grids", "mask", "contours"}
        Overlays that are drawn.
    save_images : bool
        Whether each tile is written as PNG.
    contact_sheet : bool
        Whether all slides are drawn on one picture.
    seg_batch_size : int
        Thumbnails given to the segmenter at once.
    workers : int, optional
        Threads, a slide each; one for each CPU where not said.
    max_open_slides : int
        Slides that are open at once.
    write_batch : int
        Rows of a chunk of HDF5.
    force : bool
        Whether finished slides are made anew.
    mpp : mapping of str to float
        µm per level-0 px by the stem of slides, in place of what they say.

    Raises
    ------
    UsageError
        If a value makes no sense.
    """

    spec: TileSpec | None
    method: str = "default"
    method_parameters: Mapping[str, Any] = field(default_factory=dict)
    tissue_thresh: float = 0.01
    contour_rule: str = "four_pt"
    filters: tuple[PixelFilter, ...] = ()
    layout: str = "slideprocessor"
    pictures: tuple[str, ...] = ()
    save_images: bool = False
    contact_sheet: bool = True
    seg_batch_size: int = 1
    workers: int | None = None
    max_open_slides: int = 200
    write_batch: int = 8192
    force: bool = False
    mpp: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        counts = {
            "seg_batch_size": self.seg_batch_size,
            "workers": 1 if self.workers is None else self.workers,
            "max_open_slides": self.max_open_slides,
            "write_batch": self.write_batch,
        }
        for name, value in counts.items():
            if value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.tissue_thresh <= 1:
            raise UsageError(f"tissue_thresh is a fraction from 0 to 1, got {self.tissue_thresh}")
        if self.spec is not None and not plan_format(self.layout).is_h5:
            raise UsageError(
                f"layout {self.layout!r} is none of HDF5 files",
                hint=f"Use one of {', '.join(n for n, f in PLAN_FORMATS.items() if f.is_h5)}.",
            )
        strange = sorted(set(self.pictures) - set(PICTURES))
        if strange:
            raise UsageError(f"pictures are {', '.join(PICTURES)}, got {', '.join(strange)}")

    @property
    def threads(self) -> int:
        """Groups of slides worked on at once; `max_open_slides` bounds it."""
        wanted = self.workers or len(os.sched_getaffinity(0))
        return max(1, min(wanted, self.max_open_slides // self.batch))

    @property
    def batch(self) -> int:
        """Slides of a group; `max_open_slides` bounds it."""
        return min(self.seg_batch_size, self.max_open_slides)


@dataclass(frozen=True)
class PlanningReport(RunReport):
    """What became of each slide of a run.

    Parameters
    ----------
    folder : Path or str
        Where results lie: a path or a URL.
    results : tuple of SlideResult
        One for each slide, in the order they were named.
    sheets : tuple of Path or str
        Contact sheets.
    """

    folder: PathLike
    results: tuple[SlideResult, ...]
    sheets: tuple[PathLike, ...] = ()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each slide, in short."""
        return tuple(result.outcome for result in self.results)

    @property
    def errors(self) -> tuple[WsistoreError, ...]:
        """Why slides failed."""
        return tuple(result.error for result in self.results if result.error is not None)


def run_folder(output: str | os.PathLike[str], spec: TileSpec) -> PathLike:
    """Return the folder of a run, or its URL: ``<output>/<mag>x_<patch>px_<overlap>px_overlap``.

    A resolution in µm/px or a level stands in place of ``<mag>x`` as ``0.5mpp``, ``level1``.
    """
    at = str(spec.resolution).replace(":", "")
    return below(os.fspath(output), f"{at}_{spec.width:g}px_{spec.overlap[0]:g}px_overlap")


def plan_slides(
    paths: Sequence[str],
    folder: str | os.PathLike[str],
    options: PlanningOptions,
    on_result: Callable[[SlideResult], None] | None = None,
) -> PlanningReport:
    """Segment slides, plan their tiles, and write files and pictures.

    Within the folder: ``patches/<stem>.h5``, ``images/<stem>/<stem>_x<x>_y<y>.png``,
    ``visualization/<stem>.png``, ``<stem>_mask.png`` and ``<stem>_contours.png``, and
    ``contact_sheet.png``; where only tissue is wanted, ``masks/<stem>.png`` (and ``.json``)
    and ``contours/<stem>.geojson`` in place of patches.

    Parameters
    ----------
    paths : sequence of str
        Slides; see `wsistore.engine.discovery.find_slides`.
    folder : path or URL
        Made where missing. For a URL, files are built in a temporary folder and uploaded
        slide by slide.
    options : PlanningOptions
        What is wanted.
    on_result : callable, optional
        Is told what became of each slide as soon as that is known, in this thread.

    Raises
    ------
    UsageError, DependencyError
        If the segmenter can't be made, or h5py is not installed for coordinates.
    StoreWriteError
        If the folder can't be made.
    """
    with open_outlet(os.fspath(folder)) as outlet:
        return plan_into(PlanFiles(outlet), paths, options, on_result)


def plan_into(
    files: PlanFiles,
    paths: Sequence[str],
    options: PlanningOptions,
    on_result: Callable[[SlideResult], None] | None = None,
) -> PlanningReport:
    """Segment and plan slides into the files of a run; see `plan_slides`."""
    if options.spec is not None:
        need("h5py", "writing coordinates")  # now, and not once for each slide
    segmenter = make_segmenter(options.method, **options.method_parameters)
    try:
        files.make(options)
    except OSError as error:
        raise write_error(error, files.folder) from error
    turn = threading.Lock()  # one batch at a time goes through a model
    groups = [paths[at : at + options.batch] for at in range(0, len(paths), options.batch)]
    found: dict[str, SlideResult] = {}
    with ThreadPoolExecutor(options.threads, thread_name_prefix="wsistore-plan") as pool:
        waiting: list[Future[list[SlideResult]]] = [
            pool.submit(run_group, group, files, options, segmenter, turn) for group in groups
        ]
        try:
            for done in as_completed(waiting):
                for result in done.result():
                    found[result.path] = result
                    if on_result is not None:
                        on_result(result)
        except BaseException:
            # An interrupt ends after the slides at hand, which stay whole.
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    results = tuple(found[redact(path)] for path in paths)
    sheets: tuple[PathLike, ...] = ()
    if options.contact_sheet:
        sheets = write_sheets(files, results, _title(options))
    return PlanningReport(files.place, results, sheets)


def _title(options: PlanningOptions) -> str:
    spec = options.spec
    if spec is None:
        return f"Tissue by {options.method}"
    overlap = f", overlap {spec.overlap[0]:g}" if spec.overlap[0] else ""
    return f"{spec.resolution}, {spec.width:g} px{overlap}"


__all__ = [
    "PICTURES",
    "PlanningOptions",
    "PlanningReport",
    "SlideResult",
    "plan_slides",
    "run_folder",
    "stem_of",
]
