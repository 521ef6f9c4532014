"""Names of encoders, and what is known of each."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from wsistore.encoders import embedded, language, natural, pathology
from wsistore.encoders.aliases import ALIASES
from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.model import Encoder
from wsistore.errors import UsageError

Loader = Callable[..., Encoder]
"""Makes an encoder: ``loader(device=..., precision=..., threads=...)``."""


@dataclass
class EncoderRegistry:
    """Encoders by name: the built-in entries and those that were added.

    Adding is safe from several threads; reading needs no lock.
    """

    entries: dict[str, EncoderEntry] = field(default_factory=dict)
    loaders: dict[str, Loader] = field(default_factory=dict)
    plugins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that a plug-in file added, by its path and content."""
    problems: list[str] = field(default_factory=list)
    """What failed when packages were asked for encoders."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, entry: EncoderEntry, loader: Loader | None = None) -> None:
        """Add an encoder.

        Parameters
        ----------
        entry : EncoderEntry
            What is known of it.
        loader : callable, optional
            Makes it, where no built-in family does.

        Raises
        ------
        UsageError
            If the name is taken, or can't be a name in a store.
        """
        check_name(entry.name)
        with self._lock:
            if canonical(entry.name, self.entries) is not None:
                raise UsageError(
                    f"an encoder {entry.name!r} is known already",
                    hint="Give yours another name.",
                )
            self.entries[entry.name] = entry
            if loader is not None:
                self.loaders[entry.name] = loader

    def get(self, name: str) -> EncoderEntry:
        """Return the entry of a name or an alias.

        Raises
        ------
        UsageError
            If there is none; the hint names the nearest ones.
        """
        wanted = canonical(name, self.entries)
        if wanted is None:
            raise _unknown(name, [*self.entries, *ALIASES])
        return self.entries[wanted]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and canonical(name, self.entries) is not None

    def names(self) -> list[str]:
        """Return the names, without aliases, in the order of the tables."""
        return list(self.entries)


def canonical(name: str, known: Iterable[str]) -> str | None:
    """Return the name that a spelling stands for, or None.

    Case does not matter, nor does ``-`` against ``_``.
    """
    spelled = _plain(name)
    spelled = _plain(ALIASES.get(spelled, spelled))
    return next((one for one in known if _plain(one) == spelled), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def check_name(name: str) -> None:
    """Check that a name can be one of a variable in a store.

    Raises
    ------
    UsageError
        If it is empty, too long, or holds more than letters, digits, ``_``, ``-`` and ``.``.
    """
    sound = name and len(name) <= 100 and name[0].isalnum()
    if not sound or not all(one.isascii() and (one.isalnum() or one in "_-.") for one in name):
        raise UsageError(
            f"{name!r} can't be the name of an encoder",
            hint="Use letters, digits, '_', '-' and '.', starting with a letter or digit.",
        )


@cache
def encoder_registry() -> EncoderRegistry:
    """Return the registry of this process: built-in entries, and those of packages."""
    from wsistore.encoders.plugins import load_entry_points

    made = EncoderRegistry()
    for table in (embedded, natural, pathology, language):
        for entry in table.ENTRIES:
            made.add(entry)
    load_entry_points(made)
    return made


def _unknown(name: str, known: Iterable[str]) -> UsageError:
    close = difflib.get_close_matches(_plain(name), list(known), n=5, cutoff=0.55)
    hint = f"Did you mean {', '.join(close)}?" if close else "`wsistore encoders` lists them."
    return UsageError(f"there is no encoder {name!r}", hint=hint)
