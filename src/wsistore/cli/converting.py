"""``wsistore convert``."""

from __future__ import annotations

import traceback
from typing import Annotated, Any

import typer

from wsistore.cli.boundary import (
    Debug,
    ExitCode,
    PixelSize,
    guarded,
    pixel_size,
    termination_interrupts,
)

_TILES = "Encoding"
_PYRAMID = "Levels"
_META = "Metadata"
_RUN = "Run"
_OUT = "Output"


@guarded
def convert(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", help="Slides, stores or folders; paths or URLs."),
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="The store; a folder (ends with /) for many.")
    ],
    codec: Annotated[
        str,
        typer.Option(
            help="auto (copy JPEG and JPEG 2000 tiles, else zstd), copy, zstd, blosc, gzip, "
            "jpegxl (lossless), jpeg, jpeg2000.",
            rich_help_panel=_TILES,
        ),
    ] = "auto",
    quality: Annotated[
        int | None, typer.Option(help="1-100, for lossy codecs.", rich_help_panel=_TILES)
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(help="Chunk edge, px. Default: the slide's tile.", rich_help_panel=_TILES),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option(help="Shard edge, px. Default: 16 chunks.", rich_help_panel=_TILES),
    ] = None,
    format: Annotated[  # noqa: A002 (the word of the field, and of the option)
        str, typer.Option(help="NGFF version: 0.5 or 0.4.", rich_help_panel=_TILES)
    ] = "0.5",
    add_levels: Annotated[
        bool,
        typer.Option(
            "--add-levels",
            help="Copy: add missing levels of a 2x pyramid.",
            rich_help_panel=_PYRAMID,
        ),
    ] = False,
    keep_levels: Annotated[
        bool,
        typer.Option(
            "--keep-levels",
            help="Transcode: take the slide's own reduced levels.",
            rich_help_panel=_PYRAMID,
        ),
    ] = False,
    associated: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Associated image to keep; repeatable. 'none' keeps none. Default: thumbnail. "
            "Labels may show a patient's name.",
            rich_help_panel=_META,
        ),
    ] = None,
    keep_metadata: Annotated[
        str,
        typer.Option(
            metavar="allowed|all",
            help="allowed: only what says nothing of a person.",
            rich_help_panel=_META,
        ),
    ] = "allowed",
    mpp: PixelSize = None,
    magnification: Annotated[
        float | None, typer.Option(help="Objective power.", rich_help_panel=_META)
    ] = None,
    on_bad_tile: Annotated[
        str,
        typer.Option(
            metavar="fill-missing|fill|raise",
            help="Tiles without usable bytes: leave out missing ones, also damaged ones, or fail.",
            rich_help_panel=_RUN,
        ),
    ] = "fill-missing",
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into folders.", rich_help_panel=_RUN)
    ] = False,
    keep_tree: Annotated[
        bool,
        typer.Option("--keep-tree", help="Keep the folders below SRC.", rich_help_panel=_RUN),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace finished stores.", rich_help_panel=_RUN),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads or processes. Default: one a core; 6 if remote.", rich_help_panel=_RUN
        ),
    ] = None,
    scheduler: Annotated[
        str,
        typer.Option(
            help="threads, processes, or the address of a dask scheduler.", rich_help_panel=_RUN
        ),
    ] = "threads",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be written.", rich_help_panel=_RUN),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Errors only.", rich_help_panel=_OUT)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Events as JSON lines on stdout.", rich_help_panel=_OUT),
    ] = False,
    debug: Debug = False,
) -> ExitCode:
    """Convert slides to OME-Zarr stores.

    JPEG and JPEG 2000 tiles are copied, not decoded, unless --codec says otherwise. A run
    that was interrupted goes on where it stopped when it is started again.
    """
    import wsistore
    from wsistore.cli.narrating import narrator

    wanted: dict[str, Any] = {
        "codec": codec,
        "quality": quality,
        "chunk": chunk,
        "shard": shard,
        "format": format,
        "add_levels": add_levels,
        "keep_levels": keep_levels,
        "associated": _associated(associated),
        "keep_metadata": keep_metadata,
        "mpp": pixel_size(mpp),
        "magnification": magnification,
        "on_bad_tile": on_bad_tile,
        "recursive": recursive,
        "keep_tree": keep_tree,
        "overwrite": overwrite,
        "workers": workers,
        "scheduler": scheduler,
        "dry_run": dry_run,
    }
    try:
        with termination_interrupts(), narrator(quiet=quiet, as_json=as_json) as voice:
            report = wsistore.convert(sources, destination, on_event=voice.tell, **wanted)
    except KeyboardInterrupt:
        typer.echo(
            "interrupted; what is written is kept: run the same command again to go on", err=True
        )
        return ExitCode.INTERRUPTED
    if debug:
        for error in report.errors:
            traceback.print_exception(error)
    voice.sum_up(report)
    return ExitCode(report.exit_code)


def _associated(names: list[str] | None) -> tuple[str, ...]:
    if names is None:
        return ("thumbnail",)
    return tuple(name for name in names if name != "none")
