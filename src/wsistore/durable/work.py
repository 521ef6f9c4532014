"""The crash-safe making of a folder.

While ``NAME`` is being made, all is kept in the hidden folder ``.NAME.partial`` beside it::

    .NAME.partial/
    ├── lock            held by the run that is writing (a kernel lock)
    ├── settings.json   what the store is being made with and from
    ├── ledger.jsonl    one line for each part that is finished
    ├── store/          becomes NAME by one rename
    └── replaced/       the former NAME, for the instant between two renames

Since the working files lie outside of ``store``, one rename is all there is to a commit:
before it there is no ``NAME``, after it there is a whole one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsistore.durable.atomic import atomic_write, sweep, sync_folder, sync_tree
from wsistore.durable.failures import write_error
from wsistore.durable.ledger import Ledger
from wsistore.durable.lock import FileLock
from wsistore.durable.model import Work
from wsistore.durable.settings import canonical, check_settings
from wsistore.durable.unfinished import SETTINGS, partial_name
from wsistore.errors import (
    StoreCorruptError,
    StoreExistsError,
    StoreMismatchError,
    StoreWriteError,
    UsageError,
)


class WorkFolder(Work):
    """A folder that is made under another name, and gets its own when it is whole.

    Use it in a ``with`` statement, write below `path`, note finished parts in `ledger`,
    and end with `commit`. Leaving without `commit`, by an exception or not, keeps what is
    there so that the next run resumes, unless the ledger is empty.

    It survives ``kill -9`` at any moment. A power cut may lose the last files unless
    they, and `commit`, are told to ``sync``.

    Parameters
    ----------
    final : path
        The folder to be made. Folders above it are made where missing.
    settings : mapping
        JSON-able; whatever would make another result of the same name.
    overwrite : bool
        Whether a `final` that exists is replaced. It stays until `commit`.
    restart : bool
        Whether to throw away what an earlier run left unfinished.

    Attributes
    ----------
    final : Path
        The folder to be made, absolute.
    partial : Path
        Where all is kept meanwhile.
    path : Path
        The folder to write to; exists within the ``with`` statement.
    ledger : Ledger
        What is finished; holds the entries of the earlier run where one is resumed.
    resumed : bool
        Whether the work of an earlier run was found.
    """

    def __init__(
        self,
        final: str | os.PathLike[str],
        settings: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
    ) -> None:
        self.final = Path(os.path.abspath(final))  # noqa: PTH100 (must not resolve links)
        if not self.final.name:
            raise UsageError(f"{os.fspath(final)!r} can't be the name of a store")
        self.partial = self.final.with_name(partial_name(self.final.name))
        self.path = self.partial / "store"
        self.resumed = False
        self._settings = dict(settings or {})
        self._settings_bytes = canonical(self._settings)
        self._overwrite = overwrite
        self._restart = restart
        self._settings_path = self.partial / SETTINGS
        self._replaced = self.partial / "replaced"
        self.ledger = Ledger(self.partial / "ledger.jsonl")
        self._lock = FileLock(self.partial / "lock", str(self.final))
        self._active = False
        self._pid = 0

    def __enter__(self) -> Self:
        """Take the lock, and find or begin the work.

        Raises
        ------
        StoreExistsError
            If `final` exists and is not to be overwritten.
        StoreLockedError
            If another run is making it.
        StoreMismatchError
            If an earlier run with other settings left it unfinished.
        StoreWriteError
            If the disk is full, or writing is not permitted.
        """
        # Not by pathlib, which raises where a name is too long or a folder may not be searched.
        if not os.path.lexists(self.partial):
            self._refuse_taken()
        self._lock.acquire()
        self._pid = os.getpid()
        try:
            self._begin()
        except StoreWriteError:
            self._leave()
            raise
        except OSError as error:
            self._leave()
            raise write_error(error, self.partial) from error
        except BaseException:
            self._leave()
            raise
        self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the lock; keep what is there, unless the ledger is empty."""
        # A forked child leaves through here, too; the work is its parent's.
        if not self._active or self._pid != os.getpid():
            return
        try:
            if not self.ledger.entries():
                self._clear()
        finally:
            self._leave()

    @property
    def root(self) -> str:
        """Path of the folder to write to."""
        return str(self.path)

    @property
    def head(self) -> str:
        """Path at which the documents given to `sketch` are found: `root`."""
        return str(self.path)

    def entries(self) -> list[dict[str, Any]]:
        """Return what the ledger holds, also of earlier runs."""
        return self.ledger.entries()

    def append(self, key: str, entry: Mapping[str, Any]) -> None:
        """Note in the ledger that a part is finished; see `Work.append`."""
        del key  # lines are told apart by what they hold
        self.ledger.append(entry)

    def write(self, key: str, data: bytes) -> None:
        """Write a small file below `path`, whole or not at all; folders are made.

        Raises
        ------
        StoreWriteError
            If the disk is full, or writing is not permitted.
        """
        path = self.path / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, path) from error
        atomic_write(path, data)

    def sketch(self, key: str, data: bytes) -> None:
        """Write a document below `path`: nobody else looks there."""
        self.write(key, data)

    def listing(self) -> None:
        """Return None: files are read to know whether they are whole."""

    def finish(self, last: Mapping[str, bytes]) -> bool:
        """Write the last documents, and give the folder its name; see `commit`."""
        for key, data in last.items():
            self.write(key, data)
        self.commit()
        return True

    def commit(self, *, keep_ledger: str = "", sync: bool = False) -> None:
        """Give the folder its final name.

        Parameters
        ----------
        keep_ledger : str
            Name under which the ledger is kept within the store; empty: it goes.
        sync : bool
            Whether to wait until all files are on the disk before, and the name after.

        Raises
        ------
        StoreExistsError
            If `final` has appeared meanwhile, and is not to be overwritten.
        StoreWriteError
            If the renaming failed (all is kept for the next run), or the working files
            could not be removed after it.
        UsageError
            If it is called outside of the ``with`` statement, or twice.
        """
        self._need_active()
        try:
            if keep_ledger:
                atomic_write(self.path / keep_ledger, self.ledger.read_bytes(), sync=sync)
            if sync:
                sync_tree(self.path)
            self._rename()
            if sync:
                sync_folder(self.final.parent)
        except StoreWriteError:
            raise
        except OSError as error:
            raise write_error(error, self.final) from error
        self.discard()

    def discard(self) -> None:
        """Throw away all that lies under the working name, and free the lock.

        Raises
        ------
        StoreWriteError
            If it can't be removed.
        UsageError
            If it is called outside of the ``with`` statement, or twice.
        """
        self._need_active()
        try:
            self._clear()
        finally:
            self._leave()

    def _begin(self) -> None:
        """Look at what is there, under the lock, and make ready to write."""
        self._restore_replaced()
        # A commit that was killed while it cleaned up has left no store: nothing to resume.
        begun = self._settings_path.exists() and self.path.is_dir() and not self._restart
        if not begun:
            self._clear()
        self._refuse_taken()
        if begun:
            self._check_settings()
            sweep(self.path)
            self.resumed = True
            return
        atomic_write(self._settings_path, self._settings_bytes)
        self.path.mkdir()

    def _refuse_taken(self) -> None:
        if not self._overwrite and os.path.lexists(self.final):
            raise StoreExistsError(
                f"{self.final} exists", hint="Choose another name, or have it overwritten."
            )

    def _check_settings(self) -> None:
        hint = f"Use those again, or remove {self.partial} to begin anew."
        try:
            found = json.loads(self._settings_path.read_bytes())
        except ValueError as error:
            raise StoreCorruptError(
                f"{self._settings_path} is damaged: {error}", hint=hint
            ) from error
        try:
            check_settings(found, self._settings, name=f"the unfinished {self.final}")
        except StoreMismatchError as error:
            raise StoreMismatchError(error.message, hint=hint) from None

    def _restore_replaced(self) -> None:
        """Give the former store its name back, where a kill came between two renames."""
        if os.path.lexists(self._replaced) and not os.path.lexists(self.final):
            self._replaced.rename(self.final)

    def _rename(self) -> None:
        self._refuse_taken()
        former = os.path.lexists(self.final)
        if former:
            _remove(self._replaced)
            self.final.rename(self._replaced)
        try:
            self.path.rename(self.final)
        except OSError:
            if former:
                self._replaced.rename(self.final)
            raise

    def _clear(self) -> None:
        """Remove all but the lock; the settings first, for without them nothing resumes."""
        self.ledger.close()
        try:
            for path in (self._settings_path, self.ledger.path, self.path, self._replaced):
                _remove(path)
            sweep(self.partial)
        except OSError as error:
            raise write_error(error, self.partial) from error

    def _leave(self) -> None:
        self._active = False
        self.ledger.close()
        self._lock.release()
        with contextlib.suppress(OSError):  # not empty: kept for the next run
            self.partial.rmdir()

    def _need_active(self) -> None:
        if not self._active:
            raise UsageError(f"{self.final} is not being made (any more)")


def _remove(path: Path) -> None:
    """Remove a file or a tree, if it is there; links are removed, not followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
