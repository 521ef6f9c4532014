"""Patches for torch: a map-style data set and a stream.

The only module outside of `wsistore.encoders` that imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import DependencyError
from wsistore.slides.resolving import ResolutionLike
from wsistore.tiles.candidates import TileIndex
from wsistore.tiles.loading import Batch, DrawReader, TileLoader
from wsistore.tiles.sampling import Draw, TileSampler

try:
    import torch
    from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info
except ModuleNotFoundError as missing:
    raise DependencyError(
        f"TileDataset and TileStream need torch, which can't be imported: {missing}",
        hint="Install the extra 'torch': pip install 'wsistore[torch]'. Without it, "
        "wsistore.tiles.TileLoader gives the same batches as numpy arrays.",
    ) from missing

Sample = dict[str, Any]
Transform = Callable[[torch.Tensor], Any]


class TileSamples(Sequence[Sample]):
    """Samples that came from one reading; what `TileDataset.__getitems__` returns.

    Parameters
    ----------
    batch : dict
        The columns of all samples; see `TileDataset`.
    transform : callable, optional
        Applied to the image of each sample, once.
    """

    def __init__(self, batch: Batch, transform: Transform | None) -> None:
        self.batch = batch
        self.images = batch["image"]
        if transform is not None:
            self.images = [transform(image) for image in batch["image"]]

    def __len__(self) -> int:
        return len(self.batch["row"])

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return [self[i] for i in range(*item.indices(len(self)))]
        sample = {
            name: column[item] if isinstance(column, torch.Tensor) else column
            for name, column in self.batch.items()
        }
        sample["image"] = self.images[item]
        return sample


def collate_tiles(samples: Sequence[Sample]) -> Batch:
    """Return samples as one batch, without copying those that came from one reading.

    Give it to a ``DataLoader`` as ``collate_fn``. Samples that a `transform` went over, and
    those that did not come from one reading, are stacked as torch does.

    Parameters
    ----------
    samples : sequence of dict
        Samples of a `TileDataset`.

    Returns
    -------
    dict
        Of tensors with a leading axis of n.
    """
    if not isinstance(samples, TileSamples):
        stacked: Batch = default_collate(list(samples))
        return stacked
    if samples.images is samples.batch["image"]:
        return samples.batch
    return {**samples.batch, "image": default_collate(samples.images)}


class TileDataset(Dataset[Sample]):  # type: ignore[misc]  # torch is Any to mypy here
    """Patches by row of an index, for ``torch.utils.data.DataLoader``.

    A loader asks for a whole batch in one call (``__getitems__``), so that encoded tiles
    that its patches share are decoded once. Seeded, balanced and resumable batches::

        sampler = TileSampler(index, batch_size=64, seed=1)
        data = TileDataset(index, 256, "20x")
        for batch in DataLoader(data, batch_sampler=sampler, collate_fn=collate_tiles): ...

    Parameters
    ----------
    index : TileIndex
        The candidates; item ``i`` is row ``i``. Slides given as paths are opened in each
        worker.
    size : int or (width, height)
        Size of the patches in px at the resolution.
    resolution : Resolution, str or int
        As in `wsistore.read_tiles`.
    transform : callable, optional
        Applied to each image, a (3, h, w) uint8 tensor.
    channels_last : bool
        Give images in ``torch.channels_last`` memory format, which costs nothing to make
        and is what convolutions like best.
    **options
        As in `wsistore.read_tiles`, but for `layout`, `out` and `return_report`. `threads`
        is 1 where not said, for workers are processes.

    Notes
    -----
    A sample is a dict of ``image``; ``slide``, its number in ``index.slides``; ``x`` and
    ``y`` in level-0 px; ``row``; ``valid_fraction``; and ``label`` where the index has
    labels. Batches of a `TileSampler` also hold ``epoch`` and ``number``, for
    ``sampler.state_dict(after=batch)``: loaders with workers draw ahead of what was used.
    """

    def __init__(
        self,
        index: TileIndex,
        size: int | Sequence[int],
        resolution: ResolutionLike,
        *,
        transform: Transform | None = None,
        channels_last: bool = False,
        **options: Any,
    ) -> None:
        layout = "nhwc" if channels_last else "nchw"
        self.index = index
        self.transform = transform
        self._as_tensor = _AsTensor(channels_last)
        self._reader = DrawReader(
            index, size, resolution, layout=layout, **{"threads": 1, **options}
        )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> Sample:
        sample: Sample = self.__getitems__([item])[0]
        return sample

    def __getitems__(self, items: Sequence[int] | Draw) -> TileSamples:
        """Return several samples from one reading.

        Parameters
        ----------
        items : sequence of int, or Draw
            Rows, negative ones from the end; or a batch of a `TileSampler` over the index.
        """
        if isinstance(items, Draw):
            batch = self._reader.read(items)
        else:
            batch = self._reader.read(self._draw(items))
            del batch["epoch"], batch["number"]  # rows that a user names are of no epoch
        del batch["faults"]
        batch["image"] = self._as_tensor(batch["image"])
        return TileSamples(_tensors(batch), self.transform)

    def _draw(self, items: Sequence[int]) -> Draw:
        rows = np.asarray(items, np.int64).reshape(-1)
        count = len(self)
        if len(rows) and not -count <= int(rows.min()) <= int(rows.max()) < count:
            raise IndexError(f"items {int(rows.min())} to {int(rows.max())} of {count} tiles")
        rows = np.where(rows < 0, rows + count, rows)
        return Draw(0, 0, rows, self.index.x[rows], self.index.y[rows])


class TileStream(IterableDataset[Batch]):  # type: ignore[misc]  # as above
    """Whole batches in the order of a sampler, as tensors.

    Iterated by itself it reads with threads, ahead of its user, which beats worker
    processes, for no pixels are sent between processes. In a ``DataLoader(stream,
    batch_size=None, num_workers=n)`` each worker reads every n-th batch, and the stream is
    the same for any n.

    Parameters
    ----------
    sampler : TileSampler
        Decides what comes when; also holds the candidates.
    size : int or (width, height)
        Size of the patches in px at the resolution.
    resolution : Resolution, str or int
        As in `wsistore.read_tiles`.
    transform : callable, optional
        Applied to the images of each batch, a (n, 3, h, w) uint8 tensor.
    channels_last : bool
        As in `TileDataset`.
    prefetch : int
        Batches read ahead; in workers, remote ones whose encoded tiles are fetched ahead.
    **options
        As in `wsistore.read_tiles`, but for `layout`, `out` and `return_report`.

    Notes
    -----
    A batch is a dict as `wsistore.tiles.TileLoader` has it, with tensors for arrays.

    Each pass is the sampler's next epoch. Workers have copies of the sampler, so that with
    ``num_workers > 0`` the passes of persistent workers are successive epochs, and others
    begin each pass with the sampler as it stands in the main process: call `set_epoch`
    before each. Take ``state_dict(after=batch)`` with workers.
    """

    def __init__(
        self,
        sampler: TileSampler,
        size: int | Sequence[int],
        resolution: ResolutionLike,
        *,
        transform: Transform | None = None,
        channels_last: bool = False,
        prefetch: int = 2,
        **options: Any,
    ) -> None:
        self.sampler = sampler
        self.loader = TileLoader(
            sampler,
            size,
            resolution,
            transform=_AsTensor(channels_last, transform),
            prefetch=prefetch,
            layout="nhwc" if channels_last else "nchw",
            **options,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        passing = (
            iter(self.loader)
            if worker is None
            else self.loader.share(worker.id, worker.num_workers)
        )
        for batch in passing:
            yield _tensors(batch)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch; see `TileSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)

    def state_dict(self, after: Batch | None = None) -> dict[str, Any]:
        """Return where the next batch comes from; see `TileSampler.state_dict`."""
        return self.sampler.state_dict(after)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; see `TileSampler.load_state_dict`."""
        self.sampler.load_state_dict(state)


class _AsTensor:
    """Makes images (n, 3, h, w) tensors, in the memory that they were read into."""

    def __init__(self, channels_last: bool, transform: Transform | None = None) -> None:
        self._channels_last = channels_last
        self._transform = transform

    def __call__(self, pixels: NDArray[np.uint8]) -> Any:
        images = torch.from_numpy(pixels)
        if self._channels_last:
            images = images.permute(0, 3, 1, 2)
        return images if self._transform is None else self._transform(images)


def _tensors(batch: Batch) -> Batch:
    """Return the batch with tensors for arrays; they share their memory."""
    return {
        name: torch.from_numpy(column) if isinstance(column, np.ndarray) else column
        for name, column in batch.items()
    }
