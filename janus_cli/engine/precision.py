"""How the weights are held and in what numbers the networks compute, chosen for a machine.

The timings behind the choices are those of `benchmarks/precisions.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..errors import ModelError
from .config import Config, JanusConfig
from .flow import JanusFlow
from .int4 import Int4Linear
from .int8 import Int8Linear
from .kernel.library import kernel
from .kv_cache import cache_bytes
from .linear import BF16Linear, HalfLinear, Quantized
from .machine import processor
from .model import Janus, Reader
from .nf4 import NF4Linear

PLAIN = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAYERS: dict[str, type[Quantized]] = {"int8": Int8Linear, "int4": Int4Linear, "nf4": NF4Linear}
PROGRAM = 1 << 29  # bytes of Python, torch and activations
CAPACITY = 1024  # positions: a prompt and a picture
AMPERE = (8, 0)  # the first CUDA capability with products in bf16, which packed int4 wants


@dataclass(frozen=True)
class Precision:
    """What becomes of the numbers of a checkpoint on a device."""

    name: str
    compute: torch.dtype
    """Activations, norms, convolutions."""
    stored: torch.dtype
    """Embeddings and the matrices that are not quantized."""
    layer: type[Quantized] | None = None
    """What the projections of the decoder's layers become; the rest stays in 16 bits."""

    @property
    def pixels(self) -> torch.dtype:
        """The VQ tokenizer, the VAE and the networks around it; fp16 overflows in them."""
        return torch.float32 if self.compute == torch.float16 else self.compute


def make_precision(name: str, device: torch.device) -> Precision:
    """The precision `name` on a device.

    Raises:
        ModelError: the device cannot run it.
    """
    half = wide = PLAIN.get(name, torch.bfloat16)
    if device.type == "cpu" and not (half is torch.bfloat16 and computes_in_bf16()):
        wide = torch.float32
    if device.type == "cuda" and half is torch.bfloat16 and not torch.cuda.is_bf16_supported():
        half = wide = torch.float16
    layer = LAYERS.get(name)
    if layer is not None and device.type == "mps":
        raise ModelError(f"--precision {name}: not on Apple's GPU; take bf16, or --device cpu")
    old = device.type == "cuda" and torch.cuda.get_device_capability(device) < AMPERE
    if name == "int4" and old:
        raise ModelError("--precision int4: not on a GPU before Ampere; take nf4")
    return Precision(name, wide, half, layer)


def why_slow(name: str, device: torch.device) -> str:
    """A line for the user where a precision is slower here than bf16; else nothing."""
    if device.type != "cpu":
        return ""
    if name == "nf4" and not multiplies_bf16() and kernel() is None:
        return "nf4 is slow on a processor without AVX-512-BF16; int4 is the 4-bit precision here"
    if name == "fp16" and multiplies_bf16():
        return "fp16 is slower than bf16 on this processor"
    return ""


def multiplies_bf16() -> bool:
    """Whether this processor has products in bf16; elsewhere they take ten times as long."""
    capabilities = processor()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def computes_in_bf16() -> bool:
    """Whether this processor is faster in bf16 than in fp32 where there is much to compute.

    Intel's have half as many of the instructions for bf16, and expect AMX to do it, which virtual
    machines often lack: 639 rows of 2048 to 11264 took 177 ms, and 109 in fp32.
    """
    capabilities = processor()
    intel = "intel" in str(capabilities.get("cpu_name", "")).lower()
    return multiplies_bf16() and (not intel or bool(capabilities.get("amx_bf16")))


def blank_model(
    config: Config, precision: Precision, *, vision: bool = True, drawing: bool = True
) -> Janus | JanusFlow:
    """The networks without their numbers, on the meta device, of the right kinds and dtypes."""
    with torch.device("meta"):
        model = Janus(config) if isinstance(config, JanusConfig) else JanusFlow(config)
        model.keep(vision=vision, drawing=drawing)
        arrange(model, precision)
    return model


def arrange(model: Reader, precision: Precision) -> None:
    """Give every layer of a model on the meta device the kind and dtype that are to be filled."""
    model.to(precision.compute)
    for name in ("vq", "encoder", "decoder"):
        if hasattr(model, name):
            getattr(model, name).to(precision.pixels)
    model.language.embed.to(precision.stored)
    kinds = dict(model.named_modules())
    for name, linear in kinds.items():
        if type(linear) is not nn.Linear:
            continue
        inputs, outputs = linear.in_features, linear.out_features
        replacement: nn.Module | None = None
        if (
            precision.layer
            and name.startswith("language.layers.")
            and precision.layer.takes(linear)
        ):
            replacement = precision.layer(inputs, outputs)
        elif precision.stored != precision.compute:
            replacement = HalfLinear(
                inputs, outputs, bias=linear.bias is not None, dtype=precision.stored
            )
        elif linear.weight.dtype == torch.bfloat16:
            replacement = BF16Linear(
                inputs, outputs, bias=linear.bias is not None, dtype=torch.bfloat16
            )
        if replacement is not None:
            parent, _, leaf = name.rpartition(".")
            setattr(kinds[parent], leaf, replacement)


def bytes_to_run(model: Reader) -> int:
    """What a model takes in memory at work: its weights, the program, one guided picture."""
    cache = cache_bytes(model.config.language, rows=2, capacity=CAPACITY, dtype=model.dtype)
    draws = all(hasattr(model, name) for name in model.draws)
    beside = model.beside * model.dtype.itemsize if draws else 0
    return weight_bytes(model) + beside + cache + PROGRAM


def weight_bytes(model: nn.Module) -> int:
    """What the weights of a model take; it may lie on the meta device."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
