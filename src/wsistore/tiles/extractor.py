"""`TileExtractor`: bind a slide, extract its tissue tiles, save them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from wsistore.durable import atomic_write
from wsistore.errors import NotReadyError, UsageError
from wsistore.slides import Slide
from wsistore.tiles.handles import default_cache
from wsistore.tiles.model import SlideLike
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import MIN_TISSUE, as_mask, plan_tiles
from wsistore.tiles.regions import RegionMaskSpec, RegionSpec, region_record, region_specs
from wsistore.tiles.saving import save_regions
from wsistore.tiles.spec import TileSpec
from wsistore.tissue import TissueMask

Mask = TissueMask | NDArray[Any]

CSV_COLUMNS = (
    "slide_name",
    "x",
    "y",
    "width",
    "height",
    "resolution_unit",
    "resolution_value",
    "tissue_ratio",
)
"""Of `TileExtractor.to_csv`: x, y in level-0 px, width, height in px at the resolution."""


class MaskProvider(Protocol):
    """Makes the mask of a slide."""

    def generate(self, source: Slide) -> Mask:
        """Return where tissue is, over the whole slide; non-zero in an array."""
        ...


class TileExtractor:
    """Tiles of a slide that hold enough tissue, in the manner of an estimator.

    The lattice is computed in level-0 px, and the mask is used for scoring alone, by exact
    areas; so coarse masks shift nothing.

    Parameters
    ----------
    tile_spec : TileSpec
        Size, stride, resolution, unit and edges.
    mask : TissueMask or (h, w) array, optional
        Where tissue is, over the whole slide; non-zero in an array. Without mask and
        provider everything is tissue.
    mask_provider : MaskProvider, optional
        Its ``generate(slide)`` is called by `fit`; wins over `mask`.
    mask_threshold : float
        Least fraction of a tile's area that is tissue, 0 to 1.
    include_masks : bool
        Whether each record of `region_specs_` holds its part of the mask.

    Attributes
    ----------
    source_ : Slide
        The slide; after `fit`.
    slide_name_ : str
        Its file name without extension; after `fit`.
    mask_ : TissueMask or None
        The mask in use; after `fit`.
    region_specs_ : list of RegionMaskSpec
        Empty after `fit`, filled by `extract`.
    plan_ : TilePlan
        The same as columns; after `extract`.
    """

    source_: Slide
    slide_name_: str
    mask_: TissueMask | None
    region_specs_: list[RegionMaskSpec]
    plan_: TilePlan

    def __init__(
        self,
        tile_spec: TileSpec,
        mask: Mask | None = None,
        mask_provider: MaskProvider | None = None,
        mask_threshold: float = MIN_TISSUE,
        *,
        include_masks: bool = False,
    ) -> None:
        if not 0 <= mask_threshold <= 1:
            raise UsageError(f"mask_threshold is a fraction from 0 to 1, got {mask_threshold!r}")
        self.tile_spec = tile_spec
        self.mask = mask
        self.mask_provider = mask_provider
        self.mask_threshold = mask_threshold
        self.include_masks = include_masks

    def fit(self, source: SlideLike) -> Self:
        """Bind a slide, and make its mask where there is a provider.

        Parameters
        ----------
        source : Slide, str or PathLike
            The slide.
        """
        slide = source if isinstance(source, Slide) else default_cache().get(source)
        given = self.mask if self.mask_provider is None else self.mask_provider.generate(slide)
        self.mask_ = as_mask(given, slide)
        self.source_ = slide
        self.slide_name_ = slide.name
        self.region_specs_ = []
        return self

    def extract(self, source: SlideLike | None = None) -> list[RegionMaskSpec]:
        """Fill and return `region_specs_`.

        Parameters
        ----------
        source : Slide, str or PathLike, optional
            Fitted first, if given.

        Raises
        ------
        wsistore.errors.NotReadyError
            If no slide was fitted (a RuntimeError).
        wsistore.errors.UsageError, wsistore.errors.MetadataError
            If the spec can't be had from the slide (the first a ValueError).
        """
        if source is not None:
            self.fit(source)
        self._need_fit("extract")
        least = None if self.mask_ is None else self.mask_threshold
        self.plan_ = plan_tiles(self.source_, self.tile_spec, self.mask_, min_tissue=least)
        part = self.mask_ if self.include_masks else None
        self.region_specs_ = region_specs(self.plan_, part)
        return self.region_specs_

    def fit_extract(self, source: SlideLike) -> list[RegionMaskSpec]:
        """Fit a slide and extract its tiles."""
        return self.fit(source).extract()

    def to_csv(
        self, output_dir: str | os.PathLike[str], regions: Sequence[RegionSpec] | None = None
    ) -> Path:
        """Write ``<output_dir>/<slide name>.csv``, with the columns `CSV_COLUMNS`.

        Parameters
        ----------
        output_dir : path
            Made with its parents where it is absent.
        regions : sequence of RegionSpec, optional
            Some other ones than `region_specs_`.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        wsistore.errors.NotReadyError
            If nothing was fitted, or there is nothing to write (a RuntimeError).
        wsistore.errors.StoreWriteError
            If writing failed.
        """
        chosen = self._regions("to_csv", regions)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for region in chosen:
            told = region_record(self.slide_name_, region)
            place, shape, scale = told["location"], told["shape"], told["resolution"]
            sizes = (place["x"], place["y"], shape["width"], shape["height"])
            ratio = told["tissue_ratio"]
            writer.writerow((self.slide_name_, *sizes, scale["unit"], scale["value"], ratio))
        return self._put(output_dir, "csv", text.getvalue())

    def to_json(
        self,
        output_dir: str | os.PathLike[str],
        regions: Sequence[RegionSpec] | None = None,
        indent: int | None = 2,
    ) -> Path:
        """Write ``<output_dir>/<slide name>.json``: an array of objects.

        Parameters
        ----------
        output_dir, regions
            As for `to_csv`.
        indent : int or None
            Spaces of indentation; compact with 0 or None.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        wsistore.errors.NotReadyError, wsistore.errors.StoreWriteError
            As `to_csv`.
        """
        chosen = self._regions("to_json", regions)
        records = [region_record(self.slide_name_, region) for region in chosen]
        separators = None if indent else (",", ":")
        text = json.dumps(records, indent=indent or None, separators=separators)
        return self._put(output_dir, "json", text + "\n")

    def save(
        self,
        output_dir: str | os.PathLike[str],
        regions: Sequence[RegionSpec] | None = None,
        threads: int = 4,
        format: str = "png",  # noqa: A002 (Pillow's name for it)
    ) -> list[Path]:
        """Read each tile and write it as an image.

        File names are ``{slide}_x{X}_y{Y}_w{W}_h{H}_{res}_{ratio}.{format}``; see
        `wsistore.tiles.regions.region_name`. Each file appears whole or not at all. Tiles
        for which the file holds no bytes are painted; damaged ones fail.

        Parameters
        ----------
        output_dir, regions
            As for `to_csv`.
        threads : int
            That read, encode and write.
        format : str
            Any that Pillow writes: ``"png"``, ``"jpeg"``, ``"tiff"`` ...

        Returns
        -------
        list of Path
            The files, in the order of the regions.

        Raises
        ------
        wsistore.errors.NotReadyError
            If nothing was fitted, or there is nothing to write (a RuntimeError).
        wsistore.errors.IncompleteError
            If one tile failed or more, after the others were written (a RuntimeError).
        wsistore.errors.UsageError
            If Pillow doesn't write that format.
        """
        chosen = self._regions("save", regions)
        return save_regions(
            self.source_,
            chosen,
            Path(output_dir),
            threads=threads,
            format=format,
            fill=self.tile_spec.fill,
        )

    def _need_fit(self, what: str) -> None:
        if not hasattr(self, "source_"):
            raise NotReadyError(f"{what} needs a slide", hint="Call fit(slide) first.")

    def _regions(self, what: str, regions: Sequence[RegionSpec] | None) -> Sequence[RegionSpec]:
        self._need_fit(what)
        chosen = self.region_specs_ if regions is None else regions
        if not len(chosen):
            raise NotReadyError(
                f"{what} has no tiles of {self.slide_name_} to write",
                hint="Call extract() first; if it found none, lower mask_threshold.",
            )
        return chosen

    def _put(self, folder: str | os.PathLike[str], extension: str, text: str) -> Path:
        path = Path(folder) / f"{self.slide_name_}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text.encode())
        return path
