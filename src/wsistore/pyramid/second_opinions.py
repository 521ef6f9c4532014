"""What other validators say, where they are installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from wsistore.pyramid.findings import Findings
from wsistore.pyramid.groups import Group

_SAID_NO = (
    ValueError,  # pydantic's ValidationError, yaozarrs' StorageValidationError
    TypeError,
    LookupError,
    ArithmeticError,  # zarr: values that don't fit, chunks of no size
    AttributeError,
    RuntimeError,  # ome-zarr-models: no model fits
    OSError,
)
_LONGEST = 500


def ask_ome_zarr_models(path: str, image: Group, out: Findings) -> None:
    """Report what ome-zarr-models finds in a local store; nothing if it is not installed."""
    try:
        import zarr
        from ome_zarr_models.v04.image import Image as Image04
        from ome_zarr_models.v05.image import Image as Image05
    except ImportError:
        return
    model: Any = Image05 if image.zarr_format == 3 else Image04
    zarr_format: Any = image.zarr_format
    _ask(
        lambda: model.from_zarr(zarr.open_group(path, mode="r", zarr_format=zarr_format)),
        "ome-zarr-models",
        out,
    )


def ask_yaozarrs(path: str, image: Group, out: Findings) -> None:
    """Report what yaozarrs finds in a local store; nothing if it is not installed."""
    try:
        import yaozarrs
    except ImportError:
        return
    if find_spec("fsspec") is None:  # it reads stores through it
        inner = image.attributes.get("ome") if image.zarr_format == 3 else image.attributes
        inner = dict(inner) if isinstance(inner, Mapping) else {}
        _ask(lambda: yaozarrs.validate_ome_object(inner), "yaozarrs", out)
        return
    _ask(lambda: yaozarrs.validate_zarr_store(path), "yaozarrs", out)


def _ask(question: Callable[[], object], code: str, out: Findings) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            question()
        except _SAID_NO as error:
            out.must(False, code, f"{type(error).__name__}: {_shortened(error)}")
    for warning in warned:
        out.should(False, code, _shortened(warning.message))


def _shortened(message: object) -> str:
    return " ".join(str(message).split())[:_LONGEST]
