"""``wsistore virtualize``."""

from __future__ import annotations

import traceback
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore.cli.boundary import (
    Debug,
    ExitCode,
    Json,
    PixelSize,
    complain,
    error_record,
    guarded,
    pixel_size,
    plain,
    print_json,
)
from wsistore.errors import UsageError, WsistoreError

if TYPE_CHECKING:
    from wsistore.pyramid.views import Virtualized
    from wsistore.pyramid.views.virtualizing import ReferenceFormat


@guarded
def virtualize(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="Slides.")],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="REFS",
            help="Folder of the references, one for each slide; for one slide also a name that "
            "ends with .json (kerchunk-json) or .icechunk.",
        ),
    ],
    format: Annotated[  # noqa: A002 (the word of the field, and of the option)
        str,
        typer.Option(
            metavar="kerchunk-json|icechunk",
            help="kerchunk-json: one file, read by fsspec. icechunk: a repository, which "
            "notices slides that changed.",
        ),
    ] = "kerchunk-json",
    absolute: Annotated[
        bool,
        typer.Option(
            "--absolute", help="Name local slides by absolute paths, not from the references."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of references.")
    ] = False,
    mpp: PixelSize = None,
    as_json: Json = False,
    debug: Debug = False,
) -> ExitCode:
    """Present slides as OME-Zarr where they lie, by references to their tiles.

    Nothing is copied. References are read by `wsistore`, and with zarr-python by fsspec
    (kerchunk-json) or icechunk; they lead to their own folder alone, unless readers allow
    more.
    """
    from wsistore.pyramid.views import virtualize as write
    from wsistore.pyramid.views.virtualizing import check_format

    form = check_format(format)
    pairs = _pairs(sources, out, form)
    failed = 0
    for source, destination in pairs:
        try:
            done = write(
                source,
                destination,
                format=form,
                absolute=absolute,
                overwrite=overwrite,
                mpp=pixel_size(mpp),
            )
        except WsistoreError as error:
            if len(pairs) == 1:
                raise
            failed += 1
            _tell_failure(source, error, as_json=as_json, debug=debug)
        else:
            _tell(done, as_json=as_json)
    if not failed:
        return ExitCode.DONE
    return ExitCode.FAILED if failed == len(pairs) else ExitCode.PARTLY_FAILED


def _pairs(sources: list[str], out: str, form: ReferenceFormat) -> list[tuple[str, str]]:
    """Return each source with the place of its references."""
    from wsistore.pyramid.views.virtualizing import SUFFIXES

    suffix = SUFFIXES[form]
    if len(sources) == 1 and out.endswith(suffix):
        return [(sources[0], out)]
    pairs = [(source, f"{out.rstrip('/')}/{_stem(source)}{suffix}") for source in sources]
    names = [destination for _, destination in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"several slides would be written to {twice[0]}",
            hint="Call the command for each, with an --out of its own.",
        )
    return pairs


def _stem(source: str) -> str:
    from wsistore.sources import redact

    name = PurePosixPath(redact(source).rstrip("/")).name
    for suffix in (".ome.tiff", ".ome.tif"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return PurePosixPath(name).stem or name


def _tell(done: Virtualized, *, as_json: bool) -> None:
    if as_json:
        print_json({"event": "virtualized", **plain(asdict(done))}, indent=None)
        return
    typer.echo(f"{done.source} -> {done.destination} ({done.tiles} tiles of {done.levels} levels)")
    for note in done.notes:
        typer.echo(f"  note: {note}")


def _tell_failure(source: str, error: WsistoreError, *, as_json: bool, debug: bool) -> None:
    from wsistore.sources import redact

    if debug:
        traceback.print_exception(error)
    complain(error, about=redact(source))
    if as_json:
        record: dict[str, Any] = {"event": "failed", "source": redact(source)}
        print_json({**record, "error": error_record(error)}, indent=None)
