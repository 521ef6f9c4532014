"""What an encoder is, and what is kept of it beside its features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import EncoderError, UsageError

Triple = tuple[float, float, float]
Interpolation = Literal["bilinear", "bicubic"]
WeightsKind = Literal["pretrained", "random", "file", "builtin", "custom"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a tile becomes the input of a model.

    A tile of ``(crop, crop)`` px enters as it is. Any other is resized, then the middle is
    cropped, then values are scaled to 0-1 and normalised by channel.

    Parameters
    ----------
    size : int or None
        Side after resizing, px; None where tiles of any size enter as they are.
    crop : int or None
        Side of the input of the model, px; at most `size`.
    mean, std : tuple of float or None
        Of red, green and blue, of values in 0-1; None where the encoder takes bytes.
    interpolation : str
        ``"bilinear"`` or ``"bicubic"``, always with antialiasing.
    square : bool
        Whether both sides become `size`; otherwise the shorter side does, and the longer
        one keeps the aspect. The same for square tiles.
    backend : str
        What resizes: implementations differ (by at most 1 grey level for bilinear, by up
        to 20 for bicubic on noise).
    """

    size: int | None
    crop: int | None
    mean: Triple | None
    std: Triple | None
    interpolation: Interpolation = "bilinear"
    square: bool = False
    backend: str = "torch"

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        told = asdict(self)
        for name in ("mean", "std"):
            told[name] = None if told[name] is None else list(told[name])
        return told


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the numbers of a model came from.

    Parameters
    ----------
    kind : str
        ``"pretrained"``, ``"random"``, ``"file"``, ``"builtin"`` (no weights, the method
        itself) or ``"custom"`` (a model of the caller's).
    source : str
        Id of a hub, name of a weight set, or name of the file.
    revision : str or None
        Commit or version, where known.
    sha256 : str or None
        Of the loaded state: names, dtypes, shapes and bytes of all tensors, before any
        change of precision. None where there is no state to read, as in a callable.
    seed : int or None
        Of random weights.
    """

    kind: WeightsKind
    source: str
    revision: str | None = None
    sha256: str | None = None
    seed: int | None = None

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @property
    def tag(self) -> str:
        """The kind in one word, for a fingerprint: ``"random-0"``."""
        return f"random-{self.seed}" if self.kind == "random" else self.kind


@runtime_checkable
class Encoder(Protocol):
    """Tiles in, feature vectors out.

    Attributes
    ----------
    name : str
        Name in the feature store.
    dim : int
        Length of a feature vector.
    input_size : int or None
        Side, px, of tiles that enter without resizing; None where any size does.
    mpp : float or None
        Pixel size that the encoder was made for, µm/px, where known.
    preprocessing : Preprocessing
        How tiles are prepared.
    weights : Weights
        Where the numbers came from.
    fingerprint : str
        Same fingerprint, same features: ``name:kind of weights:hash``. The hash covers
        name, dim, preprocessing, pooling, precision and weights; not the device, the batch
        size or the versions of libraries, which `describe` tells.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def input_size(self) -> int | None: ...  # noqa: D102
    @property
    def mpp(self) -> float | None: ...  # noqa: D102
    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102
    @property
    def weights(self) -> Weights: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def encode(self, batch: Any) -> NDArray[np.float32]:
        """Return the features of a batch, (n, dim) float32.

        Parameters
        ----------
        batch : (n, 3, h, w) uint8 array or tensor
            Red, green and blue. The features of a tile do not depend on the others in the
            batch, nor on n: to 1e-5 of the largest value on a CPU in float32, since sums
            are taken in another order.

        Raises
        ------
        UsageError
            If the batch is not of that form.
        EncoderError
            If the model returns something else than n vectors of `dim` numbers.
        DeviceError
            If memory does not suffice for a single tile.
        """

    def describe(self) -> dict[str, Any]:
        """Return name, dim, sizes, preprocessing, weights and versions as plain JSON."""

    def close(self) -> None:
        """Give the memory of the model back; `encode` must not be called after it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an encoder of this package tells of itself; see `Encoder`.

    Parameters
    ----------
    pooling : str
        How tokens or cells become one vector.
    precision : str
        Of the computation: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    version : str
        Changed by hand whenever the same weights would give other features.
    extra : mapping
        What else changes features, such as arguments of the constructor.
    """

    name: str
    dim: int
    input_size: int | None
    mpp: float | None
    preprocessing: Preprocessing
    weights: Weights
    pooling: str = "none"
    precision: str = "float32"
    version: str = "1"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return all that the features depend on as plain JSON values."""
        return {
            "name": self.name,
            "dim": self.dim,
            "input_size": self.input_size,
            "mpp": self.mpp,
            "preprocessing": self.preprocessing.record(),
            "weights": self.weights.record(),
            "pooling": self.pooling,
            "precision": self.precision,
            "version": self.version,
            "extra": dict(self.extra),
        }

    @property
    def fingerprint(self) -> str:
        """``name:kind:hash``; see `Encoder`."""
        told = self.record()
        del told["mpp"]  # advice; it changes no feature
        if told["weights"]["sha256"] is not None:
            # The state itself tells all: where it lay does not matter.
            told["weights"] = {"sha256": told["weights"]["sha256"]}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{self.name}:{self.weights.tag}:{digest[:32]}"


class BaseEncoder:
    """The part that all encoders of this package have alike.

    Parameters
    ----------
    facts : Facts
        What it tells of itself.

    Attributes
    ----------
    reads_pixels : bool
        False where features do not depend on pixels, so that reading may be left out.
    concurrent : bool
        Whether several threads gain from calling `encode` at a time. Models of torch use
        several threads by themselves, and take turns.
    notes : list of str
        What happened otherwise than asked: precision changed, batches halved.
    """

    reads_pixels: bool = True
    concurrent: bool = False

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.notes: list[str] = []
        self._closed = False

    @property
    def name(self) -> str:
        """Name in the feature store."""
        return self.facts.name

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.facts.dim

    @property
    def input_size(self) -> int | None:
        """Side, px, of tiles that enter without resizing; None where any size does."""
        return self.facts.input_size

    @property
    def mpp(self) -> float | None:
        """Pixel size that the encoder was made for, µm/px, where known."""
        return self.facts.mpp

    @property
    def preprocessing(self) -> Preprocessing:
        """How tiles are prepared."""
        return self.facts.preprocessing

    @property
    def weights(self) -> Weights:
        """Where the numbers came from."""
        return self.facts.weights

    @property
    def fingerprint(self) -> str:
        """Same fingerprint, same features."""
        return self.facts.fingerprint

    def describe(self) -> dict[str, Any]:
        """Return all of it, with versions of libraries, as plain JSON values."""
        return {
            **self.facts.record(),
            "fingerprint": self.fingerprint,
            "versions": self._versions(),
            "notes": list(self.notes),
        }

    def encode(self, batch: Any) -> NDArray[np.float32]:
        """Return the features of a batch, (n, dim) float32; see `Encoder.encode`."""
        if self._closed:
            raise UsageError(f"encoder {self.name} is closed", hint="Load it again.")
        check_batch(batch, self.name)
        if batch.shape[0] == 0:
            return np.empty((0, self.dim), np.float32)
        features = self._features(batch)
        if features.shape != (batch.shape[0], self.dim):
            raise EncoderError(
                f"encoder {self.name} returned shape {features.shape} for {batch.shape[0]} "
                f"tiles, expected {(batch.shape[0], self.dim)}",
                hint="State the dimension that the model really has.",
            )
        return features

    def close(self) -> None:
        """Give the memory of the model back."""
        self._closed = True

    def _features(self, batch: Any) -> NDArray[np.float32]:
        raise NotImplementedError

    def _versions(self) -> dict[str, str]:
        from wsistore._version import __version__

        return {"wsistore": __version__, "numpy": np.__version__}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fingerprint} dim={self.dim}>"


def check_batch(batch: Any, name: str) -> None:
    """Check that a batch is (n, 3, h, w) uint8, array or tensor.

    Raises
    ------
    UsageError
        If it is not.
    """
    shape = tuple(getattr(batch, "shape", ()))
    dtype = str(getattr(batch, "dtype", type(batch).__name__)).removeprefix("torch.")
    if len(shape) != 4 or shape[1] != 3 or dtype != "uint8" or 0 in shape[2:]:
        channels_last = len(shape) == 4 and shape[3] == 3
        raise UsageError(
            f"encoder {name} takes (n, 3, h, w) uint8, got {shape} {dtype}",
            hint="Transpose to channels first: batch.transpose(0, 3, 1, 2)."
            if channels_last
            else "Give red, green and blue as bytes, channels first.",
        )
