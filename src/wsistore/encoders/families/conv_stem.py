"""The convolutional stem that CTransPath has in place of a patch embedding.

Wang et al., "Transformer-based unsupervised contrastive learning for histopathological
image classification", Medical Image Analysis 81 (2022): two 3x3 convolutions of stride 2,
each with batch norm and ReLU, then a 1x1 convolution; together a patch size of 4.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class ConvStem(nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
    """Image (n, 3, h, w) to cells (n, h/4, w/4, embed_dim), as timm's Swin wants them.

    Parameters
    ----------
    img_size : int or pair of int
        Side, or height and width, of the image, px.
    patch_size : int
        Must be 4.
    in_chans : int
        Number of channels of the image.
    embed_dim : int
        Length of a cell; a multiple of 8.
    norm_layer : callable, optional
        Norm of the cells.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Any = None,
        **_: Any,
    ) -> None:
        super().__init__()
        if patch_size != 4 or embed_dim % 8:
            raise ValueError(f"ConvStem has patches of 4 px and dims by 8, got {patch_size}")
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size = (height, width)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (height // patch_size, width // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        narrow, wide = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, narrow, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, wide, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, embed_dim, kernel_size=1),
        )
        self.norm = norm_layer(embed_dim) if norm_layer is not None else nn.Identity()

    def forward(self, x: Any) -> Any:
        """Return the cells of an image."""
        return self.norm(self.proj(x).permute(0, 2, 3, 1))
