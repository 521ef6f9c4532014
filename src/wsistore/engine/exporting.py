"""``wsistore.export_store``: finished features, or the tiles themselves, as files of others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsistore.durable import Outcome
from wsistore.engine.outlets import Outlet, PathLike, open_outlet
from wsistore.engine.reports import RunReport
from wsistore.errors import UsageError, WsistoreError
from wsistore.export.feature_formats import FEATURE_FORMATS, PATCH_FORMATS, check_format
from wsistore.export.images import write_images
from wsistore.export.lmdb_store import LmdbWriter
from wsistore.export.patch_labels import label_plan, load_slide_annotations
from wsistore.export.patches import PatchEncoding, iter_patches
from wsistore.export.patches_hdf5 import write_patches_h5
from wsistore.export.store_features import stored_features
from wsistore.export.tar_shards import write_shards
from wsistore.features import FeatureCohort
from wsistore.features.verifying import open_planned
from wsistore.slides import Slide
from wsistore.sources import is_url, redact
from wsistore.tiles.plan import TilePlan

OnSlide = Callable[[Outcome], None]


@dataclass(frozen=True)
class ExportReport(RunReport):
    """What became of each slide.

    Parameters
    ----------
    outcomes : tuple of Outcome
        One for each slide; the unit is its name.
    files : mapping of str to tuple of Path or str
        What was written, by slide; the store itself where it holds all. URLs in a bucket.
    errors : tuple of WsistoreError
        Those behind the outcomes that failed, in their order.
    """

    outcomes: tuple[Outcome, ...]
    files: Mapping[str, tuple[PathLike, ...]]
    errors: tuple[WsistoreError, ...] = ()


@dataclass(frozen=True)
class PatchOptions:
    """How stores of pixels are written.

    Parameters
    ----------
    codec : {"jpeg", "png", "webp", "array", "copy"}, optional
        See `wsistore.export.patches.PatchEncoding`; images take the first three. PNG for
        images, JPEG for other stores, where not said.
    quality : int, optional
        Of JPEG and WebP.
    keys : {"index", "grid"}
        Of LMDB.
    annotations : path, optional
        Folder of annotations, matched by stem; gives the column ``label``.
    label_map : mapping of str to int, optional
        Numbers of the classes; needed with `annotations`.
    label_rule : {"center", "top-left", "coverage"}
        When a tile is of an annotation.
    overwrite : bool
        Whether slides that an LMDB environment holds are replaced.
    """

    codec: str | None = None
    quality: int | None = None
    keys: str = "index"
    annotations: Path | None = None
    label_map: Mapping[str, int] | None = None
    label_rule: str = "center"
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check what goes together."""
        if self.annotations is not None and not self.label_map:
            raise UsageError("annotations need a label map", hint="For example tumour=1.")
        _ = self.encoding

    @property
    def encoding(self) -> PatchEncoding:
        """How patches are encoded."""
        return PatchEncoding(self.codec or "jpeg", self.quality)  # type: ignore[arg-type]


def export_store(
    store: str | os.PathLike[str],
    format: str,  # noqa: A002 (the word that users look for)
    output: str | os.PathLike[str],
    *,
    slides: Sequence[str] | None = None,
    encoders: Sequence[str] | None = None,
    patches: PatchOptions | None = None,
    on_slide: OnSlide | None = None,
) -> ExportReport:
    """Write what a feature store holds to files of another format.

    Parameters
    ----------
    store : path or URL
        A feature store.
    format : str
        One of `FEATURE_FORMATS`, or of `PATCH_FORMATS`: these read the tiles of the stored
        plans from the slides anew.
    output : path or URL
        Folder. For a URL, files are built in a temporary folder and uploaded slide by
        slide; that makes no sense for LMDB and tar shards, which hold many slides.
    slides : sequence of str, optional
        Names; all whose features are finished where not said.
    encoders : sequence of str, optional
        Which features; all that are finished where not said.
    patches : PatchOptions, optional
        For formats that hold pixels.
    on_slide : callable, optional
        Is told what became of each slide.

    Raises
    ------
    UsageError
        If there is no such format, or no slide.
    wsistore.errors.SourceNotFoundError
        If there is no store, or one of the slides is not in it.
    """
    kind = check_format(format)
    cohort = FeatureCohort(store, encoders=None if encoders is None else list(encoders))
    chosen = list(cohort) if slides is None else list(slides)
    if not chosen:
        raise UsageError(f"{redact(store)} holds no finished features")
    for name in chosen:
        cohort.place(name)
    if kind in FEATURE_FORMATS:
        writer = FEATURE_FORMATS[kind].write
        with open_outlet(os.fspath(output)) as outlet:

            def features(name: str) -> Sequence[PathLike]:
                with outlet.naming():
                    written = writer(stored_features(cohort, name, encoders), outlet.folder)
                return outlet.ship(written)

            return each_slide(chosen, features, on_slide)
    plans = {name: cohort.plan(name) for name in chosen}
    return export_patches(plans, kind, output, patches or PatchOptions(), on_slide=on_slide)


