"""The plain layers that networks are made of; the place where a layer's precision is decided."""

from __future__ import annotations

import torch
from torch import nn


def blank_embedding(entries: int, width: int) -> nn.Embedding:
    """An embedding whose weights are yet to be filled.

    nn.Embedding draws normal numbers, which on the meta device, where models are built before they
    are loaded, makes torch import its compiler: more than a second at every start.
    """
    return nn.Embedding.from_pretrained(torch.empty(entries, width), freeze=False)
