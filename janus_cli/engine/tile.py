"""How many rows a drawing batch must come in, so that no row's rounding depends on the others."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from .linear import Quantized

LARGEST_TILE = 16


def row_tile(modules: Iterable[nn.Module], *, dtype: torch.dtype, device: torch.device) -> int:
    """The smallest batch, of up to LARGEST_TILE rows, whose multiples treat all rows alike.

    A matrix product takes rows in groups, and the rows left over go through another kernel that may
    round differently; a picture's rows must round the same in every batch. Asked of the machine,
    since libraries and processors differ: 4 with fp32 on AVX2, 1 with bf16 there.
    """
    layers = (part for module in modules for part in module.modules())
    linears = (part for part in layers if isinstance(part, nn.Linear | Quantized))
    return max((smallest_tile(linear, dtype, device) for linear in linears), default=1)


@torch.inference_mode()
def smallest_tile(linear: nn.Linear | Quantized, dtype: torch.dtype, device: torch.device) -> int:
    """The smallest number of rows whose multiples, up to LARGEST_TILE, this layer treats alike."""
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(linear.in_features, generator=generator).to(device, dtype)
    most = linear(row.expand(LARGEST_TILE, -1).contiguous())
    alike = [
        bool((linear(row.expand(rows, -1).contiguous()) == most[0]).all())
        for rows in range(1, LARGEST_TILE + 1)
    ]
    for tile in (1, 2, 4, 8):
        if all(alike[tile - 1 :: tile]):
            return tile
    return LARGEST_TILE
