"""``wsistore info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore.cli.boundary import (
    Debug,
    ExitCode,
    Json,
    PixelSize,
    error_record,
    guarded,
    pixel_size,
    plain,
    print_json,
)
from wsistore.errors import UsageError

if TYPE_CHECKING:
    from wsistore.slides import Slide


@guarded
def info(
    slide: Annotated[str, typer.Argument(metavar="SLIDE|STORE", help="A slide or a store.")],
    mpp: PixelSize = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="For a file of references: a folder or URL prefix that it may lead to, beside "
            "its own folder; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Describe a slide or a store, and what `wsistore convert` would write."""
    import wsistore

    options: dict[str, Any] = {"allow": allow} if allow else {}
    with wsistore.open_slide(slide, mpp=pixel_size(mpp), **options) as opened:
        record = _record(opened)
    if as_json:
        print_json(plain(record))
    else:
        _print(record)
    return ExitCode.DONE


def _record(slide: Slide) -> dict[str, Any]:
    from wsistore.cli.records import plan_record, slide_record
    from wsistore.pyramid.options import ConversionOptions
    from wsistore.pyramid.planning import plan_conversion

    record = slide_record(slide)
    try:
        record["convert"] = plan_record(plan_conversion(slide, ConversionOptions()))
    except UsageError as error:
        record["convert"] = {"error": error_record(error)}
    return record


def _print(record: dict[str, Any]) -> None:
    from wsistore.cli.tables import LEVEL_COLUMNS, console, level_rows, table

    out = console()
    out.print(f"{record['name']}: {record['format']}, {record['width']} x {record['height']} px")
    out.print(f"pixel size     {_pixel_size(record['mpp'])}")
    out.print(f"magnification  {_magnification(record['magnification'])}")
    out.print(f"associated     {', '.join(record['associated']) or 'none'}")
    profile = record["icc_profile_bytes"]
    out.print(f"ICC profile    {'none' if profile is None else f'{profile} bytes'}")
    out.print(f"fingerprint    {record['fingerprint']}")
    out.print(table(LEVEL_COLUMNS, level_rows(record["levels"]), left=2))
    for note in record["notes"]:
        out.print(f"note: {note}", markup=False)
    _print_plan(record["convert"])


def _print_plan(plan: dict[str, Any]) -> None:
    from wsistore.cli.tables import console, print_plan

    out = console()
    if "error" in plan:
        out.print(f"convert would refuse it: {plan['error']['message']}", markup=False)
        return
    print_plan(out, "`wsistore convert` would write", plan)


def _pixel_size(mpp: dict[str, Any] | None) -> str:
    if mpp is None:
        return "unknown; state it with --mpp"
    return f"{mpp['x']:g} x {mpp['y']:g} µm/px (from {mpp['origin']})"


def _magnification(magnification: dict[str, Any] | None) -> str:
    if magnification is None:
        return "unknown"
    return f"{magnification['value']:g}x (from {magnification['origin']})"
