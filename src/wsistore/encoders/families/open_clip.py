"""Image towers of open_clip; the text tower is neither built nor fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.families import Built, Material, load_strictly
from wsistore.encoders.packages import require
from wsistore.errors import WeightsError

_TOWER = "visual."


def build(entry: EncoderEntry, material: Material) -> Built:
    """Return the image tower, whose output is the projected embedding, not normalised."""
    require("open_clip_torch", f"encoder {entry.name}")
    from open_clip.model import _build_vision_tower

    config = _config(entry, material.config)
    module = _build_vision_tower(
        config["embed_dim"], config["vision_cfg"], bool(config.get("quick_gelu", False))
    )
    if material.state is not None:
        tower = {
            name.removeprefix(_TOWER): tensor
            for name, tensor in material.state.items()
            if name.startswith(_TOWER)
        }
        load_strictly(module, tower, entry)
    return Built(module, _embedding(module))


def _config(entry: EncoderEntry, found: dict[str, Any] | None) -> dict[str, Any]:
    """Return embed_dim, vision_cfg and quick_gelu; what came with the weights wins.

    Raises
    ------
    WeightsError
        If the registry knows that the weights need QuickGELU, and their configuration or
        open_clip's says otherwise.
    """
    import open_clip

    if found is not None:
        config = dict(found.get("model_cfg", found))
    elif "vision_cfg" in entry.arguments:
        config = {"embed_dim": entry.dim, **entry.arguments}
    else:
        config = dict(open_clip.get_model_config(entry.architecture) or {})
    # Only a transformer has the activation; the towers of ResNets use ReLU.
    has_activation = not isinstance(config.get("vision_cfg", {}).get("layers"), list | tuple)
    wanted = bool(entry.arguments.get("quick_gelu", False))
    if wanted and has_activation and not config.get("quick_gelu", False):
        raise WeightsError(
            f"encoder {entry.name} needs QuickGELU, and {entry.architecture} is configured without",
            hint="Use the configuration with -quickgelu: features would be wrong without it.",
        )
    return config


def _embedding(module: Any) -> Callable[[Any], Any]:
    def embed(x: Any) -> Any:
        made = module(x)
        # CoCa's tower gives the embedding and the tokens.
        return made[0] if isinstance(made, tuple) else made

    return embed
