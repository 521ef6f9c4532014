"""The one pool of threads that wait for remote storage."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from wsistore import errors
from wsistore.sources import io_threads
from wsistore.sources.io_threads import REQUESTS_AT_ONCE, run_all, submit


def test_results_come_in_order_and_calls_run_side_by_side():
    together = threading.Barrier(5, timeout=20)

    def meet(number):
        together.wait()
        return number

    assert run_all([partial(meet, number) for number in range(5)]) == [0, 1, 2, 3, 4]
    assert run_all([]) == []
    here = threading.get_ident()
    assert run_all([threading.get_ident]) == [here]  # a single one is not worth a thread


def test_a_pool_full_of_functions_that_wait_for_it_comes_to_an_end():
    full = threading.Barrier(REQUESTS_AT_ONCE, timeout=60)

    def opening(number):
        if number < REQUESTS_AT_ONCE:
            full.wait()  # no thread is left for what any of them needs
        return sum(run_all([partial(int, number), partial(int, 1), partial(int, 2)]))

    openings = [submit(opening, number) for number in range(2 * REQUESTS_AT_ONCE)]
    assert [job.result(60) for job in openings] == [n + 3 for n in range(2 * REQUESTS_AT_ONCE)]


@pytest.mark.parametrize("inside", [False, True])
def test_the_first_failure_is_raised_and_what_has_not_begun_dropped(inside):
    release, failing = threading.Event(), threading.Event()
    begun = []

    def fail():
        assert failing.wait(20)
        raise errors.SourceUnavailableError("away")

    def occupy():
        begun.append(1)
        assert release.wait(20)

    # Twice as many as there are threads, and `fail` stands first.
    calls = [fail, *[occupy] * (2 * REQUESTS_AT_ONCE)]
    failing.set()
    with pytest.raises(errors.SourceUnavailableError, match="away"):
        submit(run_all, calls).result(20) if inside else run_all(calls)
    release.set()
    run_all([partial(int, n) for n in range(2 * REQUESTS_AT_ONCE)])  # the pool is free again
    assert len(begun) <= REQUESTS_AT_ONCE


def test_a_forked_child_does_not_take_the_threads_of_its_parent_for_its_own():
    assert submit(int, 3).result(20) == 3
    io_threads._forget_after_fork()
    assert submit(int, 4).result(20) == 4
