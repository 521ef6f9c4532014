"""Segmentation by SAM 2 (Ravi et al., 2024), through ``transformers.Sam2Model``.

No weights come with this package. The thumbnail is stretched to the square that the model
takes, the whole frame is the prompt box, and tissue is where the logit of the mask,
enlarged to the thumbnail, is above 0.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.errors import DependencyError, SourceNotFoundError, UsageError
from wsistore.tissue.segmenter import THUMBNAIL_MPP, Mask, Thumbnail, check_thumbnails
from wsistore.torchvision_cure import ensure_torchvision

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Of ImageNet, as the image processor of SAM 2 has them."""


@dataclass(frozen=True)
class Sam2Segmenter:
    """Tissue by a SAM 2 model that was trained to find it.

    Parameters
    ----------
    weights : str
        Folder with ``config.json`` and ``model.safetensors``, or the id of a repository on
        the Hugging Face hub. Other formats than safetensors are refused.
    revision : str, optional
        Commit of the repository on the hub; state it for runs that must be repeatable.
    device : str
        Device of torch, such as ``"cpu"`` or ``"cuda:0"``.
    batch_size : int
        Thumbnails in one pass.
    threshold : float
        Logit from which there is tissue.
    local_only : bool
        Whether to do without the network: the weights must be in a folder or in the cache.

    Raises
    ------
    UsageError
        If a value makes no sense.
    """

    name = "sam2"
    thumbnail_mpp = THUMBNAIL_MPP
    thumbnail_side = 1024

    weights: str
    revision: str | None = None
    device: str = "cpu"
    batch_size: int = 1
    threshold: float = 0.0
    local_only: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.weights:
            raise UsageError("weights is a folder or the id of a repository on the hub")
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def parameters(self) -> dict[str, Any]:
        """What the mask depends on: the weights by name and, from a folder, by content."""
        told = {"weights": Path(self.weights).name, "threshold": self.threshold}
        if Path(self.weights).is_dir():
            return told | {"sha256": self._weights_hash}
        return told | {"weights": self.weights, "revision": self.revision}

    def segment(
        self, thumbnails: Sequence[Thumbnail], mpps: Sequence[float | None] | None = None
    ) -> list[Mask]:
        """Return a mask for each thumbnail; see `Segmenter.segment`.

        Raises
        ------
        DependencyError
            If torch or transformers is not installed.
        SourceNotFoundError
            If there are no such weights.
        UsageError
            If the weights are not of this model, or a thumbnail is no image.
        """
        check_thumbnails(thumbnails, mpps)
        masks: list[Mask] = []
        for start in range(0, len(thumbnails), self.batch_size):
            part = thumbnails[start : start + self.batch_size]
            logits = self._logits(np.stack([self._prepared(pixels) for pixels in part]))
            for pixels, logit in zip(part, logits, strict=True):
                size = (pixels.shape[1], pixels.shape[0])
                enlarged = cv2.resize(logit, size, interpolation=cv2.INTER_LINEAR)
                masks.append(enlarged > self.threshold)
        return masks

    def _prepared(self, pixels: Thumbnail) -> NDArray[np.float32]:
        """Return the (3, side, side) float32 that the model takes."""
        resized = cv2.resize(pixels, (self._side, self._side), interpolation=cv2.INTER_LINEAR)
        scaled = (resized.astype(np.float32) / 255 - _MEAN) / _DEVIATION
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    def _logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        frame = [0.0, 0.0, float(self._side), float(self._side)]
        boxes = torch.tensor([[frame]] * len(batch), device=self.device)
        with torch.inference_mode():
            found = self._model(
                pixel_values=torch.from_numpy(batch).to(self.device),
                input_boxes=boxes,
                multimask_output=False,
            )
        # (batch, prompts, masks, h, w), with one prompt and one mask.
        logits: NDArray[np.float32] = found.pred_masks[:, 0, 0].float().cpu().numpy()
        return logits

    @functools.cached_property
    def _model(self) -> Any:
        try:
            ensure_torchvision()
            from transformers import Sam2Model
        except ImportError as error:
            raise DependencyError(
                f"sam2 needs torch and transformers: {error}",
                hint="pip install 'wsistore[encoders]'",
            ) from error
        try:
            model = Sam2Model.from_pretrained(
                self.weights,
                revision=self.revision,
                use_safetensors=True,
                local_files_only=self.local_only,
            )
        except OSError as error:
            raise SourceNotFoundError(
                f"no SAM 2 weights in safetensors at {self.weights!r}: {_first_line(error)}",
                hint="Name a folder with config.json and model.safetensors, or a hub id.",
            ) from error
        return model.to(self.device).eval()

    @functools.cached_property
    def _side(self) -> int:
        return int(self._model.config.prompt_encoder_config.image_size)

    @functools.cached_property
    def _weights_hash(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(Path(self.weights).glob("*.safetensors")):
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
