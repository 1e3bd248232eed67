"""Checkpoints that transformers saved after bitsandbytes had quantized them.

Their tensors are read as the numbers they stand for; quantized again to the same kind, which takes
the same largest number of each group, these give the same codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from .bits import library
from .tensors import Stored

STATE = ".quant_state.bitsandbytes__"
PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")


def precision(config: Mapping[str, Any], path: Path) -> str:
    """What a `quantization_config` says that the weights were quantized to: int8 or nf4.

    fp4 is taken for nf4, the nearest that is run here.
    """
    if config.get("quant_method") != "bitsandbytes":
        method = config.get("quant_method")
        raise ModelError(f"{path}: quantized by {method!r}; only bitsandbytes is read")
    return "nf4" if config.get("load_in_4bit") else "int8"


def widened(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The same tensors with every quantized weight in the place of its parts."""
    plain = dict(tensors)
    for name in tensors:
        if STATE in name:
            weight, _, kind = name.partition(STATE)
            parts = {part: plain.pop(f"{weight}.{part}", None) for part in PARTS}
            state = plain.pop(name)
            shape = json.loads(bytes(state.read().tolist()))["shape"]
            found = {part: stored for part, stored in parts.items() if stored is not None}
            found[STATE[1:] + kind] = state
            plain[weight] = Stored(tuple(shape), partial(widen_4bit, tensors[weight], found))
        elif name.endswith(".SCB"):
            weight = name.removesuffix("SCB") + "weight"
            scale = plain.pop(name)
            plain.pop(f"{weight}_format", None)
            read = partial(widen_8bit, tensors[weight], scale)
            plain[weight] = replace(tensors[weight], read=read)
    return plain


def widen_4bit(packed: Stored, parts: Mapping[str, Stored]) -> Tensor:
    """A weight (N, K) fp32 from its bytes and bitsandbytes' record of how they were made."""
    functional = library().functional
    read = {part: stored.read() for part, stored in parts.items()}
    state = functional.QuantState.from_dict(read, device=torch.device("cpu"))
    state.dtype = torch.float32
    return functional.dequantize_4bit(packed.read(), state)


def widen_8bit(codes: Stored, scale: Stored) -> Tensor:
    """A weight (N, K) fp32 from its codes and the largest number of each row."""
    return codes.read().float() * (scale.read().float() / 127)[:, None]
