"""Seeded sampling of patches: which ones, in which order, the same on every machine.

An epoch is a function of (candidates, options, seed, epoch number) and nothing else: not of
workers, threads or ranks. Ranks and workers take whole batches of it in turn, and a run
that stopped in mid-epoch goes on from a count of batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.tiles import drawing
from wsistore.tiles.candidates import TileIndex
from wsistore.tiles.drawing import Purpose

Balance = Literal["none", "slide", "class"]


@dataclass(frozen=True, slots=True)
class Draw:
    """Patches of one batch.

    Parameters
    ----------
    epoch, number : int
        Which batch it is: the epoch, and its number among this rank's batches.
    rows : (n,) int64
        Rows of the `TileIndex`.
    x, y : (n,) int64
        Top-left corners in level-0 px, moved as the index's `spread` says.
    """

    epoch: int
    number: int
    rows: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


class TileSampler:
    """Batches of candidates, epoch after epoch, decided by the seed alone.

    Iterating it gives the batches of one epoch as `Draw`s: the first time from where
    `set_epoch` or `load_state_dict` put it, then the next epoch each time, also where the
    one before was left early. Serves as ``batch_sampler`` of a torch ``DataLoader`` over a
    `TileDataset`.

    Parameters
    ----------
    index : TileIndex
        The candidates.
    batch_size : int
        Patches per batch.
    seed : int
        Same seed, same stream, whatever the number of ranks, workers and threads.
    epoch_size : int, optional
        Patches per epoch over all ranks; all that can be drawn where not said.
    replacement : bool
        Draw with replacement. Without, no candidate comes twice in an epoch.
    balance : {"none", "slide", "class"}
        Give each slide, or each class, its share of the draws, whatever its number of
        candidates. The index's weights then count within a slide or class. Candidates
        without a class are not drawn with ``"class"``.
    shares : mapping of int to float, optional
        With `balance`: share of each slide number or class against the others; 1 where it
        is not named.
    quota : int or sequence of int, optional
        Most patches of each slide in an epoch; one number for all, or one per slide.
    block : int, optional
        Trade randomness for locality: order the drawn patches in blocks of this many
        neighbours in the index (of a grid: a strip of its row), so that patches of one
        batch share encoded tiles and requests. Which ones are drawn does not change, and
        each comes once, as without. The smaller, the better shuffled; 1 is a full shuffle
        by another name. See `blocks_per_batch` for what is left of the randomness.
    mix : int
        Blocks, chosen at random, that are shuffled among each other: a batch of 64 patches
        with ``block=16`` comes from 8 places by default, and from 4 with ``mix=4``.
    rank, world_size : int
        This process among those of a distributed training. Ranks take batches in turn and
        the same number of them. The last round is shared out evenly, so its batches may be
        smaller; less than `world_size` patches are left out where they can't be shared.
    drop_last : bool
        Leave out the last round unless all ranks get full batches.

    Attributes
    ----------
    epoch : int
        The current epoch.
    done : int
        Batches of it that this rank has handed out.

    Raises
    ------
    wsistore.errors.UsageError
        If an option makes no sense, or more is asked than can be drawn.

    Notes
    -----
    Without replacement the shares and weights are those of drawing one after the other
    (Efraimidis and Spirakis 2006): where the epoch takes most of the candidates, likely
    ones run out and the end of the epoch holds the others. Keep `epoch_size` small against
    the rarest group, or draw with replacement.
    """

    def __init__(
        self,
        index: TileIndex,
        batch_size: int,
        *,
        seed: int = 0,
        epoch_size: int | None = None,
        replacement: bool = False,
        balance: Balance = "none",
        shares: Mapping[int, float] | None = None,
        quota: int | Sequence[int] | None = None,
        block: int | None = None,
        mix: int = 8,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("mix", mix), ("block", block)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value!r}")
        if epoch_size is not None and epoch_size < 0:
            raise UsageError(f"epoch_size must not be negative, got {epoch_size!r}")
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank!r} must be within 0 to {world_size - 1}")
        if replacement and quota is not None:
            raise UsageError("quota belongs to drawing without replacement")
        self.index = index
        self.batch_size = int(batch_size)
        self.seed = int(seed)
        self.replacement = bool(replacement)
        self.balance: Balance = balance
        self.shares = _plain_shares(shares, balance)
        self.quota = _plain_quota(quota, len(index.slides))
        self.block = None if block is None else int(block)
        self.mix = int(mix)
        self.rank = int(rank)
        self.world_size = int(world_size)
        self.drop_last = bool(drop_last)
        self._weight = _weights(index, balance, self.shares)
        self.epoch_size = self._check_size(epoch_size)
        self.epoch = 0
        self.done = 0
        self._begun = False

    def _check_size(self, wanted: int | None) -> int:
        index = self.index
        drawable = np.ones(len(index), bool) if self._weight is None else self._weight > 0
        per_slide = np.bincount(index.slide[drawable], minlength=len(index.slides))
        if self.quota is not None:
            per_slide = np.minimum(per_slide, self.quota)
        available = int(per_slide.sum())
        if wanted is None:
            return available
        if wanted > available and not (self.replacement and available):
            raise UsageError(
                f"epoch_size {wanted} exceeds the {available} candidates that can be drawn",
                hint="Lower epoch_size, raise the quota or weights, or pass replacement=True.",
            )
        return int(wanted)

    # Epochs and batches

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this rank in an epoch."""
        full, rest = divmod(self.epoch_size, self.batch_size * self.world_size)
        return full if self.drop_last or rest < self.world_size else full + 1

    def __len__(self) -> int:
        return self.batches_per_epoch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of an epoch over all ranks, in the order of reading."""
        rows = self._draw(epoch)
        if self.block is not None:
            rows = drawing.shuffle_blocks(rows, self.block, self.mix, self.seed, epoch)
        return rows

    def blocks_per_batch(self, epoch: int, block: int | None = None) -> NDArray[np.int64]:
        """Return from how many blocks of neighbours each batch of this rank comes.

        The measure of what `block` costs in randomness: near the size of the batch, every
        patch is from elsewhere; at 1, all are neighbours.

        Parameters
        ----------
        epoch : int
            Which epoch.
        block : int, optional
            Neighbours among the drawn patches that make a block; the sampler's own where
            not said.

        Returns
        -------
        (batches,) int64

        Raises
        ------
        wsistore.errors.UsageError
            If the sampler has no blocks and none are named.
        """
        length = block or self.block
        if length is None or length < 1:
            raise UsageError("the sampler has no blocks: say how many neighbours make one")
        order = self.order(epoch)
        number = np.empty(len(order), np.int64)
        number[np.argsort(order, kind="stable")] = np.arange(len(order)) // length
        places = [self._places(batch) for batch in range(self.batches_per_epoch)]
        return np.array([len(np.unique(number[a:b])) for a, b in places], np.int64)

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        if self.epoch_size == 0:
            return np.zeros(0, np.int64)
        population = len(self.index)
        count = self.epoch_size if self.replacement else population
        source = drawing.words(self.seed, epoch, Purpose.CHOICE, count)
        if self.replacement:
            return drawing.with_replacement(source, self._weight, population)
        if self.quota is None:
            return drawing.without_replacement(source, self._weight, self.epoch_size)
        rows = drawing.without_replacement(source, self._weight)
        slide = self.index.slide[rows]
        rows = rows[drawing.rank_within(slide) < np.asarray(self.quota)[slide]]
        return rows[: self.epoch_size]

    def _places(self, number: int) -> tuple[int, int]:
        """Return first and beyond-last place in the epoch of a batch of this rank."""
        round_size = self.batch_size * self.world_size
        start = number * round_size
        rest = self.epoch_size - start
        if rest >= round_size:
            start += self.rank * self.batch_size
            return start, start + self.batch_size
        return (
            start + rest * self.rank // self.world_size,
            start + rest * (self.rank + 1) // self.world_size,
        )

    def batch(self, epoch: int, number: int, order: NDArray[np.int64]) -> Draw:
        """Return one batch of this rank.

        Parameters
        ----------
        epoch, number : int
            Which one.
        order : (epoch_size,) int64
            The epoch's `order`.
        """
        index = self.index
        start, stop = self._places(number)
        rows = order[start:stop].copy()
        x, y = index.x[rows], index.y[rows]
        if index.spread is not None:
            move = drawing.moves(self.seed, epoch, start, index.spread[index.slide[rows]])
            x, y = x + move[:, 0], y + move[:, 1]
        return Draw(epoch, number, rows, x, y)

    def batches(
        self, epoch: int, start: int = 0, worker: int = 0, workers: int = 1
    ) -> Iterator[Draw]:
        """Yield the batches of an epoch, without touching where the sampler stands.

        Parameters
        ----------
        epoch : int
            Which epoch.
        start : int
            Number of the first batch.
        worker, workers : int
            Every `workers`-th batch, from the `worker`-th on.
        """
        order = self.order(epoch)
        for number in range(start + worker, self.batches_per_epoch, workers):
            yield self.batch(epoch, number, order)

    def __iter__(self) -> Iterator[Draw]:
        epoch, start = self.begin()
        for draw in self.batches(epoch, start):
            self.done = draw.number + 1
            yield draw

    # Where it stands

    def begin(self) -> tuple[int, int]:
        """Begin a pass; return its epoch and the number of its first batch."""
        if self._begun:
            self.epoch, self.done = self.epoch + 1, 0
        self._begun = True
        return self.epoch, self.done

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch from its start.

        Naming the epoch in which `load_state_dict` has just put the sampler changes
        nothing, so a loop over epochs may call this before each.
        """
        if epoch < 0:
            raise UsageError(f"epochs count from 0, got {epoch!r}")
        if self._begun or epoch != self.epoch:
            self.epoch, self.done, self._begun = epoch, 0, False

    def state_dict(self, after: Draw | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return where the sampler stands, as plain values that JSON can hold.

        Parameters
        ----------
        after : Draw or batch, optional
            The last batch that was used. Needed where a loader reads ahead, as every
            ``DataLoader`` with workers does; the last one handed out where not said.
        """
        epoch, done = self.epoch, self.done
        if isinstance(after, Draw):
            epoch, done = after.epoch, after.number + 1
        elif after is not None:
            epoch, done = _first(after["epoch"]), _first(after["number"]) + 1
        if done >= self.batches_per_epoch > 0:
            epoch, done = epoch + 1, 0
        return {"epoch": epoch, "done": done, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        """Return all that decides the stream, as plain values."""
        names = ("seed", "batch_size", "epoch_size", "replacement", "balance", "quota", "block")
        return {
            "index": self.index.fingerprint,
            **{name: getattr(self, name) for name in names},
            "mix": self.mix,
            "shares": None if self.shares is None else [[k, v] for k, v in self.shares.items()],
            "world_size": self.world_size,
            "drop_last": self.drop_last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        wsistore.errors.UsageError
            If the state is of other candidates, another seed or other options (all but
            `rank` count); the message names the difference.
        """
        own = self._identity()
        for key, value in own.items():
            if state.get(key) != value:
                raise UsageError(
                    f"the saved state has {key} = {state.get(key)!r}, this sampler {value!r}",
                    hint="Make the sampler as it was made in the run that is to go on.",
                )
        epoch, done = state.get("epoch"), state.get("done")
        for name, count in (("epoch", epoch), ("done", done)):
            if not isinstance(count, int) or count < 0:
                raise UsageError(f"the saved state has {name} = {count!r}, expected a count")
        self.epoch, self.done, self._begun = int(state["epoch"]), int(state["done"]), False


def _first(number: Any) -> int:
    """Return a number, which torch's own collating repeats for each patch."""
    return int(np.asarray(number).reshape(-1)[0])


def _plain_shares(shares: Mapping[int, float] | None, balance: Balance) -> dict[int, float] | None:
    if balance not in ("none", "slide", "class"):
        raise UsageError(f"balance must be none, slide or class, got {balance!r}")
    if shares is None:
        return None
    if balance == "none":
        raise UsageError("shares are those of slides or classes: pass balance= as well")
    plain = {int(group): float(share) for group, share in sorted(shares.items())}
    if not all(np.isfinite(share) and share >= 0 for share in plain.values()):
        raise UsageError(f"shares must be finite and not negative, got {plain}")
    return plain


def _plain_quota(quota: int | Sequence[int] | None, slides: int) -> list[int] | None:
    if quota is None:
        return None
    plain = [int(quota)] * slides if isinstance(quota, (int, np.integer)) else [*map(int, quota)]
    if len(plain) != slides or any(most < 0 for most in plain):
        raise UsageError(f"quota must be one count, or one for each of {slides} slides")
    return plain


def _weights(
    index: TileIndex, balance: Balance, shares: Mapping[int, float] | None
) -> NDArray[np.float64] | None:
    """Return the weight of each candidate, in which slides or classes have their shares."""
    weight = index.weight
    if balance == "none" or not len(index):
        return weight
    groups = index.slide if balance == "slide" else index.label
    if groups is None:
        raise UsageError("balance='class' needs labels in the index")
    own = (
        np.ones(len(index)) if weight is None else weight / max(weight.max(), np.finfo(float).tiny)
    )
    if balance == "class":
        own = np.where(groups < 0, 0.0, own)
    names, member = np.unique(groups, return_inverse=True)
    unknown = sorted(set(shares or ()) - set(names.tolist()))
    if unknown:
        raise UsageError(f"shares name {balance} {unknown[0]}, of which there is no candidate")
    share = np.array([1.0 if shares is None else shares.get(int(name), 1.0) for name in names])
    total = np.bincount(member, weights=own)
    scale = np.divide(share, total, out=np.zeros(len(names)), where=total > 0)
    balanced: NDArray[np.float64] = own * scale[member]
    return balanced
