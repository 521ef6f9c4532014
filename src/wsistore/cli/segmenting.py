"""``wsistore segment``: masks and contours of tissue."""

from __future__ import annotations

from wsistore.cli.boundary import Debug, ExitCode, Json, guarded
from wsistore.cli.planned_options import (
    Device,
    MaxOpenSlides,
    Method,
    MppCsv,
    OutputFolder,
    PatchWorkers,
    Recursive,
    SegBatchSize,
    Sheet,
    SkipExisting,
    SlidePath,
    TissueThresh,
    Verbose,
    Weights,
    method_parameters,
    pixel_sizes,
)
from wsistore.cli.planned_output import print_planned, progress_of, warn


@guarded
def segment(
    path: SlidePath,
    method: Method = "default",
    weights: Weights = None,
    device: Device = "cuda",
    tissue_thresh: TissueThresh = 0.0,
    seg_batch_size: SegBatchSize = 1,
    output: OutputFolder = "./output",
    patch_workers: PatchWorkers = None,
    max_open_slides: MaxOpenSlides = 200,
    recursive: Recursive = False,
    mpp_csv: MppCsv = None,
    skip_existing: SkipExisting = True,
    contact_sheet: Sheet = True,
    verbose: Verbose = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Find tissue: masks, contours for QuPath, and pictures to check them by.

    Makes OUTPUT/masks/<stem>.png (with .json), OUTPUT/contours/<stem>.geojson (level-0 px),
    OUTPUT/visualization/<stem>_mask.png and <stem>_contours.png, OUTPUT/contact_sheet.png.

    Example: wsistore segment slides/ --method otsu -o tissue
    """
    from wsistore.engine.discovery import find_slides
    from wsistore.engine.planning import PlanningOptions, plan_slides

    options = PlanningOptions(
        spec=None,
        method=method,
        method_parameters=method_parameters(method, weights, device),
        tissue_thresh=tissue_thresh,
        pictures=("mask", "contours"),
        contact_sheet=contact_sheet,
        seg_batch_size=seg_batch_size,
        workers=patch_workers,
        max_open_slides=max_open_slides,
        force=not skip_existing,
        mpp=pixel_sizes(mpp_csv),
    )
    found = find_slides(path, recursive=recursive)
    warn(found.warnings)
    with progress_of(len(found.paths), verbose=verbose, as_json=as_json) as tell:
        report = plan_slides(found.paths, output, options, tell)
    print_planned(report, as_json=as_json)
    return ExitCode(report.exit_code)
