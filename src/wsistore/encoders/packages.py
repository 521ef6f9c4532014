"""Optional packages: are they here, and what to install where they aren't."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import re
from typing import Any

from wsistore.encoders.entry import EncoderEntry
from wsistore.errors import DependencyError
from wsistore.torchvision_cure import ensure_torchvision

_MODULE_OF = {
    "open_clip_torch": "open_clip",
    "einops-exts": "einops_exts",
}
_PLAIN = {"torch", "torchvision", "timm", "transformers", "open_clip_torch", "safetensors"}


def require(package: str, why: str) -> Any:
    """Import and return a package.

    Parameters
    ----------
    package : str
        As it is installed; a version or an address after the name is ignored.
    why : str
        What needs it, for the message.

    Raises
    ------
    DependencyError
        If it is absent or can't be imported.
    """
    module = module_of(package)
    try:
        if module not in {"torch", "safetensors"}:
            importlib.import_module("torch")
            ensure_torchvision()
        return importlib.import_module(module)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise DependencyError(
            f"{why} needs {_name(package)}, which can't be imported: {_first_line(error)}",
            hint=advice(package),
        ) from error


def torch_for(why: str) -> Any:
    """Return torch, or raise `DependencyError`."""
    return require("torch", why)


def advice(package: str) -> str:
    """Return how a package is installed."""
    name = _name(package)
    if name == "torch":
        return "Install the extra 'torch': pip install 'wsistore[torch]'."
    address = re.search(r"\((.+)\)", package)
    if address is not None:
        return f"pip install '{name} @ {address[1]}'" + (
            " (and read its licence)." if name in {"musk", "conch"} else "."
        )
    if name == "torchvision":
        return "pip install torchvision of the release that belongs to your torch."
    if name in _PLAIN:
        wanted = package if package != name else ""
        return f"Install the extra 'encoders': pip install 'wsistore[encoders]' {wanted}".rstrip()
    return f"pip install {name}"


def module_of(package: str) -> str:
    """Return the name under which a package is imported."""
    name = _name(package)
    return _MODULE_OF.get(name, name)


def missing_packages(entry: EncoderEntry) -> list[str]:
    """Return the packages that an encoder needs and that are not installed here.

    Nothing is imported, so a package that is installed but broken is not seen.
    """
    if entry.family == "embedded":
        return []
    wanted = ("torch", *entry.packages)
    return [package for package in wanted if not _is_here(package)]


@functools.lru_cache(maxsize=64)
def _is_here(package: str) -> bool:
    if importlib.util.find_spec(module_of(package)) is None:
        return False
    limit = re.search(r"(>=|<)(\d+)(?:\.(\d+))?", package)
    if limit is None:
        return True
    have = _numbers(version(_name(package)))
    wanted = (int(limit[2]), int(limit[3] or 0))
    return have >= wanted if limit[1] == ">=" else have < wanted


def version(package: str) -> str:
    """Return the version of an installed package, or ``"absent"``."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def versions(entry: EncoderEntry | None) -> dict[str, str]:
    """Return the versions of torch and of the packages of an encoder."""
    names = ["torch", *(_name(package) for package in (entry.packages if entry else ()))]
    return {name: version(name) for name in names}


def _numbers(text: str) -> tuple[int, int]:
    major, minor, *_ = [*(int(part) for part in re.findall(r"\d+", text)[:2]), 0, 0]
    return major, minor


def _name(package: str) -> str:
    return re.split(r"[\s<>=(]", package, maxsplit=1)[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
