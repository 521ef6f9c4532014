"""From tokens to one vector."""

from __future__ import annotations

from typing import Any

from wsistore.errors import UsageError


def pool_tokens(tokens: Any, pooling: str, prefix: int) -> Any:
    """Return features (n, d) or (n, 2 d) of tokens (n, t, d).

    Parameters
    ----------
    tokens : tensor
        Class token, register tokens, patch tokens, in this order.
    pooling : str
        ``"cls"``: the class token. ``"cls+mean"``: the class token, then the mean of the patch
        tokens.
    prefix : int
        Number of tokens before the patch tokens; register tokens are in neither part.

    Raises
    ------
    UsageError
        If there is no such pooling.
    """
    import torch

    if pooling == "cls":
        return tokens[:, 0]
    if pooling == "cls+mean":
        return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=-1)
    raise UsageError(f"there is no pooling {pooling!r} of tokens", hint="Use 'cls' or 'cls+mean'.")
