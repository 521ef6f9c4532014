"""``wsistore export`` and ``wsistore features ls|verify|export|import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wsistore.cli.boundary import Debug, ExitCode, Json, complain, error_record, guarded, print_json
from wsistore.cli.encoder_options import (
    AllowPickle,
    EncoderWeights,
    FeaturePrecision,
    Plugins,
    TrustRemoteCode,
    choose,
    feature_device,
)
from wsistore.cli.feature_output import print_exported
from wsistore.durable.outcome import counted
from wsistore.errors import UsageError, WsistoreError

features = typer.Typer(
    help="List, verify, export and import features.", no_args_is_help=True, add_completion=False
)

Store = Annotated[str, typer.Argument(metavar="STORE", help="A feature store: a path or a URL.")]
Slides = Annotated[
    list[str] | None, typer.Option("--slide", help="Name of a slide; repeatable. Default: all.")
]
Encoders = Annotated[
    list[str] | None, typer.Option("--encoder", help="Repeatable. Default: all that are finished.")
]

_PATCHES = "Formats of pixels"


@guarded
def export(
    store: Store,
    format: Annotated[  # noqa: A002 (the word of the field, and of the option)
        str,
        typer.Option(
            help="Features: slideprocessor, atlaspatch, clam, trident, stamp, parquet, anndata, "
            "spatialdata. Pixels of the tiles: lmdb, images, tar, hdf5-tiles."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder: a path or a URL.")],
    slide: Slides = None,
    encoder: Encoders = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="jpeg, png, webp, array, or copy (the slide's own JPEG tiles). "
            "Default: png for images, jpeg for others.",
            rich_help_panel=_PATCHES,
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Of JPEG and WebP.", rich_help_panel=_PATCHES)
    ] = None,
    keys: Annotated[
        str,
        typer.Option(
            help="Of LMDB: index, or grid for <stem>-<column>-<row>.", rich_help_panel=_PATCHES
        ),
    ] = "index",
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Folder of annotations (XML, GeoJSON), matched by stem: labels of tiles.",
            rich_help_panel=_PATCHES,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="Number of a class, such as tumour=1; repeatable. Normal is outside of all.",
            rich_help_panel=_PATCHES,
        ),
    ] = None,
    label_rule: Annotated[
        str,
        typer.Option(help="center, top-left or coverage (half).", rich_help_panel=_PATCHES),
    ] = "center",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace slides of an LMDB.", rich_help_panel=_PATCHES),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Write features, or the tiles that they are of, as files of other tools.

    Example: wsistore export cohort.zarr --format clam -o clam/
    """
    from wsistore.engine.exporting import PatchOptions, export_store

    options = PatchOptions(
        codec=codec,
        quality=quality,
        keys=keys,
        annotations=annotations,
        label_map=label_numbers(label),
        label_rule=label_rule,
        overwrite=overwrite,
    )
    report = export_store(store, format, output, slides=slide, encoders=encoder, patches=options)
    print_exported(report, output, as_json=as_json)
    return ExitCode(report.exit_code)


def label_numbers(texts: list[str] | None) -> dict[str, int] | None:
    """Return the numbers of classes from texts such as ``"tumour=1"``.

    Raises
    ------
    UsageError
        If one is none, or a class has two.
    """
    found: dict[str, int] = {}
    for text in texts or ():
        name, _, number = text.rpartition("=")
        if not name or not number.lstrip("-").isdigit() or name in found:
            raise UsageError(f"can't read {text!r} as the number of a class", hint="tumour=1")
        found[name] = int(number)
    return found or None


