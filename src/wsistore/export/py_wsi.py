"""Reading LMDB databases of py-wsi 2.x, whose values are pickles.

A pickle can name any function to be called. So nothing is unpickled by Python's rules:
every name in the file is looked up in a short list, and gives an object of this module that
holds data and does nothing. What is not in the list ends the reading. All the same, the
caller has to consent: ``allow_pickle=True``.

As documented, a value is a record (channels, size, data, label, coords), a value of the
``_meta`` database is ``[columns, rows]``, and keys are ``<stem>-<column>-<row>``.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.export.lmdb_environment import SharedEnvironment
from wsistore.export.patch_store import PatchStore, PatchTable
from wsistore.export.patches import NO_LABEL, Patch

_MAX_VALUE = 256 << 20
_SIMPLE = (int, float, str, bytes, bool, type(None))


class PyWsiPatches(PatchStore):
    """Patches of a py-wsi database; every key is read, also the last row and column.

    Parameters
    ----------
    path : path
        Folder of the environment; ``<path>_meta`` is not needed.
    allow_pickle : bool
        Must be True: the values are pickles. They are read by a reader that can build
        records of numbers, texts, bytes and arrays, and nothing else.

    Raises
    ------
    UsageError
        Without consent.
    SourceNotFoundError
        If there is no database.
    """

    def __init__(self, path: str | os.PathLike[str], *, allow_pickle: bool = False) -> None:
        if not allow_pickle:
            raise UsageError(
                f"{os.fspath(path)} holds pickles, if py-wsi wrote it",
                hint="Pass allow_pickle=True; only plain data are built, and nothing is run.",
            )
        self.path = Path(path)
        if not (self.path / "data.mdb").is_file():
            raise SourceNotFoundError(f"there is no LMDB {self.path}")
        self._environment = SharedEnvironment(self.path)
        self._tables = _tables(self._environment.keys())
        self.slides = tuple(sorted(self._tables))
        self.label_map = MappingProxyType({})

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self.path,))

    def table(self, slide: str) -> PatchTable:
        """Return which patches there are of a slide; x and y are -1, labels not yet read."""
        self.check_slide(slide)
        return self._tables[slide]

    def patch(self, slide: str, index: int) -> Patch:
        """Return one patch of a slide, by its place in `table`.

        Raises
        ------
        StoreCorruptError
            If its value is no record.
        """
        table = self.table(slide)
        if not 0 <= index < len(table):
            raise UsageError(f"{slide} has patches 0 to {len(table) - 1}")
        key = f"{slide}-{table.column[index]}-{table.row[index]}"
        value = self._environment.get(key.encode())
        if value is None:
            raise StoreCorruptError(f"there is no key {key!r} in {self.path}")
        fields = record_fields(value, f"{key} of {self.path}")
        pixels = _pixels(fields, key)
        label = fields.get("label")
        return Patch(
            slide,
            index,
            -1,
            -1,
            int(table.column[index]),
            int(table.row[index]),
            NO_LABEL if label is None else int(label),
            "array",
            pixels.shape[1],
            pixels.shape[0],
            pixels.tobytes(),
        )

    def by_key(self, key: str) -> Patch:
        """Return a patch by ``<slide>-<column>-<row>``."""
        parts = key.rsplit("-", 2)
        if len(parts) == 3 and parts[0] in self.slides:
            table = self._tables[parts[0]]
            for index in range(len(table)):
                if key == f"{parts[0]}-{table.column[index]}-{table.row[index]}":
                    return self.patch(parts[0], index)
        raise UsageError(f"there is no patch {key!r} in {self.path}")

    def close(self) -> None:
        """Give back the environment."""
        self._environment.close()


def _reopen(path: Path) -> PyWsiPatches:
    return PyWsiPatches(path, allow_pickle=True)


def _tables(keys: Iterator[bytes]) -> dict[str, PatchTable]:
    cells: dict[str, list[tuple[int, int]]] = {}
    for key in keys:
        parts = key.rsplit(b"-", 2)
        try:
            stem, column, row = parts[0].decode(), int(parts[1]), int(parts[2])
        except (ValueError, IndexError) as error:
            raise UsageError(
                f"{key!r} is no key of py-wsi, which are <stem>-<column>-<row>"
            ) from error
        cells.setdefault(stem, []).append((row, column))
    found = {}
    for stem, places in cells.items():
        table = np.array(sorted(places), np.int64)
        unknown = np.full(len(table), -1, np.int64)
        found[stem] = PatchTable(unknown, unknown, table[:, 1], table[:, 0], unknown)
    return found


def _pixels(fields: dict[str, Any], key: str) -> NDArray[np.uint8]:
    try:
        data = fields["data"]
        sides = np.asarray(fields["size"]).reshape(-1).tolist()
        height, width = (sides * 2)[:2] if len(sides) == 1 else sides[:2]
        flat = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.asarray(data)
        pixels = flat.astype(np.uint8).reshape(int(height), int(width), int(fields["channels"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(
            f"the record {key} is none of py-wsi: it has {', '.join(map(str, fields))}"
        ) from error
    return np.ascontiguousarray(pixels[..., :3])


def record_fields(data: bytes, where: str) -> dict[str, Any]:
    """Return the fields of a pickled record, without running anything that it names.

    Parameters
    ----------
    data : bytes
        A pickle of an object with plain fields, or of a dict.
    where : str
        For messages.

    Raises
    ------
    StoreCorruptError
        If it is no such pickle: also where it names a function that is not on the list.
    """
    if len(data) > _MAX_VALUE:
        raise StoreCorruptError(f"{where} is a pickle of {len(data)} bytes")
    try:
        found = _PlainUnpickler(io.BytesIO(data)).load()
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        IndexError,
        ImportError,
        KeyError,
        MemoryError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise StoreCorruptError(f"{where} is no plain record: {error}") from error
    fields = found.fields if isinstance(found, _Record) else found
    if not isinstance(fields, dict):
        raise StoreCorruptError(f"{where} holds a {type(found).__name__}, not a record")
    return {str(name): _plain(value, where) for name, value in fields.items()}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, (*_SIMPLE, np.generic)):
        return value
    raise StoreCorruptError(f"{where} holds a {type(value).__name__}")


class _Record:
    """Stands for the object of py-wsi: keeps its fields."""

    def __init__(self, *_: object) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("its fields are no dict")
        self.fields = state


class _Dtype:
    """Stands for a numpy dtype: numbers only."""

    def __init__(self, text: str, *_: object) -> None:
        self.dtype: np.dtype[Any] = np.dtype(str(text))
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {text!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for a numpy array: takes its bytes."""

    array: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        flat = np.frombuffer(bytes(raw), kind.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


class _NdarrayType:
    """Stands for the name ``numpy.ndarray``, an argument of numpy's own rebuilding."""


def _new_array(*_: object) -> _Array:
    return _Array()


def _from_buffer(raw: Any, kind: _Dtype, shape: Any, order: str = "C") -> _Array:
    found = _Array()
    found.__setstate__((1, shape, kind, order == "F", raw))
    return found


def _new_scalar(kind: _Dtype, raw: bytes) -> Any:
    return np.frombuffer(bytes(raw), kind.dtype)[0]


def _encoded(text: str, name: str = "latin1") -> bytes:
    if name not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes as {name!r}")
    return text.encode("latin-1")


def _new_record(*_: object) -> _Record:
    return _Record()


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _NdarrayType,
    ("_codecs", "encode"): _encoded,
    ("copyreg", "_reconstructor"): _new_record,
    ("copy_reg", "_reconstructor"): _new_record,
    ("builtins", "object"): _NdarrayType,
    ("__builtin__", "object"): _NdarrayType,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _new_array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _new_scalar for core in ("core", "_core")},
}


class _PlainUnpickler(pickle.Unpickler):
    """Builds the objects of this module, whatever a pickle names."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return what stands for a name; no module is imported."""
        if module_name.partition(".")[0] == "py_wsi" and global_name.isidentifier():
            return _Record
        known = _KNOWN.get((module_name, global_name))
        if known is None:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        return known

    def persistent_load(self, pid: Any) -> Never:
        """Refuse references to things outside of the pickle."""
        raise pickle.UnpicklingError(f"it refers to {pid!r}")
