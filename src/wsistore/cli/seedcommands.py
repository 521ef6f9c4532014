"""``wsistore segment-and-get-coords``: from slides to the coordinates of their tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wsistore.cli.boundary import Debug, ExitCode, Json, guarded
from wsistore.cli.planned_options import (
    PICTURES,
    RUN,
    TILES,
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
    target,
)
from wsistore.cli.planned_output import print_planned, progress_of, warn

if TYPE_CHECKING:
    from wsistore.tiles.filters import PixelFilter


@guarded
def segment_and_get_coords(
    path: SlidePath,
    patch_size: Annotated[
        int,
        typer.Option(help="Side of patches in px at the target resolution.", rich_help_panel=TILES),
    ],
    target_mag: Annotated[
        float | None,
        typer.Option(
            help="Magnification of patches, such as 20, 10 or 7.5; at most the slide's own.",
            rich_help_panel=TILES,
        ),
    ] = None,
    target_mpp: Annotated[
        float | None,
        typer.Option(help="The same in µm/px, in place of --target-mag.", rich_help_panel=TILES),
    ] = None,
    step_size: Annotated[
        int | None,
        typer.Option(
            help="Distance of patches in the same px. Default: --patch-size.", rich_help_panel=TILES
        ),
    ] = None,
    edge: Annotated[
        str,
        typer.Option(
            help="Patches over the right and lower edge: drop, shift (back inside), pad or keep.",
            rich_help_panel=TILES,
        ),
    ] = "drop",
    origin: Annotated[
        str,
        typer.Option(
            help="Where the lattice starts: slide (one for all) or region (anew in each piece).",
            rich_help_panel=TILES,
        ),
    ] = "slide",
    fast_mode: Annotated[
        bool,
        typer.Option(
            "--fast-mode/--no-fast-mode",
            help="Trust the mask, or read each patch and drop white and black ones.",
            rich_help_panel=TILES,
        ),
    ] = True,
    white_thresh: Annotated[
        int,
        typer.Option(
            min=0,
            max=255,
            help="White: 70 % of px or more with saturation below this, and value from 200.",
            rich_help_panel=TILES,
        ),
    ] = 15,
    black_thresh: Annotated[
        int,
        typer.Option(
            min=0,
            max=255,
            help="Black: 70 % of px or more with grey below this.",
            rich_help_panel=TILES,
        ),
    ] = 50,
    method: Method = "default",
    weights: Weights = None,
    device: Device = "cuda",
    tissue_thresh: TissueThresh = 0.01,
    seg_batch_size: SegBatchSize = 1,
    output: OutputFolder = "./output",
    layout: Annotated[
        str,
        typer.Option(
            help="Of HDF5 files: slideprocessor, atlaspatch, clam or trident.",
            rich_help_panel=RUN,
        ),
    ] = "slideprocessor",
    write_batch: Annotated[
        int, typer.Option(help="Rows of a chunk of HDF5.", rich_help_panel=RUN)
    ] = 8192,
    patch_workers: PatchWorkers = None,
    max_open_slides: MaxOpenSlides = 200,
    recursive: Recursive = False,
    mpp_csv: MppCsv = None,
    skip_existing: SkipExisting = True,
    save_images: Annotated[
        bool,
        typer.Option("--save-images", help="Write each patch as PNG.", rich_help_panel=PICTURES),
    ] = False,
    visualize_grids: Annotated[
        bool,
        typer.Option(
            "--visualize-grids", help="Draw patches on a thumbnail.", rich_help_panel=PICTURES
        ),
    ] = False,
    visualize_mask: Annotated[
        bool,
        typer.Option(
            "--visualize-mask", help="Draw the mask on a thumbnail.", rich_help_panel=PICTURES
        ),
    ] = False,
    visualize_contours: Annotated[
        bool,
        typer.Option(
            "--visualize-contours",
            help="Draw the contours on a thumbnail.",
            rich_help_panel=PICTURES,
        ),
    ] = False,
    contact_sheet: Sheet = True,
    verbose: Verbose = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Segment tissue, and write the coordinates of patches that lie on it.

    Makes OUTPUT/<mag>x_<patch>px_<overlap>px_overlap/ with patches/<stem>.h5 (x, y in level-0
    px), visualization/, images/ and contact_sheet.png. A run that was cut short goes on when it
    is started again; finished slides are skipped if they were made from the same slide with the
    same settings. A slide that fails ends nothing.

    Example: wsistore segment-and-get-coords slides/ --patch-size 256 --target-mag 20 -o out
    """
    from wsistore.engine.discovery import find_slides
    from wsistore.engine.planning import PlanningOptions, plan_slides, run_folder
    from wsistore.tiles.spec import TileSpec

    spec = TileSpec(
        patch_size,
        step_size,
        target(target_mag, target_mpp),
        edge=edge,  # type: ignore[arg-type]
        origin=origin,  # type: ignore[arg-type]
    )
    wanted = {"grids": visualize_grids, "mask": visualize_mask, "contours": visualize_contours}
    options = PlanningOptions(
        spec=spec,
        method=method,
        method_parameters=method_parameters(method, weights, device),
        tissue_thresh=tissue_thresh,
        filters=() if fast_mode else _content_filters(white_thresh, black_thresh),
        layout=layout,
        pictures=tuple(kind for kind, asked in wanted.items() if asked),
        save_images=save_images,
        contact_sheet=contact_sheet,
        seg_batch_size=seg_batch_size,
        workers=patch_workers,
        max_open_slides=max_open_slides,
        write_batch=write_batch,
        force=not skip_existing,
        mpp=pixel_sizes(mpp_csv),
    )
    found = find_slides(path, recursive=recursive)
    warn(found.warnings)
    with progress_of(len(found.paths), verbose=verbose, as_json=as_json) as tell:
        report = plan_slides(found.paths, run_folder(output, spec), options, tell)
    print_planned(report, as_json=as_json)
    return ExitCode(report.exit_code)


def _content_filters(white: int, black: int) -> tuple[PixelFilter, ...]:
    from wsistore.tiles.filters import BlackFilter, WhiteFilter

    return (BlackFilter(grey=black), WhiteFilter(saturation=white))
