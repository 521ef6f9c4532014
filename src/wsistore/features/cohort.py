"""The features of many slides, read a slide at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable.outcome import counted
from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError, WsistoreError
from wsistore.features.places import READ_ERRORS, SlidePlace, open_group
from wsistore.features.reading import (
    StoreLike,
    choose_encoders,
    open_slide_features,
    scan,
)
from wsistore.features.records import SlideInfo
from wsistore.features.schema import TileStatus, node_name, status_name
from wsistore.sources import redact
from wsistore.tiles.plan import COLUMNS, TilePlan

if TYPE_CHECKING:
    import xarray as xr


class FeatureCohort(Mapping[str, "xr.Dataset"]):
    """A read-only mapping of slide names to lazy Datasets.

    Opening reads one small document per slide and no array, so slides can be chosen by what
    is known of them before anything is read. Pickles as its names.

    Parameters
    ----------
    store : path or URL
        Of a cohort, or a folder of stores of single slides.
    encoders : str or sequence of str, optional
        Which features; slides that lack one of them are left out. By default all that are
        finished.
    allow_partial : bool
        Whether slides with unfinished features are given too.

    Attributes
    ----------
    infos : mapping of str to SlideInfo
        What is known of each slide.
    unfinished : tuple of str
        Slides that were left out because features are unfinished or absent.
    """

    def __init__(
        self,
        store: StoreLike,
        *,
        encoders: str | Sequence[str] | None = None,
        allow_partial: bool = False,
    ) -> None:
        self.store = os.fspath(store)
        self.encoders = [encoders] if isinstance(encoders, str) else encoders
        self.allow_partial = allow_partial
        self.infos: dict[str, SlideInfo] = {}
        self._places: dict[str, SlidePlace] = {}
        left_out = []
        for place, info in scan(store):
            if self._is_usable(info):
                self.infos[info.name] = info
                self._places[info.name] = place
            else:
                left_out.append(info.name)
        self.unfinished = tuple(left_out)

    def _is_usable(self, info: SlideInfo) -> bool:
        if self.allow_partial:
            return all(name in info.encoders for name in self.encoders or ())
        done = info.finished
        return bool(done) and all(name in done for name in self.encoders or ())

    # A mapping

    def __getitem__(self, slide: str) -> xr.Dataset:
        return open_slide_features(
            self.place(slide), encoders=self.encoders, allow_partial=self.allow_partial
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def __repr__(self) -> str:
        tiles = sum(info.tiles for info in self.infos.values())
        return (
            f"<FeatureCohort {redact(self.store)!r}: {counted(len(self), 'slide')}, "
            f"{counted(tiles, 'tile')}>"
        )

    # Choosing

    def filter(self, keep: Callable[[SlideInfo], bool]) -> FeatureCohort:
        """Return a cohort of the slides for which `keep` is true of what is known."""
        return self._with([name for name, info in self.infos.items() if keep(info)])

    def select(self, slides: Sequence[str]) -> FeatureCohort:
        """Return a cohort of the named slides, in their order.

        Raises
        ------
        wsistore.errors.SourceNotFoundError
            If one is not there.
        """
        for name in slides:
            self.place(name)
        return self._with(list(dict.fromkeys(slides)))

    def _with(self, names: Sequence[str]) -> FeatureCohort:
        chosen = object.__new__(FeatureCohort)
        chosen.__dict__.update(self.__dict__)
        chosen.infos = {name: self.infos[name] for name in names}
        chosen._places = {name: self._places[name] for name in names}
        return chosen

    def place(self, slide: str) -> SlidePlace:
        """Return where the features of a slide are.

        Raises
        ------
        wsistore.errors.SourceNotFoundError
            If the cohort has none of it.
        """
        if slide not in self._places:
            why = "unfinished or without" if slide in self.unfinished else "no"
            raise SourceNotFoundError(f"{redact(self.store)} has {why} features of {slide}")
        return self._places[slide]

    # Reading

    def bag(
        self, slide: str, encoder: str | None = None, *, ok_only: bool = False
    ) -> NDArray[np.float32]:
        """Read all features of a slide in one read.

        Parameters
        ----------
        slide : str
            Name of the slide.
        encoder : str, optional
            Which features; the only ones where not said.
        ok_only : bool
            Whether tiles that failed are left out; otherwise their rows are NaN.

        Returns
        -------
        (n, dim) float32

        Raises
        ------
        wsistore.errors.SourceNotFoundError
            If there are none.
        wsistore.errors.StoreCorruptError
            If their bytes are not those that were written.
        """
        name = self._encoder(slide, encoder)
        features: NDArray[np.float32] = self._read(slide, node_name(name))
        return features[self.status(slide, name) == TileStatus.OK] if ok_only else features

    def status(self, slide: str, encoder: str | None = None) -> NDArray[np.uint8]:
        """Read the codes (`TileStatus`) of an encoder's tiles, (n,) uint8."""
        codes: NDArray[np.uint8] = self._read(slide, status_name(self._encoder(slide, encoder)))
        return codes

    def coordinates(self, slide: str) -> NDArray[np.int64]:
        """Read x, y of all tiles, (n, 2) int64, top-left corners in level-0 px."""
        return np.stack([self._read(slide, "x"), self._read(slide, "y")], axis=1)

    def plan(self, slide: str) -> TilePlan:
        """Return the plan that the features were computed by, labels included."""
        info, group = self.infos[slide], open_group(self.place(slide))
        known = {node_name(name) for name in info.encoders}
        known |= {status_name(name) for name in info.encoders} | {"status"}
        names = [*COLUMNS, *sorted(set(group.array_keys()) - known - COLUMNS.keys())]
        columns = {name: self._read(slide, name) for name in names}
        texts = {n: np.array(v.tolist(), str) for n, v in columns.items() if v.dtype.kind in "OT"}
        return TilePlan.from_columns(columns | texts, info.provenance)

    def to_datatree(self) -> Any:
        """Return an `xarray.DataTree` with a node per slide; opens all of them."""
        import xarray as xr

        return xr.DataTree.from_dict({name.replace("/", "%2F"): self[name] for name in self})

    def _encoder(self, slide: str, encoder: str | None) -> str:
        place, info = self.place(slide), self.infos[slide]
        wanted = self.encoders if encoder is None else encoder
        names = choose_encoders(info, place, wanted, allow_partial=self.allow_partial)
        if len(names) != 1:
            raise UsageError(f"{slide} has features of {', '.join(names)}: name one")
        return names[0]

    def _read(self, slide: str, name: str) -> Any:
        place = self.place(slide)
        group: Any = open_group(place)
        try:
            return np.asarray(group[name][:])
        except WsistoreError:
            raise
        except READ_ERRORS as error:
            raise StoreCorruptError(f"array {name} of {place} can't be read: {error}") from error
