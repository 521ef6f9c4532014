"""Attributes that are computed when they are first asked for.

As `functools.cached_property`, without its lock: below Python 3.12 that is one for all
objects of a class, is held while the value is computed, and so may be left locked in a
forked child. Two threads may compute a value twice here, so it must come out the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from functools import cached_property as lazy
else:

    class lazy:  # noqa: N801 (used as a decorator)
        """A method whose value becomes an attribute of that name on first access."""

        def __init__(self, compute: Callable[[Any], Any]) -> None:
            self.compute = compute
            self.name = compute.__name__
            self.__doc__ = compute.__doc__

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.name] = self.compute(instance)
            return value


__all__ = ["lazy"]
