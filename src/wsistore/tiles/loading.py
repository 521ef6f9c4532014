"""Batches of pixels in the order of a sampler, as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.slides.resolving import ResolutionLike, as_resolution
from wsistore.tiles.batch import BatchReader
from wsistore.tiles.candidates import TileIndex
from wsistore.tiles.fetching import BatchFetch, FetchQueue, FetchStats
from wsistore.tiles.model import NormalRequest
from wsistore.tiles.prefetching import fetched_ahead
from wsistore.tiles.remote_plan import FETCH_BYTES, FetchLimits
from wsistore.tiles.sampling import Draw, TileSampler

Batch = dict[str, Any]


class DrawReader:
    """Reads what was drawn; pickles without what it has open.

    Parameters
    ----------
    index : TileIndex
        The candidates.
    size : int or (width, height)
        Size of the patches in px at the resolution.
    resolution : Resolution, str or int
        As in `wsistore.read_tiles`.
    **options
        As in `wsistore.read_tiles`, but for `out` and `return_report`.
    """

    def __init__(
        self,
        index: TileIndex,
        size: int | Sequence[int],
        resolution: ResolutionLike,
        **options: Any,
    ) -> None:
        self.index = index
        self.resolution = as_resolution(resolution)
        self._size = size
        self._options = options
        self._reader: BatchReader | None = BatchReader(size, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    @property
    def reader(self) -> BatchReader:
        """This process's reader."""
        if self._reader is None:
            self._reader = BatchReader(self._size, **self._options)
        return self._reader

    def use_threads(self, threads: int) -> None:
        """Read with so many threads from now on, unless the options name a number."""
        if self._options.get("threads") is None:
            self.reader.threads = threads

    def requests(self, draw: Draw) -> list[NormalRequest]:
        """Return what the engine is asked for."""
        slides, resolution = self.index.slides, self.resolution
        slide = self.index.slide[draw.rows].tolist()
        return [
            NormalRequest(slides[number], x, y, resolution)
            for number, x, y in zip(slide, draw.x.tolist(), draw.y.tolist(), strict=True)
        ]

    def begin(self, queue: FetchQueue, draw: Draw) -> BatchFetch | None:
        """Begin to fetch a batch; None where no slide is remote."""
        return queue.begin(self.reader, self.requests(draw))

    def read(self, draw: Draw, fetched: BatchFetch | None = None) -> Batch:
        """Return a batch: see `TileLoader` for what it holds."""
        index, rows = self.index, draw.rows
        slide = index.slide[rows]
        pixels, report = self.reader.read(self.requests(draw), None, None, fetched)
        batch: Batch = {
            "image": pixels,
            "slide": slide.astype(np.int64),
            "x": draw.x,
            "y": draw.y,
            "row": rows,
            "valid_fraction": report.valid_fraction,
            "epoch": draw.epoch,
            "number": draw.number,
            "faults": report.faults,
        }
        if index.label is not None:
            batch["label"] = index.label[rows].astype(np.int64)
        return batch


class TileLoader:
    """Batches of pixels in the order of a sampler, read ahead by threads.

    Iterating it gives one epoch, as iterating the sampler does.

    Parameters
    ----------
    sampler : TileSampler
        Decides what comes when; also holds the candidates.
    size : int or (width, height)
        Size of the patches in px at the resolution.
    resolution : Resolution, str or int
        As in `wsistore.read_tiles`.
    transform : callable, optional
        Applied to the images of each batch, (n, h, w, 3) uint8, in the reading thread.
    prefetch : int
        Batches read ahead; 0 reads in the caller's own time. Of slides in object storage the
        encoded tiles of as many more batches are under way.
    prefetch_bytes : int
        Most bytes of encoded tiles of remote slides that are in flight or wait to be
        decoded; a single tile is let through where it alone is more.
    **options
        As in `wsistore.read_tiles`, but for `out` and `return_report`. With
        ``layout="nchw"`` images are (n, 3, h, w).

    Notes
    -----
    A batch is a dict of ``image``; ``slide`` (n,) int64, numbers in ``index.slides``; ``x``
    and ``y`` (n,) int64, level-0 px; ``row`` (n,) int64, rows of the index;
    ``valid_fraction`` (n,) float32; ``label`` (n,) int64 where the index has labels;
    ``epoch`` and ``number``, which batch it is; ``faults``, a list of
    `wsistore.tiles.TileFault`.
    """

    def __init__(
        self,
        sampler: TileSampler,
        size: int | Sequence[int],
        resolution: ResolutionLike,
        *,
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
        prefetch: int = 2,
        prefetch_bytes: int = FETCH_BYTES,
        **options: Any,
    ) -> None:
        self.sampler = sampler
        self.transform = transform
        self.prefetch = prefetch
        self.fetch_stats = FetchStats()
        self._limits = FetchLimits(budget=prefetch_bytes)
        self._reader = DrawReader(sampler.index, size, resolution, **options)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.sampler.begin()
        draws = self.sampler.batches(epoch, start)
        with closing(self._batches(draws, self.prefetch)) as batches:
            for batch in batches:
                self.sampler.done = batch["number"] + 1
                yield batch

    def _batches(self, draws: Iterator[Draw], depth: int) -> Generator[Batch, None, None]:
        """Yield the batches of some draws, so many of them read ahead."""
        with FetchQueue(self._limits) as queue:
            self.fetch_stats = queue.stats
            yield from fetched_ahead(
                self._make, draws, partial(self._reader.begin, queue), depth, self.prefetch
            )

    def share(self, worker: int, workers: int) -> Iterator[Batch]:
        """Yield one worker's share of an epoch: every `workers`-th batch.

        For worker processes, whose parent reads ahead: decodes in the worker's own time, with
        one thread unless the options name a number; remote slides are fetched ahead.
        """
        self._reader.use_threads(1)
        epoch, start = self.sampler.begin()
        yield from self._batches(self.sampler.batches(epoch, start, worker, workers), 0)

    def _make(self, draw: Draw, fetched: BatchFetch | None = None) -> Batch:
        batch = self._reader.read(draw, fetched)
        if self.transform is not None:
            batch["image"] = self.transform(batch["image"])
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch; see `TileSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)

    def state_dict(self, after: Batch | None = None) -> dict[str, Any]:
        """Return where the next batch comes from; see `TileSampler.state_dict`."""
        return self.sampler.state_dict(after)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; see `TileSampler.load_state_dict`."""
        self.sampler.load_state_dict(state)
