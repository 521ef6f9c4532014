"""Samplers: weights by statistics, quotas, ranks, resuming, and one stream for all."""

import hashlib
import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import UsageError
from wsistore.tiles import drawing
from wsistore.tiles.candidates import TileIndex
from wsistore.tiles.sampling import Draw, TileSampler

GOLDEN = "8b203c0896ee80f763b01c0ccec0e876b386075c4aa540465f1834245294c94e"


def make_index(counts, *, weight=None, label=None, spread=None):
    """Return an index over slides that are never opened: names alone."""
    counts = list(counts)
    slide = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    place = np.arange(len(slide), dtype=np.int64)
    return TileIndex(
        tuple(f"slide-{number}.svs" for number in range(len(counts))),
        slide,
        place * 10,
        place * 10 + 1,
        None if weight is None else np.asarray(weight, np.float64),
        None if label is None else np.asarray(label, np.int64),
        spread,
    )


def rows_of(batches):
    return np.concatenate([np.zeros(0, np.int64), *(batch.rows for batch in batches)])


def chi_square(seen, expected):
    seen, expected = np.asarray(seen, float), np.asarray(expected, float)
    return float(((seen - expected) ** 2 / expected).sum())


def limit(degrees):
    """Return the 99.9 % point of chi-square (Wilson and Hilferty 1931)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.09 * np.sqrt(2 / (9 * degrees))) ** 3


# Uniform epochs


def test_an_epoch_without_replacement_is_a_permutation_and_epochs_differ():
    sampler = TileSampler(make_index([50, 0, 70]), 7, seed=3)
    first, second = sampler.order(0), sampler.order(1)
    assert sorted(first) == sorted(second) == list(range(120))
    assert first.tolist() != second.tolist()
    assert TileSampler(make_index([50, 0, 70]), 7, seed=4).order(0).tolist() != first.tolist()


def test_every_candidate_is_equally_likely_at_every_place():
    sampler = TileSampler(make_index([6]), 6, seed=1)
    seen = np.zeros((6, 6))
    for epoch in range(3000):
        seen[np.arange(6), sampler.order(epoch)] += 1
    # A doubly stochastic table: (6 - 1) ** 2 degrees of freedom.
    assert chi_square(seen, np.full((6, 6), 500)) < limit(25)


def test_with_replacement_candidates_repeat_evenly():
    sampler = TileSampler(make_index([40, 60]), 64, seed=5, replacement=True, epoch_size=50_000)
    seen = np.bincount(sampler.order(0), minlength=100)
    assert chi_square(seen, np.full(100, 500)) < limit(99)
    assert len(sampler.order(0)) == 50_000


def test_few_of_many_are_those_that_all_would_begin_with():
    index = make_index([400], weight=np.arange(400) % 7)
    for weighted in (index, make_index([400])):
        whole = TileSampler(weighted, 8, seed=2).order(5)
        few = TileSampler(weighted, 8, seed=2, epoch_size=30).order(5)
        assert few.tolist() == whole[:30].tolist()


# Weights


def test_weights_with_replacement():
    weight = np.array([0, 1, 2, 3, 4, 0, 10, 0])
    sampler = TileSampler(
        make_index([8], weight=weight), 10, seed=11, replacement=True, epoch_size=40_000
    )
    seen = np.bincount(sampler.order(0), minlength=8)
    drawable = weight > 0
    assert seen[~drawable].sum() == 0
    assert chi_square(seen[drawable], 40_000 * weight[drawable] / 20) < limit(4)


def test_weights_without_replacement_are_those_of_drawing_one_after_the_other():
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    sampler = TileSampler(make_index([4], weight=weight), 2, seed=7, epoch_size=2)
    epochs = 6000
    seen = np.zeros((4, 4))
    for epoch in range(epochs):
        seen[tuple(sampler.order(epoch))] += 1
    pairs = list(itertools.permutations(range(4), 2))
    chance = [weight[i] / 10 * weight[j] / (10 - weight[i]) for i, j in pairs]
    assert np.isclose(sum(chance), 1)
    assert chi_square([seen[p] for p in pairs], np.array(chance) * epochs) < limit(11)
    assert np.trace(seen) == 0


@pytest.mark.parametrize("power", [-1000, 0, 1020])
def test_the_scale_of_weights_has_no_meaning(power):
    weight = np.array([1.0, 0.0, 2.0, 4.0, 8.0, 8.0])  # the sum overflows at 2**1020
    plain, scaled = make_index([6], weight=weight), make_index([6], weight=weight * 2.0**power)
    for options in ({}, {"replacement": True, "epoch_size": 200}, {"balance": "slide"}):
        order = TileSampler(scaled, 2, seed=5, **options).order(0)
        assert order.tolist() == TileSampler(plain, 2, seed=5, **options).order(0).tolist()
        assert sorted(set(order)) == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize(
    ("balance", "shares", "expected"),
    [
        ("slide", None, [1, 1, 1]),
        ("slide", {0: 2, 2: 5}, [2, 1, 5]),
        ("slide", {1: 0}, [1, 0, 1]),
        ("class", None, [1, 1, 1]),
        ("class", {0: 3}, [3, 1, 1]),
    ],
)
def test_slides_and_classes_have_their_shares(balance, shares, expected, replacement):
    counts = np.array([3000, 6000, 12000])
    group = np.repeat([0, 1, 2], counts)
    # Classes lie across the slides; some candidates have none.
    label = np.random.default_rng(0).permutation(group) if balance == "class" else None
    if label is not None:
        label = np.concatenate([label, [-1] * 100])
        counts = counts + np.array([100, 0, 0])
    index = make_index(counts, weight=np.ones(counts.sum()), label=label)
    sampler = TileSampler(
        index, 10, seed=13, balance=balance, shares=shares, replacement=replacement, epoch_size=600
    )
    seen = np.zeros(4)
    for epoch in range(10):
        rows = sampler.order(epoch)
        seen += np.bincount((index.slide if label is None else label)[rows], minlength=4)[:4]
    share = np.array(expected) / np.sum(expected)
    if not replacement:  # 600 of 3000 are drawn: the likeliest group runs out a little
        assert np.allclose(seen[:3] / seen.sum(), share, atol=0.05)
        return
    keep = share > 0
    assert seen[:3][~keep].sum() == 0
    assert chi_square(seen[:3][keep], share[keep] * 6000) < limit(keep.sum() - 1)


def test_scores_count_within_a_balanced_slide():
    index = make_index([2, 2], weight=[1, 3, 100, 300])
    sampler = TileSampler(index, 10, seed=1, balance="slide", replacement=True, epoch_size=16_000)
    seen = np.bincount(sampler.order(0), minlength=4)
    assert chi_square(seen, [2000, 6000, 2000, 6000]) < limit(3)


# Quotas


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    quota=st.integers(0, 20),
    seed=st.integers(0, 2**63),
    weighted=st.booleans(),
    block=st.none() | st.integers(1, 9),
)
def test_quotas_are_kept_and_used_up(counts, quota, seed, weighted, block):
    weight = np.arange(1, sum(counts) + 1) if weighted else None
    index = make_index(counts, weight=weight)
    sampler = TileSampler(index, 4, seed=seed, quota=quota, block=block)
    rows = sampler.order(0)
    assert len(set(rows.tolist())) == len(rows) == sampler.epoch_size
    drawn = np.bincount(index.slide[rows], minlength=len(counts))
    assert drawn.tolist() == [min(count, quota) for count in counts]


def test_each_slide_may_have_a_quota_of_its_own():
    index = make_index([20, 20, 3])
    sampler = TileSampler(index, 4, seed=1, quota=[5, 0, 9])
    assert np.bincount(index.slide[sampler.order(0)], minlength=3).tolist() == [5, 0, 3]
    assert set(sampler.order(0).tolist()) != set(sampler.order(1).tolist())


# Blocks


def test_blocks_keep_neighbours_together_and_draw_the_same_patches():
    index = make_index([640, 640])
    plain = TileSampler(index, 64, seed=9, epoch_size=1280)
    blocked = TileSampler(index, 64, seed=9, epoch_size=1280, block=16, mix=4)
    order = blocked.order(0)
    assert sorted(order) == sorted(plain.order(0))
    for start in range(0, 1280, 64):  # each batch is four blocks, shuffled
        batch = order[start : start + 64]
        assert len(np.unique(batch // 16)) == 4
        assert batch.tolist() != sorted(batch)
    firsts = order[::64] // 16
    assert firsts.tolist() != sorted(firsts)
    assert blocked.order(1).tolist() != order.tolist()


@pytest.mark.parametrize(("block", "mix"), [(1, 8), (16, 4), (16, 8), (64, 1), (64, 4)])
def test_what_blocks_cost_in_randomness_can_be_asked(block, mix):
    index = make_index([1280, 1280])
    sampler = TileSampler(index, 64, seed=2, block=block, mix=mix)
    order = sampler.order(0)
    assert sorted(order) == list(range(2560))
    batches = [draw.rows for draw in sampler.batches(0)]
    counted = [len(np.unique(rows // block)) for rows in batches]
    assert sampler.blocks_per_batch(0).tolist() == counted
    assert max(counted) <= min(64, max(mix, -(-64 // block)) + 1 if block > 1 else 64)
    assert sampler.blocks_per_batch(0).tolist() != sampler.blocks_per_batch(0, 7).tolist()


def test_a_full_shuffle_takes_each_patch_from_elsewhere():
    plain = TileSampler(make_index([5000, 5000]), 64, seed=2)
    assert plain.blocks_per_batch(0, 16).mean() > 60
    blocked = TileSampler(plain.index, 64, seed=2, block=16, mix=4)
    assert blocked.blocks_per_batch(0).mean() == pytest.approx(4, abs=0.1)
    with pytest.raises(UsageError, match="no blocks"):
        plain.blocks_per_batch(0)


def test_ranks_count_the_blocks_of_their_own_batches():
    index = make_index([400])
    ranks = [TileSampler(index, 10, block=5, mix=2, rank=r, world_size=2) for r in (0, 1)]
    for sampler in ranks:
        counted = [len(np.unique(draw.rows // 5)) for draw in sampler.batches(3)]
        assert sampler.blocks_per_batch(3).tolist() == counted


@given(st.integers(0, 200), st.integers(1, 50), st.integers(1, 9), st.booleans())
def test_blocks_lose_nothing(count, block, mix, replacement):
    options = {"epoch_size": count, "seed": 4, "replacement": replacement and count > 0}
    plain = TileSampler(make_index([count]), 8, **options)
    blocked = TileSampler(make_index([count]), 8, block=block, mix=mix, **options)
    assert sorted(blocked.order(2)) == sorted(plain.order(2))


# Ranks and workers


@given(
    count=st.integers(0, 200),
    batch_size=st.integers(1, 17),
    world=st.integers(1, 7),
    drop_last=st.booleans(),
)
def test_ranks_share_an_epoch(count, batch_size, world, drop_last):
    index = make_index([count])
    options = {"seed": 8, "drop_last": drop_last, "world_size": world}
    ranks = [TileSampler(index, batch_size, rank=rank, **options) for rank in range(world)]
    batches = [list(rank) for rank in ranks]
    numbers = {len(b) for b in batches} | {len(rank) for rank in ranks}
    assert len(numbers) == 1
    rounds = [[rank[number] for rank in batches] for number in range(numbers.pop())]
    stream = rows_of(batch for turn in rounds for batch in turn)
    whole = TileSampler(index, batch_size, seed=8).order(0)
    assert stream.tolist() == whole[: len(stream)].tolist()
    sizes = [len(batch) for turn in rounds for batch in turn]
    assert all(size >= 1 for size in sizes)
    if drop_last:
        assert set(sizes) <= {batch_size}
        assert count - len(stream) < batch_size * world
    else:
        assert set(sizes[:-world]) <= {batch_size}
        assert count - len(stream) < world


@given(st.integers(0, 90), st.integers(1, 9), st.integers(1, 5), st.integers(0, 12))
def test_workers_take_batches_in_turn(count, batch_size, workers, start):
    sampler = TileSampler(make_index([count]), batch_size, seed=1)
    alone = list(sampler.batches(3, start))
    shares = [list(sampler.batches(3, start, worker, workers)) for worker in range(workers)]
    merged = [b for turn in itertools.zip_longest(*shares) for b in turn if b is not None]
    assert [b.number for b in merged] == [b.number for b in alone]
    assert rows_of(merged).tolist() == rows_of(alone).tolist()


def test_batches_are_their_receivers_own():
    sampler = TileSampler(make_index([12]), 4, seed=1)
    whole = rows_of(sampler.batches(0)).tolist()
    seen = []
    for draw in sampler.batches(0):
        seen += draw.rows.tolist()
        assert draw.rows.base is None
        draw.rows[:] = draw.x[:] = draw.y[:] = 0
    assert seen == whole
    assert sampler.index.x.tolist() == [10 * n for n in range(12)]


# Moves


def test_moves_fill_the_spread_of_each_slide_and_depend_on_the_place_alone():
    spread = np.array([[32.0, 8.5], [1.0, 4.0]])
    index = make_index([400, 400], spread=spread)
    sampler = TileSampler(index, 64, seed=2)
    moved = {}
    for draw in sampler.batches(0):
        for row, x, y in zip(draw.rows, draw.x, draw.y, strict=True):
            moved[int(row)] = (int(x - index.x[row]), int(y - index.y[row]))
    for slide, (most_x, most_y) in enumerate([(32, 9), (1, 4)]):
        x, y = np.array([moved[row] for row in range(800) if index.slide[row] == slide]).T
        assert sorted(set(x)) == list(range(most_x))
        assert sorted(set(y)) == list(range(most_y))
    others = [
        TileSampler(index, size, seed=2, rank=rank, world_size=world)
        for size, world in ((5, 1), (16, 3))
        for rank in range(world)
    ]
    for other in others:
        for draw in other.batches(0):
            for row, x, y in zip(draw.rows, draw.x, draw.y, strict=True):
                assert moved[int(row)] == (x - index.x[row], y - index.y[row])
    again = {int(r): int(x) for d in sampler.batches(1) for r, x in zip(d.rows, d.x, strict=True)}
    assert any(again[row] - index.x[row] != moved[row][0] for row in range(400))


def test_moves_are_even():
    move = drawing.moves(1, 0, 3, np.full((20_000, 2), 10.0))
    for axis in (0, 1):
        assert chi_square(np.bincount(move[:, axis], minlength=10), np.full(10, 2000)) < limit(9)


def test_words_can_be_had_from_any_place():
    whole = drawing.words(5, 6, drawing.Purpose.CHOICE, 40)
    for start in range(12):
        part = drawing.words(5, 6, drawing.Purpose.CHOICE, 9, start)
        assert part.tolist() == whole[start : start + 9].tolist()
    assert drawing.words(5, 6, drawing.Purpose.MOVING, 40).tolist() != whole.tolist()


def test_units_lie_strictly_between_0_and_1():
    ends = drawing.unit(np.array([0, 2**64 - 1], np.uint64))
    assert 0 < ends[0] < 1e-15
    assert 1 - 1e-15 < ends[1] < 1


# One stream


def test_the_stream_is_the_one_it_always_was():
    """Changes of this hash break the resuming of runs begun with older versions."""
    index = make_index(
        [300, 200, 100],
        weight=1 + np.arange(600) % 5,
        label=np.arange(600) % 3,
        spread=np.array([[4.0, 8.0]] * 3),
    )
    kinds = [
        {},
        {"replacement": True, "epoch_size": 1000, "balance": "class"},
        {"quota": 50, "block": 8, "balance": "slide", "shares": {0: 2.0}},
    ]
    digest = hashlib.sha256(index.fingerprint.encode())
    for kind in kinds:
        for rank in range(2):
            sampler = TileSampler(index, 16, seed=2026, rank=rank, world_size=2, **kind)
            for _ in range(2):
                for draw in sampler:
                    for column in (draw.rows, draw.x, draw.y):
                        digest.update(column.astype("<i8").tobytes())
    assert digest.hexdigest() == GOLDEN


def test_passes_are_successive_epochs():
    sampler = TileSampler(make_index([20]), 6, seed=1)
    assert [(d.epoch, d.number) for d in sampler] == [(0, n) for n in range(4)]
    assert next(iter(sampler)).epoch == 1
    assert [d.epoch for d in sampler] == [2] * 4  # the one before was left early
    sampler.set_epoch(9)
    assert [d.epoch for d in sampler] == [9] * 4
    sampler.set_epoch(9)
    assert rows_of(sampler).tolist() == TileSampler(make_index([20]), 6, seed=1).order(9).tolist()


# Resuming


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"world_size": 2, "rank": 1},
        {"replacement": True, "epoch_size": 33},
        {"quota": 6, "block": 3, "balance": "slide", "shares": {0: 0.5}},
        {"drop_last": True, "epoch_size": 29},
    ],
)
def test_a_run_goes_on_from_any_batch(options):
    index = make_index([12, 9, 10], weight=np.arange(1, 32), spread=np.full((3, 2), 16.0))

    def fresh():
        return TileSampler(index, 4, seed=21, **options)

    def told(draw):
        return draw.epoch, draw.number, draw.rows.tolist(), draw.x.tolist(), draw.y.tolist()

    through = fresh()
    stream, states = [], [through.state_dict()]
    for _ in range(2):
        for draw in through:
            stream.append(told(draw))
            states.append(through.state_dict())
            assert fresh().state_dict(after=draw) == states[-1]
    per_epoch = len(through)
    for done, state in enumerate(states[: per_epoch + 1]):
        resumed = fresh()
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert resumed.state_dict() == state
        rest = [told(draw) for _ in range(2) for draw in resumed]
        assert rest[: len(stream) - done] == stream[done:]


def test_a_state_after_the_last_batch_is_the_next_epochs_beginning():
    sampler = TileSampler(make_index([8]), 4)
    list(sampler)
    state = sampler.state_dict()
    assert (state["epoch"], state["done"]) == (1, 0)


def test_naming_the_epoch_that_was_loaded_keeps_the_place():
    sampler = TileSampler(make_index([20]), 4, seed=1)
    sampler.load_state_dict({**sampler.state_dict(), "epoch": 3, "done": 2})
    sampler.set_epoch(3)
    assert [(d.epoch, d.number) for d in sampler] == [(3, 2), (3, 3), (3, 4)]
    sampler.set_epoch(3)
    assert len(list(sampler)) == 5


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 2}, "seed"),
        ({"batch_size": 5}, "batch_size"),
        ({"world_size": 2}, "world_size"),
        ({"epoch_size": 10}, "epoch_size"),
        ({"replacement": True, "epoch_size": 20}, "replacement"),
        ({"quota": 7}, "epoch_size"),
        ({"quota": 10}, "quota"),
        ({"block": 2}, "block"),
        ({"mix": 3}, "mix"),
        ({"balance": "slide"}, "balance"),
        ({"drop_last": True}, "drop_last"),
    ],
)
def test_states_of_other_samplers_are_refused_by_name(change, name):
    plain = {"seed": 1, "batch_size": 4}
    state = TileSampler(make_index([10, 10]), **plain).state_dict()
    other = TileSampler(make_index([10, 10]), **{**plain, **change})
    with pytest.raises(UsageError, match=f"saved state has {name} = "):
        other.load_state_dict(state)
    assert other.done == 0


@pytest.mark.parametrize(
    "other",
    [
        make_index([10, 11]),
        make_index([10, 10], weight=np.ones(20)),
        make_index([10, 10], label=np.zeros(20)),
        make_index([10, 10], spread=np.ones((2, 2))),
        TileIndex(
            ("a.svs", "c.svs"), *(getattr(make_index([10, 10]), n) for n in ("slide", "x", "y"))
        ),
    ],
)
def test_states_of_other_candidates_are_refused(other):
    state = TileSampler(make_index([10, 10]), 4, epoch_size=20).state_dict()
    with pytest.raises(UsageError, match="saved state has index = "):
        TileSampler(other, 4, epoch_size=20).load_state_dict(state)


@pytest.mark.parametrize("bad", [{"done": -1}, {"done": "3"}, {"epoch": None}, {"epoch": 1.5}])
def test_states_that_are_no_states_are_refused(bad):
    sampler = TileSampler(make_index([10]), 4)
    with pytest.raises(UsageError, match="expected a count"):
        sampler.load_state_dict({**sampler.state_dict(), **bad})


def test_samplers_and_draws_pickle():
    sampler = TileSampler(make_index([30], spread=np.ones((1, 2))), 4, seed=6)
    passing = iter(sampler)
    next(passing)
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy.state_dict() == sampler.state_dict()
    draw = pickle.loads(pickle.dumps(next(passing)))
    assert isinstance(draw, Draw)
    assert len(draw) == 4


# Refusals and edges


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"mix": 0}, "mix"),
        ({"block": 0}, "block"),
        ({"epoch_size": -1}, "epoch_size"),
        ({"epoch_size": 21}, "exceeds the 20 candidates"),
        ({"epoch_size": 9, "quota": 4}, "exceeds the 8 candidates"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
        ({"rank": -1}, "rank -1"),
        ({"replacement": True, "quota": 1}, "without replacement"),
        ({"balance": "patient"}, "none, slide or class"),
        ({"balance": "class"}, "needs labels"),
        ({"shares": {0: 1}}, "pass balance="),
        ({"balance": "slide", "shares": {2: 1}}, "slide 2"),
        ({"balance": "slide", "shares": {0: -1}}, "not negative"),
        ({"balance": "slide", "shares": {0: float("nan")}}, "finite"),
        ({"quota": [1]}, "one for each of 2 slides"),
        ({"quota": -1}, "one count"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TileSampler(make_index([10, 10]), **{"batch_size": 4, **options})


def test_candidates_that_cannot_be_drawn_do_not_count():
    sampler = TileSampler(make_index([4], weight=[0, 1, 0, 2]), 1)
    assert sampler.epoch_size == 2
    assert sorted(sampler.order(0)) == [1, 3]
    with pytest.raises(UsageError, match="exceeds the 0 candidates"):
        TileSampler(make_index([2], weight=[0, 0]), 1, replacement=True, epoch_size=5)


@pytest.mark.parametrize("options", [{}, {"replacement": True}, {"block": 4}, {"quota": 3}])
def test_an_empty_index_gives_no_batches(options):
    sampler = TileSampler(make_index([0, 0]), 4, **options)
    assert list(sampler) == []
    assert len(sampler) == 0
    sampler.load_state_dict(sampler.state_dict())
