"""What became of the work."""

import dataclasses
import pickle

import pytest

from wsistore.durable import Outcome, exit_code
from wsistore.errors import UsageError


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ("", 1),
        ("done", 0),
        ("skipped", 0),
        ("done skipped", 0),
        ("failed", 1),
        ("failed failed", 1),
        ("failed done", 3),
        ("skipped failed", 3),
    ],
)
def test_exit_codes(statuses, code):
    assert exit_code(Outcome(str(i), s) for i, s in enumerate(statuses.split())) == code


def test_an_outcome_travels_and_stays_as_it_is():
    outcome = Outcome("a.svs", "failed", "WSI302", "no pages")
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.unit = "b"
    with pytest.raises(UsageError, match="maybe"):
        Outcome("a", "maybe")
