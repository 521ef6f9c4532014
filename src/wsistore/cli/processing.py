"""``wsistore process`` and ``wsistore embed``: from slides or plans to features."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore.cli.boundary import Debug, ExitCode, Json, guarded
from wsistore.cli.encoder_options import (
    FEATURES,
    AllowPickle,
    EncoderWeights,
    FeatureBatchSize,
    FeaturePrecision,
    FeatureWorkers,
    MemoryLimit,
    Plugins,
    Scheduler,
    TrustRemoteCode,
    UnitTiles,
    Workers,
    choose,
    feature_device,
)
from wsistore.cli.feature_output import embedding_progress, print_embedded, print_processed
from wsistore.cli.planned_options import (
    OUT,
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
    method_parameters,
    pixel_sizes,
    target,
)
from wsistore.cli.planned_output import progress_of, warn

if TYPE_CHECKING:
    from wsistore.tiles.filters import PixelFilter
    from wsistore.tiles.plan import TilePlan


@guarded
def process(
    path: SlidePath,
    patch_size: Annotated[
        int,
        typer.Option(help="Side of patches in px at the target resolution.", rich_help_panel=TILES),
    ],
    feature_extractors: Annotated[
        list[str],
        typer.Option(
            help="Encoders, separated by commas or spaces; `wsistore encoders` lists them.",
            rich_help_panel=FEATURES,
        ),
    ],
    target_mag: Annotated[
        float | None,
        typer.Option(help="Magnification of patches, such as 20.", rich_help_panel=TILES),
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
        str, typer.Option(help="At the edge: drop, shift, pad or keep.", rich_help_panel=TILES)
    ] = "drop",
    origin: Annotated[
        str,
        typer.Option(help="Of the lattice: slide, or region (each piece).", rich_help_panel=TILES),
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
        typer.Option(min=0, max=255, help="Saturation of white patches.", rich_help_panel=TILES),
    ] = 15,
    black_thresh: Annotated[
        int, typer.Option(min=0, max=255, help="Grey of black patches.", rich_help_panel=TILES)
    ] = 50,
    method: Method = "default",
    seg_weights: Annotated[
        str | None,
        typer.Option(help="Of --method sam2: a folder or a repository.", rich_help_panel=TILES),
    ] = None,
    device: Device = "cuda",
    tissue_thresh: TissueThresh = 0.01,
    seg_batch_size: SegBatchSize = 1,
    feature_device_name: Annotated[
        str | None,
        typer.Option(
            "--feature-device",
            help="Of encoders: cuda, cuda:N, mps, auto or cpu. Default: --device.",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    feature_batch_size: FeatureBatchSize = 32,
    feature_num_workers: FeatureWorkers = 4,
    feature_precision: FeaturePrecision = "float32",
    feature_plugin: Plugins = None,
    weights: EncoderWeights = "pretrained",
    allow_pickle: AllowPickle = None,
    trust_remote_code: TrustRemoteCode = False,
    output: OutputFolder = "./output",
    store: Annotated[
        str | None,
        typer.Option(
            help="Store of the features of all slides, a path or a URL. "
            "Default: features.zarr in the run's folder.",
            rich_help_panel=OUT,
        ),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT",
            help="Also write clam, trident, stamp, parquet, anndata, lmdb, images, tar, ...; "
            "repeatable. `wsistore export --help` tells all.",
            rich_help_panel=OUT,
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(help="Of HDF5 files: slideprocessor or atlaspatch.", rich_help_panel=OUT),
    ] = "slideprocessor",
    write_batch: Annotated[
        int, typer.Option(help="Rows of a chunk of HDF5.", rich_help_panel=RUN)
    ] = 8192,
    scheduler: Scheduler = "threads",
    workers: Workers = None,
    unit_tiles: UnitTiles = 1024,
    memory_limit: MemoryLimit = None,
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
        bool, typer.Option("--visualize-grids", help="Draw patches.", rich_help_panel=PICTURES)
    ] = False,
    visualize_mask: Annotated[
        bool, typer.Option("--visualize-mask", help="Draw the mask.", rich_help_panel=PICTURES)
    ] = False,
    visualize_contours: Annotated[
        bool,
        typer.Option("--visualize-contours", help="Draw contours.", rich_help_panel=PICTURES),
    ] = False,
    contact_sheet: Sheet = True,
    verbose: Verbose = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Segment, plan and embed slides: coordinates and features in one HDF5 file a slide.

    Makes OUTPUT/<mag>x_<patch>px_<overlap>px_overlap/ with patches/<stem>.h5 (coordinates and
    features/<encoder>), features.zarr (all slides, for xarray) and exports/. A run that was cut
    short goes on within slides; a further encoder costs only itself. A slide that fails ends
    nothing.

    Example: wsistore process slides/ --patch-size 256 --target-mag 20
    --feature-extractors colour-stats -o out
    """
    from wsistore.engine.discovery import find_slides
    from wsistore.engine.planning import PlanningOptions, run_folder
    from wsistore.engine.processing import ProcessOptions, process_slides
    from wsistore.tiles.spec import TileSpec

    spec = TileSpec(
        patch_size,
        step_size,
        target(target_mag, target_mpp),
        edge=edge,  # type: ignore[arg-type]
        origin=origin,  # type: ignore[arg-type]
    )
    on = feature_device(feature_device_name or device, scheduler)
    chosen = choose(
        feature_extractors,
        plugins=feature_plugin,
        weights=weights,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        scheduler=scheduler,
        device=on,
        precision=feature_precision,
        num_workers=feature_num_workers,
    )
    wanted = {"grids": visualize_grids, "mask": visualize_mask, "contours": visualize_contours}
    planning = PlanningOptions(
        spec=spec,
        method=method,
        method_parameters=method_parameters(method, seg_weights, device),
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
    embedding = _embedding(
        scheduler, workers, unit_tiles, feature_batch_size, feature_num_workers, memory_limit
    )
    embedding |= {
        "device": on,
        "precision": feature_precision,
        "encoder_options": chosen.options,
    }
    options = ProcessOptions(planning, chosen.given, store, tuple(export or ()), embedding)
    found = find_slides(path, recursive=recursive)
    warn(found.warnings)
    with (
        progress_of(len(found.paths), verbose=verbose, as_json=as_json) as tell,
        _later(verbose=verbose, as_json=as_json) as event,
    ):
        report = process_slides(
            found.paths, run_folder(output, spec), options, on_plan=tell, on_event=event
        )
    print_processed(report, as_json=as_json)
    return ExitCode(report.exit_code)


class _later:  # noqa: N801 (reads as a verb)
    """A bar that appears with the first event: two at once would write over each other."""

    def __init__(self, *, verbose: bool, as_json: bool) -> None:
        self._bar = embedding_progress(verbose=verbose, as_json=as_json)
        self._tell: Any = None

    def __enter__(self) -> Any:
        return self

    def __call__(self, event: Any) -> None:
        if self._tell is None:
            self._tell = self._bar.__enter__()
        self._tell(event)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tell is not None:
            self._bar.__exit__(kind, error, traceback)


def _content_filters(white: int, black: int) -> tuple[PixelFilter, ...]:
    from wsistore.tiles.filters import BlackFilter, WhiteFilter

    return (BlackFilter(grey=black), WhiteFilter(saturation=white))


def _embedding(
    scheduler: str,
    workers: int | None,
    unit_tiles: int,
    batch_size: int,
    num_workers: int,
    memory_limit: str | None,
) -> dict[str, Any]:
    return {
        "scheduler": scheduler,
        "workers": workers,
        "unit_tiles": unit_tiles,
        "batch_size": batch_size,
        "decode_threads": max(1, num_workers),
        "memory_limit": memory_limit,
    }


@guarded
def embed(
    plans: Annotated[
        list[str],
        typer.Argument(
            metavar="PLAN...",
            help="Plans of any format, or folders of Parquet plans; URLs of these, or of a "
            "folder of plans.",
        ),
    ],
    encoder: Annotated[
        list[str],
        typer.Option("--encoder", help="Encoders; repeatable, or separated by commas."),
    ],
    store: Annotated[
        str, typer.Option(help="Store of the features of all slides: a path or a URL.")
    ],
    slides: Annotated[
        str | None,
        typer.Option(help="Folder or URL of the slides, if they have moved; matched by stem."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cuda, cuda:N, mps, auto or cpu.", rich_help_panel=FEATURES)
    ] = "cuda",
    feature_batch_size: FeatureBatchSize = 32,
    feature_num_workers: FeatureWorkers = 4,
    feature_precision: FeaturePrecision = "float32",
    feature_plugin: Plugins = None,
    weights: EncoderWeights = "pretrained",
    allow_pickle: AllowPickle = None,
    trust_remote_code: TrustRemoteCode = False,
    scheduler: Scheduler = "threads",
    workers: Workers = None,
    unit_tiles: UnitTiles = 1024,
    memory_limit: MemoryLimit = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Throw away features of these slides that are there."),
    ] = False,
    verbose: Verbose = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Compute the features of plans, into the store of a cohort.

    Example: wsistore embed out/*/patches/*.h5 --encoder resnet18 --store cohort.zarr
    """
    from wsistore.engine.embedding import embed as run

    on = feature_device(device, scheduler)
    chosen = choose(
        encoder,
        plugins=feature_plugin,
        weights=weights,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        scheduler=scheduler,
        device=on,
        precision=feature_precision,
        num_workers=feature_num_workers,
    )
    works = _works(plans, slides)
    options = _embedding(
        scheduler, workers, unit_tiles, feature_batch_size, feature_num_workers, memory_limit
    )
    with embedding_progress(verbose=verbose, as_json=as_json) as tell:
        report = run(
            works,
            list(chosen.given),
            store,
            device=on,
            precision=feature_precision,
            encoder_options=chosen.options,
            overwrite=overwrite,
            on_event=tell,
            **options,
        )
    print_embedded(report, store, as_json=as_json)
    return ExitCode(report.exit_code)


def _works(places: list[str], folder: str | None) -> list[TilePlan | tuple[str, TilePlan]]:
    """Return plans, with where their slides are now."""
    from wsistore.engine.discovery import find_slides, stem_of
    from wsistore.export import read_plans

    plans: list[TilePlan] = [plan for place in places for plan in read_plans(place)]
    if folder is None:
        return list(plans)
    known = {stem_of(path): path for path in find_slides(folder, recursive=True).paths}
    return [(known[plan.slide.name], plan) if plan.slide.name in known else plan for plan in plans]
