"""The plain layers that networks are made of; the place where a layer's precision is decided."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_TILE = 16


def blank_embedding(entries: int, width: int) -> nn.Embedding:
    """An embedding whose weights are yet to be filled.

    nn.Embedding draws normal numbers, which on the meta device, where models are built before they
    are loaded, makes torch import its compiler: more than a second at every start.
    """
    return nn.Embedding.from_pretrained(torch.empty(entries, width), freeze=False)


def row_tile(modules: Iterable[nn.Module]) -> int:
    """The smallest batch, of up to LARGEST_TILE rows, whose multiples treat all rows alike.

    A matrix product takes rows in groups, and the rows left over go through another kernel that may
    round differently; a picture's rows must round the same in every batch. Asked of the machine,
    since libraries and processors differ: 4 with fp32 on AVX2, 1 with bf16 there.
    """
    linears = (part for module in modules for part in module.modules())
    weights = (part.weight for part in linears if isinstance(part, nn.Linear))
    return max((smallest_tile(weight) for weight in weights), default=1)


def smallest_tile(weight: Tensor) -> int:
    """The smallest number of rows whose multiples this product treats alike."""
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(weight.shape[1], generator=generator).to(weight)
    most = F.linear(row.expand(2 * LARGEST_TILE, -1).contiguous(), weight)
    alike = [
        bool((F.linear(row.expand(rows, -1).contiguous(), weight) == most[0]).all())
        for rows in range(1, 2 * LARGEST_TILE + 1)
    ]
    for tile in (1, 2, 4, 8):
        if all(alike[tile - 1 :: tile]):
            return tile
    return LARGEST_TILE
