"""Encoders from what the caller has in memory: a torch module, or any callable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.encoders.model import (
    BaseEncoder,
    Encoder,
    Facts,
    Interpolation,
    Preprocessing,
    Triple,
    Weights,
)
from wsistore.encoders.registry import check_name
from wsistore.errors import EncoderError, UsageError


def encoder_from_module(
    module: Any,
    *,
    name: str,
    dim: int,
    input_size: int,
    mean: Sequence[float] | None = (0.485, 0.456, 0.406),
    std: Sequence[float] | None = (0.229, 0.224, 0.225),
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
    mpp: float | None = None,
    forward: Callable[[Any], Any] | None = None,
    version: str = "1",
    device: str = "cpu",
    precision: str = "float32",
    threads: int | None = None,
) -> Encoder:
    """Return an encoder that runs a torch module, which is moved and put into evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Takes (n, 3, input_size, input_size) float32, returns (n, dim).
    name : str
        Name in the feature store.
    dim : int
        Length of a feature vector.
    input_size : int
        Side of the input, px.
    mean, std : sequence of float, or None
        Of red, green and blue in 0-1; None leaves values in 0-1. ImageNet's by default.
    resize : int, optional
        Side to which tiles of another size are resized before cropping; the input size by
        default.
    interpolation : str
        ``"bilinear"`` or ``"bicubic"``, antialiased.
    mpp : float, optional
        Pixel size that the module was made for, µm/px.
    forward : callable, optional
        What to call instead of the module, such as a method of it.
    version : str
        To be changed when code that is not in the weights changes features.
    device, precision, threads
        See `load_encoder`.

    Raises
    ------
    UsageError
        If an option makes no sense.
    DependencyError
        If torch is missing.
    DeviceError
        If the device is not there.
    """
    from wsistore.encoders import devices
    from wsistore.encoders.torch_encoder import TorchEncoder, state_sha256

    check_name(name)
    _check_dim(dim, name)
    preprocessing = _preprocessing(input_size, resize, mean, std, interpolation)
    where = devices.pick_device(device)
    exact, notes = devices.pick_precision(precision, where)
    facts = Facts(
        name=name,
        dim=dim,
        input_size=input_size,
        mpp=mpp,
        preprocessing=preprocessing,
        weights=Weights("custom", type(module).__qualname__, sha256=state_sha256(module)),
        precision=exact,
        version=version,
        extra={"module": type(module).__qualname__},
    )
    bound = devices.pick_threads(threads)
    made = TorchEncoder(facts, module, where, threads=bound, forward=forward)
    made.notes += notes
    return made


def encoder_from_callable(
    function: Callable[[NDArray[np.uint8]], Any],
    *,
    name: str,
    dim: int,
    version: str,
    input_size: int | None = None,
    mpp: float | None = None,
) -> Encoder:
    """Return an encoder that calls a function of tiles.

    Parameters
    ----------
    function : callable
        Takes (n, 3, h, w) uint8, returns n vectors of `dim` numbers (array, or tensor on the
        CPU). It prepares tiles by itself.
    name : str
        Name in the feature store.
    dim : int
        Length of a feature vector.
    version : str
        Stands for the function in the fingerprint, which can't look into it: change it
        whenever the features change.
    input_size : int, optional
        Side of the tiles it wants, px.
    mpp : float, optional
        Pixel size it was made for, µm/px.

    Raises
    ------
    UsageError
        If an option makes no sense.
    """
    check_name(name)
    _check_dim(dim, name)
    if not version:
        raise UsageError(
            f"encoder {name} needs a version", hint="Any text; change it with the code."
        )
    facts = Facts(
        name=name,
        dim=dim,
        input_size=input_size,
        mpp=mpp,
        preprocessing=Preprocessing(None, None, None, None, backend="own"),
        weights=Weights("custom", getattr(function, "__qualname__", type(function).__qualname__)),
        version=version,
    )
    return CallableEncoder(facts, function)


class CallableEncoder(BaseEncoder):
    """Calls a function; see `encoder_from_callable`."""

    def __init__(self, facts: Facts, function: Callable[[NDArray[np.uint8]], Any]) -> None:
        super().__init__(facts)
        self._function = function

    def _features(self, batch: Any) -> NDArray[np.float32]:
        tiles = np.asarray(batch if isinstance(batch, np.ndarray) else batch.cpu())
        try:
            return np.asarray(self._function(tiles), dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise EncoderError(
                f"encoder {self.name} failed on {tiles.shape} uint8 tiles: {error}",
                hint="It must return an array of (n, dim) numbers.",
            ) from error


def _preprocessing(
    input_size: int,
    resize: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    interpolation: Interpolation,
) -> Preprocessing:
    if input_size < 1 or (resize is not None and resize < input_size):
        raise UsageError(
            f"input_size is {input_size} and resize {resize}",
            hint="resize must be at least input_size, and that at least 1.",
        )
    if interpolation not in {"bilinear", "bicubic"}:
        raise UsageError(
            f"there is no interpolation {interpolation!r}", hint="Use bilinear or bicubic."
        )
    if (mean is None) != (std is None):
        raise UsageError("mean and std belong together: give both or neither")
    return Preprocessing(
        size=resize or input_size,
        crop=input_size,
        mean=None if mean is None else _triple(mean, "mean"),
        std=None if std is None else _triple(std, "std"),
        interpolation=interpolation,
    )


def _triple(values: Sequence[float], what: str) -> Triple:
    if len(values) != 3 or (what == "std" and min(values) <= 0):
        raise UsageError(f"{what} must be 3 numbers{', positive' * (what == 'std')}, got {values}")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _check_dim(dim: int, name: str) -> None:
    if dim < 1:
        raise UsageError(f"encoder {name} has dim {dim}, expected at least 1")
