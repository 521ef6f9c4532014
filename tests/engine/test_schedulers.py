"""Running tasks: what holds when one of them fails."""

from __future__ import annotations

import threading

import pytest

from wsistore.engine.schedulers import runner


class FaultError(Exception):
    """The fault of a task."""


def test_nobody_goes_on_writing_once_a_run_has_failed():
    begun, failed, written = threading.Event(), threading.Event(), []

    def task(number):
        if number == 0:
            begun.wait(10)
            threading.Timer(0.05, failed.set).start()
            raise FaultError
        begun.set()
        failed.wait(10)
        written.append(number)

    with runner("threads", 2) as run:
        with pytest.raises(FaultError):
            list(run(task, range(2)))
        assert written == [1]
