"""An encoder that runs a torch module."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.model import BaseEncoder, Facts
from wsistore.encoders.packages import versions
from wsistore.encoders.preparing import as_tensor, prepare
from wsistore.errors import DeviceError, EncoderError

log = logging.getLogger("wsistore.encoders")

Forward = Callable[[Any], Any]
"""Input of the model (n, 3, h, w) to features (n, dim), both tensors."""


class TorchEncoder(BaseEncoder):
    """Runs a module on batches of tiles, in inference mode.

    Several threads may call `encode`. Lower precisions run under ``torch.autocast``, so the
    weights stay in float32. When memory runs out, the batch is halved until it fits;
    the size found is kept and noted.

    Parameters
    ----------
    facts : Facts
        What it tells of itself.
    module : torch.nn.Module
        Moved to the device and put into evaluation mode.
    device : torch.device
        Where it runs.
    threads : int
        Of torch on the CPU.
    forward : callable, optional
        Makes features from the prepared input; the module itself by default.
    entry : EncoderEntry, optional
        From which it was made, for the versions of packages.
    """

    def __init__(
        self,
        facts: Facts,
        module: Any,
        device: Any,
        *,
        threads: int,
        forward: Forward | None = None,
        entry: EncoderEntry | None = None,
    ) -> None:
        super().__init__(facts)
        self.device = device
        self.threads = threads
        self.batch_size: int | None = None
        self._module = module.to(device).eval()
        self._forward = forward or self._module
        self._entry = entry

    def close(self) -> None:
        """Give the memory of the model back."""
        super().close()
        self._module = self._forward = None
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        """Return all that it is, with device, threads and versions, as plain JSON values."""
        return {
            **super().describe(),
            "device": str(self.device),
            "threads": self.threads,
            "batch_size": self.batch_size,
        }

    def _features(self, batch: Any) -> NDArray[np.float32]:
        tiles = as_tensor(batch)
        out = np.empty((tiles.shape[0], self.dim), np.float32)
        self._bound_threads()
        start = 0
        while start < len(out):
            count = min(self.batch_size or len(out), len(out) - start)
            features = self._attempt(tiles[start : start + count])
            if features is None:
                self._halve(count, tuple(tiles.shape[1:]))
                continue
            out[start : start + count] = features
            start += count
        return out

    def _attempt(self, tiles: Any) -> NDArray[np.float32] | None:
        """Return features (n, dim), or None where memory did not suffice."""
        import torch

        try:
            with torch.inference_mode():
                prepared = prepare(tiles.to(self.device, non_blocking=True), self.preprocessing)
                return self._checked(self._run(prepared), len(tiles))
        except torch.OutOfMemoryError:
            return None
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise EncoderError(
                    f"encoder {self.name} failed on {tuple(tiles.shape)} uint8 tiles "
                    f"on {self.device}: {str(error).strip()[:500]}"
                ) from error
            return None

    def _run(self, prepared: Any) -> Any:
        import torch

        if self._forward is None:
            raise EncoderError(f"encoder {self.name} was closed while it was in use")
        if self.facts.precision == "float32":
            return self._forward(prepared)
        dtype = getattr(torch, self.facts.precision)
        with torch.autocast(self.device.type, dtype=dtype):
            return self._forward(prepared)

    def _checked(self, features: Any, count: int) -> NDArray[np.float32]:
        import torch

        if not isinstance(features, torch.Tensor) or features.shape != (count, self.dim):
            told = getattr(features, "shape", type(features).__name__)
            raise EncoderError(
                f"encoder {self.name} returned {told} for {count} tiles, "
                f"expected ({count}, {self.dim})",
                hint="State the dimension that the model really has.",
            )
        made: NDArray[np.float32] = features.to("cpu", torch.float32).numpy()
        return made

    def _halve(self, count: int, tile: tuple[int, ...]) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        if count == 1:
            raise DeviceError(
                f"encoder {self.name}: memory of {self.device} is too small for a tile of {tile}",
                hint="Use a smaller model, a lower precision or another device.",
            )
        self.batch_size = count // 2
        note = f"out of memory with {count} tiles; batches have at most {self.batch_size} now"
        self.notes.append(note)
        log.warning("encoder %s: %s", self.name, note)

    def _bound_threads(self) -> None:
        import torch

        # Per calling thread in some builds, so it is seen to at each call; it costs nothing.
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)

    def _versions(self) -> dict[str, str]:
        return {**super()._versions(), **versions(self._entry)}


def state_sha256(module: Any) -> str:
    """Return the sha256 of the state of a module: names, dtypes, shapes and bytes, in order."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            digest.update(f"{name}={tensor!r};".encode())
            continue
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The allocators of the CPU and of MPS have no class of their own.
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
