"""A step of the decoder through all layers in one call of the kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import LanguageConfig
from ..kv_cache import Cache
from .matrix import LANES, Description, Matrix, loaded

PAIRS = 32  # head sizes are a multiple of this


@dataclass(frozen=True)
class LayerWeights:
    """What a layer of the decoder is made of."""

    qkv: Matrix
    out: Matrix
    gate_up: Matrix
    down: Matrix
    attention_norm: Tensor
    """fp32 (D,), as the other one."""
    mlp_norm: Tensor


class Layer(ctypes.Structure):
    """Layer of step.c."""

    _fields_ = (
        *((name, Description) for name in ("qkv", "out", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm", "keys", "values")),
    )


class Shape(ctypes.Structure):
    """Shape of step.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("layers", "width", "heads", "kv_heads")),
        *((name, ctypes.c_int32) for name in ("head_size", "intermediate", "rows")),
        *((name, ctypes.c_int32) for name in ("capacity", "threads", "sharing")),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("slots", "leaders", "shared", "cos", "sin")),
    )


class KernelStep:
    """The layers of one decoder, whose step it computes."""

    def __init__(self, config: LanguageConfig, layers: Sequence[LayerWeights]) -> None:
        self.kept = layers  # what the pointers below point into
        self.layers = (Layer * len(layers))(*(layer_of(weights) for weights in layers))
        self.shape = Shape(
            layers=len(layers),
            width=config.hidden_size,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_size=config.head_size,
            intermediate=config.intermediate_size,
            epsilon=config.norm_eps,
        )

    @staticmethod
    def takes(config: LanguageConfig) -> bool:
        """Whether a decoder has sizes that the kernel can compute."""
        even = config.hidden_size % LANES == 0 and config.intermediate_size % LANES == 0
        return even and config.head_size % PAIRS == 0

    def __call__(self, x: Tensor, cache: Cache, slots: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Embeddings (B, D) of one position each to the states (B, D) after all layers, fp32.

        Their keys and values are put into the cache.

        Args:
            slots: int64 (B,), which the step fills.
            cos, sin: fp32 (B, ..., E) of the rotary positions, as Decoder.rope gives them.
        """
        states = x.to(torch.float32, copy=True).contiguous()
        cos, sin = cos.contiguous(), sin.contiguous()
        # Copies, since another thread may be stepping with another cache.
        layers = type(self.layers).from_buffer_copy(self.layers)
        shape = Shape.from_buffer_copy(self.shape)
        for layer, keys, values in zip(layers, cache.keys, cache.values, strict=True):
            layer.keys, layer.values = keys.data_ptr(), values.data_ptr()
        shape.rows, shape.capacity = len(x), cache.capacity
        shape.threads = torch.get_num_threads()
        shape.slots, shape.cos, shape.sin = slots.data_ptr(), cos.data_ptr(), sin.data_ptr()
        numbers = ctypes.c_int32 * len(x)
        found = cache.leaders(len(x))
        leaders = numbers(*(leader for leader, _ in found))
        shared = numbers(*(length // PAIRS * PAIRS for _, length in found))
        shape.sharing = any(shared)
        shape.leaders, shape.shared = ctypes.addressof(leaders), ctypes.addressof(shared)
        if loaded().janus_step(
            ctypes.addressof(shape), ctypes.addressof(layers), states.data_ptr()
        ):
            raise MemoryError("a step of the decoder")
        return states


def layer_of(weights: LayerWeights) -> Layer:
    """The same for the kernel; keys and values are told at every step."""
    return Layer(
        weights.qkv.description,
        weights.out.description,
        weights.gate_up.description,
        weights.down.description,
        weights.attention_norm.data_ptr(),
        weights.mlp_norm.data_ptr(),
    )