@features.command("ls")
@guarded
def list_stored(
    store: Store,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """List the slides of a store with their tiles and encoders."""
    from wsistore.features import list_features

    infos = list_features(store)
    if as_json:
        print_json({"store": store, "slides": [_info_record(info) for info in infos]})
        return ExitCode.DONE
    from wsistore.cli.tables import console, table

    rows = [
        [
            info.name,
            ", ".join(_state(state) for state in info.encoders.values()) or "-",
            str(info.tiles),
            str(max((s.failed_tiles for s in info.encoders.values()), default=0)),
        ]
        for info in infos
    ]
    console().print(table(("slide", "encoders", "tiles", "failed"), rows, left=2))
    done = sum(info.done for info in infos)
    tiles = counted(sum(info.tiles for info in infos), "tile")
    typer.echo(f"{counted(len(infos), 'slide')}, {done} complete, {tiles}")
    return ExitCode.DONE


def _state(state: Any) -> str:
    return f"{state.name} ({state.dim})" + ("" if state.done else " unfinished")


def _info_record(info: Any) -> dict[str, Any]:
    return {
        "name": info.name,
        "tiles": info.tiles,
        "path": info.path,
        "fingerprint": info.fingerprint,
        "plan_id": info.plan_id,
        "done": info.done,
        "encoders": {name: state.record() for name, state in info.encoders.items()},
    }


@features.command("verify")
@guarded
def verify_stored(
    store: Store,
    tiles: Annotated[int, typer.Option("--tiles", "-k", help="For each slide and encoder.")] = 32,
    slide: Slides = None,
    encoder: Encoders = None,
    seed: Annotated[int, typer.Option(help="Of the choice of tiles.")] = 0,
    device: Annotated[str, typer.Option(help="cuda, cuda:N, mps, auto or cpu.")] = "cpu",
    feature_precision: FeaturePrecision = "float32",
    feature_plugin: Plugins = None,
    weights: EncoderWeights = "pretrained",
    allow_pickle: AllowPickle = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Compute random tiles again from the slides, and compare them with what is stored."""
    from wsistore.encoders import load_encoder
    from wsistore.features import list_features, verify_features

    names = encoder or sorted({name for info in list_features(store) for name in info.finished})
    on = feature_device(device)
    chosen = choose(
        names,
        plugins=feature_plugin,
        weights=weights,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        device=on,
        precision=feature_precision,
    )
    loaded = [
        load_encoder(name, device=on, precision=feature_precision, **chosen.options)
        for name in chosen.given
    ]
    report = verify_features(store, tiles, encoders=loaded, slides=slide, seed=seed)
    bad = [
        {"slide": c.slide, "encoder": c.encoder, "row": c.tile, "difference": c.difference}
        for c in report.failed
    ]
    if as_json:
        print_json({"store": store, "ok": report.ok, "tiles": len(report.checks), "failed": bad})
    else:
        for found in bad[:20]:
            typer.echo(
                f"{found['slide']}, tile {found['row']} by {found['encoder']}: differs by "
                f"{found['difference']:.3g}",
                err=True,
            )
        typer.echo(f"{counted(len(report.checks), 'tile')} computed again, {len(bad)} differ")
    return ExitCode.DONE if report.ok else ExitCode.FAILED


features.command("export")(export)


@features.command("import")
@guarded
def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="HDF5, Parquet or AnnData files of features."),
    ],
    store: Annotated[
        str, typer.Option(help="Store of the features of all slides: a path or a URL.")
    ],
    slides: Annotated[
        str | None,
        typer.Option(help="Folder or URL of the slides, matched by stem: their levels count."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away features of these slides.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Put features of files, also of other tools, into a store."""
    from wsistore.durable import exit_code
    from wsistore.durable.outcome import Outcome
    from wsistore.export.feature_formats import read_features
    from wsistore.export.store_features import import_features

    known = _known_slides(slides)
    outcomes, records = [], []
    for path in files:
        record: dict[str, Any] = {"file": str(path), "error": None}
        try:
            opened = known(path.stem)
            place = import_features(read_features(path, opened), store, overwrite=overwrite)
            record["place"] = str(place)
            outcomes.append(Outcome(str(path), "done"))
        except WsistoreError as error:
            complain(error, about=str(path))
            record["error"] = error_record(error)
            outcomes.append(Outcome(str(path), "failed", error.code, str(error)))
        records.append(record)
    code = exit_code(outcomes)
    if as_json:
        print_json({"store": store, "exit_code": code, "files": records})
    else:
        done = sum(outcome.status == "done" for outcome in outcomes)
        typer.echo(f"{done} of {counted(len(files), 'file')} imported into {store}")
    return ExitCode(code)


def _known_slides(folder: str | None) -> Any:
    """Return what opens a slide by its stem, and gives None where there is none."""
    if folder is None:
        return lambda _: None
    from wsistore.engine.discovery import find_slides, stem_of
    from wsistore.slides import open_slide

    paths = {stem_of(path): path for path in find_slides(folder, recursive=True).paths}
    return lambda stem: open_slide(paths[stem]) if stem in paths else None
