"""``wsistore tile``: the plan of one slide's tiles, as a file of any format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore.cli.boundary import (
    Debug,
    ExitCode,
    Json,
    PixelSize,
    guarded,
    pixel_size,
    plain,
    print_json,
)
from wsistore.cli.planned_options import OUT, SEG, TILES, target
from wsistore.durable.outcome import counted
from wsistore.errors import UsageError

if TYPE_CHECKING:
    from wsistore.slides import Slide
    from wsistore.tiles.plan import TilePlan
    from wsistore.tissue import TissueMask


@guarded
def tile(
    slide: Annotated[str, typer.Argument(metavar="SLIDE|STORE", help="A slide or a store.")],
    destination: Annotated[
        str | None,
        typer.Argument(
            metavar="[DST]", help="The file, or its URL. Without, the plan is only described."
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(metavar="W[,H]", help="Size of tiles in --unit.", rich_help_panel=TILES),
    ] = "256",
    stride: Annotated[
        str | None,
        typer.Option(
            metavar="X[,Y]", help="Distance of tiles. Default: --size.", rich_help_panel=TILES
        ),
    ] = None,
    unit: Annotated[
        str,
        typer.Option(help="px (at the resolution) or um.", rich_help_panel=TILES),
    ] = "px",
    target_mag: Annotated[
        float | None,
        typer.Option(
            "--target-mag", "--mag", help="Magnification of tiles.", rich_help_panel=TILES
        ),
    ] = None,
    target_mpp: Annotated[
        float | None, typer.Option(help="Or their µm/px.", rich_help_panel=TILES)
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(help="Or a level of the slide, 0 the finest.", rich_help_panel=TILES),
    ] = None,
    edge: Annotated[
        str,
        typer.Option(
            help="Tiles over the right and lower edge: drop, shift, pad or keep.",
            rich_help_panel=TILES,
        ),
    ] = "drop",
    origin: Annotated[
        str,
        typer.Option(help="Where the lattice starts: slide or region.", rich_help_panel=TILES),
    ] = "slide",
    align: Annotated[
        str,
        typer.Option(
            help="tiles: only a lattice on which each tile costs one decode; else none.",
            rich_help_panel=TILES,
        ),
    ] = "none",
    hexagonal: Annotated[
        bool,
        typer.Option("--hexagonal", help="Shift odd rows by half a tile.", rich_help_panel=TILES),
    ] = False,
    mask: Annotated[
        str,
        typer.Option(
            help="none, a method (default, otsu, ...), or the file of a mask or its URL.",
            rich_help_panel=SEG,
        ),
    ] = "default",
    min_tissue: Annotated[
        float,
        typer.Option(help="Least part of a tile that is tissue (0-1).", rich_help_panel=SEG),
    ] = 0.5,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME",
            help="Put tiles to their pixels: white, black, std, focus, entropy; repeatable. "
            "focus and entropy only score.",
            rich_help_panel=SEG,
        ),
    ] = None,
    format: Annotated[  # noqa: A002 (the word of the field, and of the option)
        str | None,
        typer.Option(
            help="csv, json, geojson (QuPath), parquet (a folder), slideprocessor, atlaspatch, "
            "clam or trident (HDF5). Default: by the extension.",
            rich_help_panel=OUT,
        ),
    ] = None,
    overlay: Annotated[
        str | None,
        typer.Option(
            help="Also draw the tiles on a thumbnail: a path or a URL.", rich_help_panel=OUT
        ),
    ] = None,
    mpp: PixelSize = None,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Plan the tiles of a slide, and write the plan as a file of any format.

    Examples
    --------
    wsistore tile slide.svs tiles.csv --size 256 --target-mag 20

    wsistore tile slide.svs tiles.geojson --target-mpp 0.5 --edge shift --filter std
    """
    import wsistore
    from wsistore.tiles.planning import plan_tiles
    from wsistore.tiles.spec import TileSpec

    spec = TileSpec(
        _lengths(size, "size"),
        None if stride is None else _lengths(stride, "stride"),
        target(target_mag, target_mpp, level),
        unit=unit,  # type: ignore[arg-type]
        edge=edge,  # type: ignore[arg-type]
        origin=origin,  # type: ignore[arg-type]
        align=align,  # type: ignore[arg-type]
        layout="hexagonal" if hexagonal else "rectangular",
    )
    with wsistore.open_slide(slide, mpp=pixel_size(mpp)) as opened:
        found = _mask(opened, mask)
        contours = None
        if origin == "region" and found is not None:
            from wsistore.tissue import find_contours

            contours = find_contours(found)
        plan = plan_tiles(
            opened,
            spec,
            found,
            min_tissue=None if found is None else min_tissue,
            contours=contours,
            filters=filters or (),
        )
        if overlay is not None:
            _draw(opened, plan, overlay)
    written = None
    if destination is not None:
        from wsistore.export import write_plan

        written = write_plan(plan, destination, format)
    record = _record(plan, found, written)
    if as_json:
        print_json(plain(record))
    else:
        _print(record)
    return ExitCode.DONE


