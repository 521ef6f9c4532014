"""Crash-safe writing: whole files, whole folders, a ledger, and what became of the work.

Public calls: `atomic_write`, `Work` (`WorkFolder`, `ObjectWork`), `Ledger`, `Outcome`,
`exit_code`, `check_settings`, `write_error`, `free_bytes`.
"""

from __future__ import annotations

from wsistore.durable.atomic import TEMP_SUFFIX, atomic_write
from wsistore.durable.failures import free_bytes, write_error
from wsistore.durable.ledger import Ledger, LedgerScan
from wsistore.durable.lock import FileLock
from wsistore.durable.model import Objects, Work
from wsistore.durable.objects import ObjectWork, clear_leftovers, plain_etag
from wsistore.durable.outcome import Outcome, exit_code
from wsistore.durable.settings import canonical, check_settings
from wsistore.durable.unfinished import partial_name, unfinished_folder, unfinished_objects
from wsistore.durable.work import WorkFolder

__all__ = [
    "TEMP_SUFFIX",
    "FileLock",
    "Ledger",
    "LedgerScan",
    "ObjectWork",
    "Objects",
    "Outcome",
    "Work",
    "WorkFolder",
    "atomic_write",
    "canonical",
    "check_settings",
    "clear_leftovers",
    "exit_code",
    "free_bytes",
    "partial_name",
    "plain_etag",
    "unfinished_folder",
    "unfinished_objects",
    "write_error",
]
