"""Fixtures of the encoders room."""

from __future__ import annotations

import logging

import numpy as np
import pytest


@pytest.fixture
def tiles():
    """Return ``tiles(n, side, seed=0)``: noise, (n, 3, side, side) uint8."""

    def make(n, side=32, seed=0):
        return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8)

    return make


@pytest.fixture
def no_network(monkeypatch):
    """Forbid the network the way a user does, and for good."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import socket

    def refuse(*_args, **_kwargs):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def licences_untold(monkeypatch):
    """Forget which licences were told in this process."""
    from wsistore.encoders import licences

    monkeypatch.setattr(licences, "_told", set())


@pytest.fixture(autouse=True)
def _threads_kept():
    """Leave the number of torch's threads as it was."""
    import sys

    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    yield
    if torch is not None:
        torch.set_num_threads(before)
    logging.getLogger("wsistore.encoders").setLevel(logging.NOTSET)
