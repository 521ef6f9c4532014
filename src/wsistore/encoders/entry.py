"""What the registry knows of an encoder, before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wsistore.encoders.model import Interpolation, Preprocessing, Triple

Family = Literal[
    "embedded", "torchvision", "timm", "transformers", "open_clip", "musk", "conch", "titan"
]
Group = Literal["embedded", "natural", "pathology", "clip", "custom"]

IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue."""
OPENAI_CLIP: tuple[Triple, Triple] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
H_OPTIMUS: tuple[Triple, Triple] = (
    (0.707223, 0.578729, 0.703617),
    (0.211883, 0.230117, 0.177517),
)
HIBOU: tuple[Triple, Triple] = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
SATELLITE: tuple[Triple, Triple] = ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
LUNIT: tuple[Triple, Triple] = (
    (0.70322989, 0.53606487, 0.66096631),
    (0.21716536, 0.26081574, 0.20723464),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderEntry:
    """One encoder of the registry.

    Parameters
    ----------
    name : str
        Name in this package, in stores and on the command line.
    group : str
        What it was trained on: ``"natural"`` images, ``"pathology"``, images with text
        (``"clip"``); ``"embedded"`` needs no training and ``"custom"`` is the caller's.
    family : str
        The library that holds its architecture.
    architecture : str
        Name of it in that library.
    arguments : mapping
        Arguments of the constructor, plain values.
    dim : int
        Length of a feature vector with the default pooling.
    pooling : str
        How tokens or cells become a vector: ``"gap"`` (mean of the cells), ``"cls"`` (class
        token), ``"cls+mean"`` (class token, then the mean of patch tokens without register
        tokens), ``"projection"`` (image embedding of a model of images and text, not
        normalised), ``"attention"`` (a pooling head of the model), ``"norm"`` (mean
        of the cells, then the final LayerNorm), ``"single-scale"``/``"multi-scale"``.
    poolings : mapping
        Other poolings that `load_encoder` takes, and their dimensions.
    input_size : int or None
        Side of the input of the model, px.
    resize : int or None
        Side to which tiles of another size are resized before the middle is cropped.
    square : bool
        Whether both sides are resized, and not the shorter one.
    interpolation : str
        ``"bilinear"`` or ``"bicubic"``, antialiased.
    mean, std : tuple of float or None
        Of red, green and blue, in 0-1.
    mpp : float or None
        Recommended pixel size, µm/px; None where the authors give none.
    tile_size : int or None
        Side of the tile to cut, px, where it is not the input size.
    source : str
        ``hub:<id>`` on the Hugging Face hub, ``torchvision:<weights>``, or ``file:`` for
        weights that have to be fetched by hand.
    file : str or None
        Name of the file with the weights in the source.
    revision : str or None
        Commit of the source that is meant; None means the newest.
    file_sha256 : str or None
        Of that file, as another project recorded it; checked at load where known.
    licence : str
        Of the weights, as the source says it.
    gated : bool or None
        Whether the hub wants a login and consent; None where unknown.
    packages : tuple of str
        What must be installed, beside torch.
    remote_code : bool
        Whether the architecture is code on the hub, which runs only if trusted.
    pickle : bool
        Whether the weights come as a pickle that needs explicit consent.
    notes : str
        What a user should know.
    doubts : str
        Where sources disagree, or what nobody here has checked.
    """

    name: str
    group: Group
    family: Family
    architecture: str
    dim: int
    pooling: str
    input_size: int | None
    resize: int | None
    mean: Triple | None
    std: Triple | None
    interpolation: Interpolation = "bilinear"
    square: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    poolings: Mapping[str, int] = field(default_factory=dict)
    mpp: float | None = None
    tile_size: int | None = None
    source: str = ""
    file: str | None = None
    revision: str | None = None
    file_sha256: str | None = None
    licence: str = ""
    gated: bool | None = False
    packages: tuple[str, ...] = ()
    remote_code: bool = False
    pickle: bool = False
    notes: str = ""
    doubts: str = ""

    @property
    def preprocessing(self) -> Preprocessing:
        """How its tiles are prepared."""
        backend = "none" if self.family == "embedded" else "torch"
        return Preprocessing(
            size=self.resize,
            crop=self.input_size,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            square=self.square,
            backend=backend,
        )

    @property
    def dims(self) -> dict[str, int]:
        """Dimension by pooling, the default first."""
        return {self.pooling: self.dim, **self.poolings}

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "name": self.name,
            "group": self.group,
            "family": self.family,
            "architecture": self.architecture,
            "arguments": dict(self.arguments),
            "dim": self.dim,
            "pooling": self.pooling,
            "dims": self.dims,
            "preprocessing": self.preprocessing.record(),
            "input_size": self.input_size,
            "mpp": self.mpp,
            "tile_size": self.tile_size or self.input_size,
            "source": self.source,
            "file": self.file,
            "revision": self.revision,
            "file_sha256": self.file_sha256,
            "licence": self.licence,
            "gated": self.gated,
            "packages": list(self.packages),
            "remote_code": self.remote_code,
            "pickle": self.pickle,
            "notes": self.notes,
            "doubts": self.doubts,
        }
