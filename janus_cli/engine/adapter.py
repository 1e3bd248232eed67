"""An adapter merged into the weights of a model while they are read, a tensor at a time.

What is loaded then is a model like any other: every precision and every fast path serves it, and
it costs nothing at run time. A folder holds `adapter_model.safetensors`, whose tensors have our own
names (layout.OURS): of a low-rank product (LoRA, arXiv 2106.09685) that is added to the weight
`X.weight` (N, K) they are `X.lora_A.weight` (R, K) and `X.lora_B.weight` (N, R), and an aligner's
are the aligner's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..adapters import Adapter, read
from ..errors import ModelError
from .checkpoint import Checkpoint, name_of
from .tensors import Stored, open_safetensors

PROJECTIONS = re.compile(r"language\.layers\.\d+\.(attention\.(qkv|out)|mlp\.(gate_up|down))")
"""The layers of the decoder that low-rank products are added to."""
ALIGNERS = re.compile(r"(generation_)?aligner\..*")
FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"


class Changes:
    """The tensors of an adapter, and what becomes of a model's with them."""

    def __init__(self, adapter: Adapter, tensors: Mapping[str, Stored]) -> None:
        self.adapter = adapter
        self.tensors = tensors

    def wanted(self, shapes: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        """The tensors that the adapter of a model with these has, and their shapes."""
        if self.adapter.kind == "aligners":
            return {name: tuple(shape) for name, shape in shapes.items() if ALIGNERS.match(name)}
        rank = self.adapter.rank
        made: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            layer = name.removesuffix(".weight")
            if PROJECTIONS.fullmatch(layer):
                made[layer + FIRST] = (rank, shape[1])
                made[layer + SECOND] = (shape[0], rank)
        return made

    def check(self, shapes: Mapping[str, torch.Size]) -> None:
        """Raise a ModelError unless the adapter is whole, and of a model with these tensors."""
        wanted = self.wanted(shapes)
        for what, names in (
            ("lacks", wanted.keys() - self.tensors.keys()),
            ("has unknown", self.tensors.keys() - wanted.keys()),
        ):
            if names:
                raise self.error(f"{what} tensor {min(names)}")
        for name, shape in wanted.items():
            stored = self.tensors[name]
            if stored.shape != shape:
                raise self.error(
                    f"tensor {name} has shape {stored.shape}, but the model asks for {shape}"
                )
            if not stored.read().isfinite().all():
                raise self.error(f"tensor {name} holds what is no number")

    def notes(self, path: Path) -> tuple[str, ...]:
        """A line for the user where the model at this path is not the one it was trained on."""
        base, name = Path(self.adapter.base).name, name_of(path)
        if base.lower() == name.lower():
            return ()
        return (f"adapter {self.adapter.name} was trained on {base}, not on {name}",)

    def error(self, reason: str) -> ModelError:
        return ModelError(
            f"{self.adapter.weights}: {reason}; it belongs to the model {self.adapter.base}"
        )

    def apply(self, name: str, weight: Tensor, device: torch.device) -> Tensor:
        """What our tensor `name` is with the adapter: fp32 on the device where it is another."""
        if name in self.tensors:
            return self.tensors[name].read()
        layer = name.removesuffix(".weight")
        if layer + FIRST not in self.tensors:
            return weight
        first, second = (
            self.tensors[layer + part].read().to(device, torch.float32) for part in (FIRST, SECOND)
        )
        scale = self.adapter.alpha / self.adapter.rank
        return weight.to(device, torch.float32, copy=True).addmm_(second, first, alpha=scale)


def adapted(checkpoint: Checkpoint, choice: str | None, stack: ExitStack) -> Checkpoint:
    """The checkpoint with the adapter in the folder `choice`, if there is one.

    Raises:
        ModelError: the adapter cannot be read, or the checkpoint cannot take one.
    """
    if choice is None:
        return checkpoint
    adapter = read(Path(choice))
    if checkpoint.holds_codes:
        raise ModelError(
            f"{checkpoint.path}: was quantized, and an adapter changes full weights; quantize both "
            f"together: janus quantize {adapter.base} --adapter {adapter.name} "
            f"--precision {checkpoint.precision}"
        )
    if not adapter.weights.is_file():
        raise ModelError(f"{adapter.weights}: is missing; train the adapter again")
    return replace(checkpoint, changes=Changes(adapter, open_safetensors(adapter.weights, stack)))