def _lengths(text: str, name: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 2):
        raise UsageError(f"can't read --{name} {text!r}", hint="Write 256 or 256,512.")
    return values * 2 if len(values) == 1 else values


def _mask(slide: Slide, told: str) -> TissueMask | None:
    from wsistore.sources import is_url
    from wsistore.tissue import load_mask, segment_slide, segmenter_names

    if told == "none":
        return None
    if told in segmenter_names():
        return segment_slide(slide, told)
    if not is_url(told) and not Path(told).exists():
        raise UsageError(
            f"--mask {told!r} is neither a method nor a file",
            hint=f"Methods are none, {', '.join(segmenter_names())}.",
        )
    return load_mask(told)


def _draw(slide: Slide, plan: TilePlan, path: str) -> None:
    from wsistore.export import OVERLAY_SIDE, draw_grid, save_picture
    from wsistore.export.folders import made_folder
    from wsistore.sources.copies import uploaded

    mpp = None if slide.mpp is None else slide.mpp.mean
    picture = draw_grid(slide.thumbnail(OVERLAY_SIDE), plan.boxes, slide.size, mpp=mpp)
    with uploaded(path) as place:
        made_folder(place.parent)
        save_picture(place, picture)


def _record(plan: TilePlan, mask: TissueMask | None, written: Path | str | None) -> dict[str, Any]:
    """Return a plan as ``--json`` describes it; keys are only ever added."""
    geometry = plan.geometry
    return {
        "slide": plan.slide.name,
        "plan_id": plan.plan_id,
        "tiles": len(plan),
        "width": geometry.size.width,
        "height": geometry.size.height,
        "resolution": str(plan.resolution),
        "level": geometry.level,
        "downsample": geometry.downsample,
        "width_level0": geometry.size_level0.width,
        "height_level0": geometry.size_level0.height,
        "read_width": geometry.read_size.width,
        "read_height": geometry.read_size.height,
        "tissue_fraction": None if mask is None else mask.tissue_fraction,
        "rules": [
            {"name": rule.name, "seen": rule.seen, "dropped": rule.dropped} for rule in plan.rules
        ],
        "columns": list(plan.columns),
        "file": written,
    }


def _print(record: dict[str, Any]) -> None:
    from wsistore.cli.tables import console, table

    out = console()
    out.print(
        f"{record['slide']}: {counted(record['tiles'], 'tile')} of "
        f"{record['width']} x {record['height']} px "
        f"at {record['resolution']}",
        markup=False,
    )
    out.print(
        f"read from level {record['level']}, {record['read_width']} x {record['read_height']} px "
        f"each; {record['width_level0']} x {record['height_level0']} px at level 0"
    )
    rows = [
        [rule["name"], str(rule["seen"]), str(rule["dropped"]), str(rule["seen"] - rule["dropped"])]
        for rule in record["rules"]
    ]
    out.print(table(("rule", "tiles", "dropped", "left"), rows))
    if record["file"] is not None:
        out.print(f"written to {record['file']}", markup=False)
    out.print(f"plan {record['plan_id']}")