def export_patches(
    plans: Mapping[str, TilePlan],
    kind: str,
    output: str | os.PathLike[str],
    options: PatchOptions,
    *,
    on_slide: OnSlide | None = None,
) -> ExportReport:
    """Write the pixels of planned tiles into a store of patches; see `export_store`.

    Tar shards run over all slides, so a slide that fails ends that format, and no other.
    """
    if kind not in PATCH_FORMATS:
        raise UsageError(f"{kind!r} is no format of pixels")
    where = os.fspath(output)
    if is_url(where):
        check_remote_formats([kind])
    with open_outlet(where) as outlet:
        return export_patches_into(outlet, outlet.folder, plans, kind, options, on_slide=on_slide)


def check_remote_formats(kinds: Iterable[str]) -> None:
    """Raise if a format can't be written to a bucket.

    Raises
    ------
    UsageError
        Naming it: an LMDB environment is a file that is mapped into memory, and tar shards
        run over all slides, so neither is built slide by slide.
    """
    for kind in kinds:
        if kind.lower() in ("lmdb", "tar"):
            raise UsageError(
                f"{kind} can't be exported to a bucket: it is built as a whole on a disk",
                hint="Export it to a folder, and copy that.",
            )


def export_patches_into(
    outlet: Outlet,
    folder: Path,
    plans: Mapping[str, TilePlan],
    kind: str,
    options: PatchOptions,
    *,
    on_slide: OnSlide | None = None,
) -> ExportReport:
    """Write pixels of planned tiles into a folder of an outlet; see `export_patches`."""
    if kind == "tar":
        return _tar(plans, folder, options, on_slide)
    if kind == "lmdb":
        with LmdbWriter(folder, keys=options.keys, overwrite=options.overwrite) as writer:  # type: ignore[arg-type]

            def lmdb(name: str) -> Sequence[PathLike]:
                slide, plan = _opened(plans[name], options)
                patches = iter_patches(slide, plan, options.encoding)
                writer.add(plan, patches, label_map=options.label_map)
                return [folder]

            return each_slide(list(plans), lmdb, on_slide)

    def alone(name: str) -> Sequence[PathLike]:
        slide, plan = _opened(plans[name], options)
        labels: dict[str, Any] = {"label_map": options.label_map}
        with outlet.naming():
            if kind == "hdf5-tiles":
                return outlet.ship([write_patches_h5(slide, plan, folder, **labels)])
            form: Any = options.codec or "png"
            write_images(slide, plan, folder, format=form, quality=options.quality, **labels)
        return outlet.ship([folder / plan.slide.name])

    return each_slide(list(plans), alone, on_slide)


def each_slide(
    names: Sequence[str], work: Callable[[str], Sequence[PathLike]], on_slide: OnSlide | None = None
) -> ExportReport:
    """Do work for each slide; one that fails ends nothing."""
    outcomes: list[Outcome] = []
    files: dict[str, tuple[PathLike, ...]] = {}
    errors: list[WsistoreError] = []
    for name in names:
        try:
            files[name] = tuple(work(name))
            outcome = Outcome(name, "done", detail=", ".join(map(str, files[name])))
        except WsistoreError as error:
            errors.append(error)
            outcome = Outcome(name, "failed", error.code, str(error))
        outcomes.append(outcome)
        if on_slide is not None:
            on_slide(outcome)
    return ExportReport(tuple(outcomes), files, tuple(errors))


def _opened(plan: TilePlan, options: PatchOptions) -> tuple[Slide, TilePlan]:
    slide = open_planned(plan.slide.to_dict(), plan.slide.path)
    if options.annotations is None:
        return slide, plan
    found = load_slide_annotations(options.annotations, plan.slide.name)
    if found is None:
        raise UsageError(
            f"there are no annotations of {plan.slide.name} in {options.annotations}",
            hint="Files are matched by the slide's stem.",
        )
    rule: Any = options.label_rule
    return slide, label_plan(plan, found, options.label_map or {}, rule=rule)


def _tar(
    plans: Mapping[str, TilePlan], folder: Path, options: PatchOptions, on_slide: OnSlide | None
) -> ExportReport:
    def sources() -> Iterator[tuple[Slide, TilePlan]]:
        for plan in plans.values():
            yield _opened(plan, options)

    failed: list[WsistoreError] = []
    try:
        write_shards(sources(), folder, encoding=options.encoding, label_map=options.label_map)
    except WsistoreError as error:
        failed.append(error)

    def work(name: str) -> Sequence[PathLike]:
        del name
        if failed:
            raise failed[0]
        return [folder]

    return each_slide(list(plans), work, on_slide)


__all__ = [
    "FEATURE_FORMATS",
    "PATCH_FORMATS",
    "ExportReport",
    "PatchOptions",
    "each_slide",
    "export_patches",
    "export_store",
]
