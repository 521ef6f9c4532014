"""Backbones of torchvision, their classifier dropped."""

from __future__ import annotations

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.families import Built, Material, load_strictly
from wsistore.encoders.packages import require, torch_for


def build(entry: EncoderEntry, material: Material) -> Built:
    """Return a ResNet, ConvNeXt or ViT without its last linear layer."""
    torch = torch_for(f"encoder {entry.name}")
    require("torchvision", f"encoder {entry.name}")
    from torchvision import models

    made = models.get_model(entry.architecture, weights=None, **entry.arguments)
    nothing = torch.nn.Identity()
    if hasattr(made, "fc"):  # ResNet
        head, made.fc = "fc.", nothing
    elif hasattr(made, "heads"):  # ViT
        head, made.heads = "heads.", nothing
    else:  # ConvNeXt: LayerNorm, flatten, linear
        head, made.classifier[2] = "classifier.2.", nothing
    if material.state is not None:
        load_strictly(made, material.state, entry, dropped=(head,))
    return Built(made, made)
