"""Adapters: what of a model is trained where the whole of it is not, and the folder it goes to.

`lora` puts low-rank products beside the projections of the decoder, `aligners` trains the two that
there are; everything else stays as it is. How an adapter is used, engine/adapter.py knows.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__, adapters
from ..engine.adapter import ALIGNERS, FIRST, PROJECTIONS
from ..engine.bits import library
from ..engine.model import Janus
from ..engine.quantize import make_aside
from ..engine.save import write_json
from ..errors import OutputError, UsageError

ALPHA = 2  # times the rank: how much the products count, whatever their rank
INSIDE = ".default."  # what peft puts into the names of its tensors

Kind = Literal["lora", "aligners"]


def require_peft() -> None:
    """Raise a UsageError unless peft is installed."""
    if importlib.util.find_spec("peft") is None:
        raise UsageError("--lora: needs peft; pip install peft")


def attach(model: Janus, kind: Kind, *, rank: int) -> None:
    """Freeze a model but for what an adapter of this kind trains.

    Low-rank products (arXiv 2106.09685) begin at zero, so that the model is still the same, and
    count alpha / rank times, with alpha = 2 * rank. Half of each is drawn from torch's generator.

    Args:
        rank: of the products; aligners have none.

    Raises:
        UsageError: peft is not installed, or the rank is less than 1.
    """
    model.requires_grad_(False)
    if kind == "lora":
        _add_products(model, rank)
        return
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(ALIGNERS.match(name)))


def _add_products(model: Janus, rank: int) -> None:
    require_peft()
    if rank < 1:
        raise UsageError("--rank: must be at least 1")
    library()  # quietly, before peft imports it in its own way
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank, lora_alpha=ALPHA * rank, lora_dropout=0.0, target_modules=PROJECTIONS.pattern
    )
    inject_adapter_in_model(config, model)


def trained_state(model: Janus) -> dict[str, Tensor]:
    """The tensors that are trained, by the names they have in an adapter's file."""
    return {
        name.replace(INSIDE, "."): parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def restore(model: Janus, state: Mapping[str, Tensor]) -> None:
    """Put back what `trained_state` gave of a model with the same adapter attached."""
    held = trained_state(model)
    if held.keys() != state.keys():
        raise ValueError("the state is of another adapter")
    for name, tensor in held.items():
        tensor.copy_(state[name])


def save(model: Janus, folder: Path, *, base: Path) -> None:
    """Write the adapter of a model to a new folder, whole or not at all.

    Args:
        base: the checkpoint folder that the model was loaded from.

    Raises:
        OutputError: the folder exists, or cannot be written.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in trained_state(model).items()}
    aside = make_aside(folder, sum(tensor.nbytes for tensor in tensors.values()))
    try:
        save_file(tensors, aside / adapters.WEIGHTS, metadata={"format": "pt"})
        (aside / adapters.WEIGHTS).chmod(0o644)
        write_json(aside / adapters.CONFIG, _config(tensors, base))
        os.rename(aside, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder}: {reason}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _config(tensors: Mapping[str, Tensor], base: Path) -> dict[str, Any]:
    """adapter_config.json; what peft's own files say has peft's keys."""
    ranks = [len(tensor) for name, tensor in tensors.items() if name.endswith(FIRST)]
    config = {
        "format": adapters.FORMAT,
        "written_by": f"janus {__version__}",
        "kind": "lora" if ranks else "aligners",
        "base_model_name_or_path": adapters.name_of_base(base),
    }
    if not ranks:
        return config
    return config | {
        "peft_type": "LORA",
        "r": ranks[0],
        "lora_alpha": ALPHA * ranks[0],
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": PROJECTIONS.pattern,
    }
