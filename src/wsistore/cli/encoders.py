"""``wsistore encoders``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore.cli.boundary import Debug, ExitCode, Json, guarded, plain, print_json

if TYPE_CHECKING:
    from wsistore.encoders import EncoderEntry

_COLUMNS = ("name", "package", "licence", "gated", "here", "dim", "tile, px", "µm/px")


@guarded
def encoders(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Tell all of one.")] = None,
    usable: Annotated[
        bool, typer.Option("--usable", help="Only those whose packages are installed here.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """List the models that make features of tiles, or tell all of one.

    Weights are not looked for: `here` is about packages only.
    """
    from wsistore.encoders import encoder_registry

    registry = encoder_registry()
    if name is not None:
        record = _record(registry.get(name))
        if as_json:
            print_json(plain(record))
        else:
            _print_one(record)
        return ExitCode.DONE
    records = [_record(entry) for entry in registry.entries.values()]
    if usable:
        records = [record for record in records if record["usable"]]
    if as_json:
        print_json(plain({"encoders": records, "problems": registry.problems}))
    else:
        _print_all(records, registry.problems)
    return ExitCode.DONE


def _record(entry: EncoderEntry) -> dict[str, Any]:
    from wsistore.encoders import missing_packages

    lacking = missing_packages(entry)
    return {**entry.record(), "usable": not lacking, "missing_packages": lacking}


def _print_all(records: list[dict[str, Any]], problems: list[str]) -> None:
    from wsistore.cli.tables import console, table

    out = console()
    out.print(table(_COLUMNS, [_row(record) for record in records], left=5))
    here = sum(record["usable"] for record in records)
    out.print(f"{len(records)} encoders, the packages of {here} are installed here", markup=False)
    for problem in problems:
        out.print(f"note: {problem}", markup=False)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    package = record["packages"][0].partition(" ")[0] if record["packages"] else "-"
    return (
        record["name"],
        package,
        _cut(record["licence"]),
        {True: "yes", False: "no", None: "?"}[record["gated"]],
        "yes" if record["usable"] else "no",
        str(record["dim"]),
        "any" if record["tile_size"] is None else str(record["tile_size"]),
        "-" if record["mpp"] is None else f"{record['mpp']:g}",
    )


def _cut(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _print_one(record: dict[str, Any]) -> None:
    from wsistore.cli.tables import console

    out = console()
    told = {
        "dimension": f"{record['dim']} ({record['pooling']})",
        "poolings": ", ".join(f"{name} {dim}" for name, dim in record["dims"].items()),
        "tile": "any size" if record["tile_size"] is None else f"{record['tile_size']} px",
        "pixel size": "not stated" if record["mpp"] is None else f"{record['mpp']:g} µm/px",
        "preprocessing": _preprocessing(record["preprocessing"]),
        "architecture": f"{record['architecture']} ({record['family']})",
        "weights": " ".join(filter(None, (record["source"], record["file"]))),
        "revision": record["revision"] or "newest",
        "licence": record["licence"],
        "gated": {True: "yes: log in and accept its terms", False: "no", None: "unknown"}[
            record["gated"]
        ],
        "packages": ", ".join(record["packages"]) or "none",
        "missing here": ", ".join(record["missing_packages"]) or "none",
        "notes": record["notes"],
        "doubts": record["doubts"],
    }
    out.print(record["name"], markup=False)
    for label, text in told.items():
        if text:
            out.print(f"  {label:<14} {text}", markup=False)


def _preprocessing(record: dict[str, Any]) -> str:
    if record["size"] is None:
        return "none"
    norm = f"mean {record['mean']}, std {record['std']}"
    side = "both sides" if record["square"] else "shorter side"
    return (
        f"{side} to {record['size']} px ({record['interpolation']}, {record['backend']}), "
        f"middle {record['crop']} px, {norm}"
    )
