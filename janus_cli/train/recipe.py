"""What the stages share: the sizes of the embedded model, schedules, optimizers, checkpoints."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.config import JanusConfig, LanguageConfig, VisionConfig, VQConfig

EMBEDDED = JanusConfig(
    language=LanguageConfig(
        hidden_size=192,
        intermediate_size=512,
        layers=6,
        heads=3,
        kv_heads=3,
        head_size=64,
        vocabulary=640,
        context=2048,
    ),
    vision=VisionConfig(hidden_size=192, layers=6, heads=3, image_size=384, patch_size=32),
    vq=VQConfig(
        codes=1024,
        code_size=8,
        latent_channels=64,
        base_channels=8,
        channel_multiplier=(1, 2, 4, 4, 8),
        res_blocks=1,
        groups=1,
    ),
)


def warm_cosine(step: int, done: float, *, warm_up: int = 100, floor: float = 0.05) -> float:
    """A factor for the learning rate: linear warm-up by steps, then a cosine over `done` 0..1."""
    return min(1.0, (step + 1) / warm_up) * (
        floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def descend(
    optimizers: Iterable[torch.optim.Optimizer], module: nn.Module, loss: Tensor, rate: float
) -> None:
    """One step down the gradient of a loss, clipped at 1.0 as in the papers."""
    module.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for optimizer in optimizers:
        set_rate(optimizer, rate)
        optimizer.step()


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al. 2024), for matrices inside layers.

    Updates have the root mean square of AdamW's (arXiv 2502.16982), so both share one rate. torch's
    own Muon orthogonalises in bf16, which takes most of the time on a CPU without bf16 products.
    """

    def __init__(self, matrices: Iterable[Tensor], rate: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                velocity = state.setdefault("velocity", torch.zeros_like(matrix))
                velocity.lerp_(matrix.grad, 1 - group["momentum"])
                nesterov = matrix.grad.lerp(velocity, group["momentum"])
                update = orthogonalise(nesterov.flatten(1))  # a convolution is a matrix too
                scale = 0.2 * max(update.shape) ** 0.5
                matrix.add_(update.view_as(matrix), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly, by Muon's quintic Newton-Schulz iteration."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.T


def optimizers(model: nn.Module, *, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (matrices if is_hidden(name, parameter) else others).append(parameter)
    made: list[torch.optim.Optimizer] = []
    if matrices:
        made.append(Muon(matrices, rate))
    if others:  # low-rank products are all matrices
        made.append(torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0))
    return made


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix inside the network, not at its edges."""
    if parameter.ndim == 4:
        return not re.search(r"conv_in|conv_out|quant|embed", name)
    return parameter.ndim == 2 and "layers." in name


def save(path: Path, model: nn.Module, config: Any, **more: Any) -> None:
    """Write a training checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    torch.save({"model": model.state_dict(), "config": config, **more}, aside)
    os.replace(aside, path)


def restore(path: Path) -> dict[str, Any]:
    """Read a training checkpoint that `save` wrote on this machine."""
    state: dict[str, Any] = torch.load(path, weights_only=False, map_location="cpu")
    return state


def initialise(module: nn.Module) -> None:
    """Small normal weights; a residual branch starts at zero, so that depth costs no signal."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias") or (
            name.endswith(("out.weight", "down.weight")) and "layers." in name
        ):
            nn.init.zeros_(parameter)
        elif parameter.ndim >= 2:
            nn.init.normal_(
                parameter, std=0.02 if "embed" in name else parameter[0].numel() ** -0.5
            )
