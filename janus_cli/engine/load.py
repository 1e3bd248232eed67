"""A checkpoint folder, a device and a precision to an engine that is ready to answer.

Strict: a tensor that is missing, left over or of the wrong shape is an error that names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..schema import ModelChoice
from . import authors
from .config import JanusConfig
from .decode import Native
from .family import choose_roles
from .layout import AUTHORS, TRANSFORMERS, Layout
from .model import Janus
from .pixels import Preprocessing
from .prompt import PromptWriter, read_tokenizer
from .reference import Reference
from .tensors import Stored, open_tensors

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SMALL = 1 << 30  # bytes in 16 bits under which half the width gains nothing on a CPU

Engine = Native | Reference


def open_engine(
    path: Path, choice: ModelChoice, *, vision: bool = True, drawing: bool = True
) -> Engine:
    """Load a checkpoint for a request.

    Args:
        path: a checkpoint folder in the authors' or in transformers' layout.
        choice: device, precision, family and backend; `auto` is decided here.
        vision: whether pictures are to be read.
        drawing: whether pictures are to be drawn.

    Raises:
        ModelError: the checkpoint is damaged or unknown, or the machine cannot run it.
    """
    with ExitStack() as stack:
        checkpoint = open_checkpoint(path, stack)
        config = checkpoint.config
        device = choose_device(choice.device)
        precision = choose_precision(choice.precision, device, checkpoint)
        tokenizer = read_tokenizer(path)
        roles = choose_roles(choice.family, path, checkpoint.layout, config, tokenizer)
        writer = PromptWriter(tokenizer, roles, config.vision.tokens, config.language.context)
        preprocessing = Preprocessing.load(path, config.vision.image_size)
        label = {"name": path.resolve().name, "precision": precision}
        dtype = DTYPES[precision]
        if choice.backend == "transformers":
            if checkpoint.layout is not TRANSFORMERS:
                raise ModelError(
                    f"{path}: --backend transformers reads transformers' layout, not the authors'"
                )
            return Reference.load(
                path, config, writer, preprocessing, device=device, dtype=dtype, **label
            )
        model = load_model(checkpoint, device=device, dtype=dtype, vision=vision, drawing=drawing)
        return Native(model, writer, preprocessing, **label)


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose files are open: what it is, before anything of it is read."""

    path: Path
    layout: Layout
    config: JanusConfig
    tensors: Mapping[str, Stored]
    tied: bool
    """The head over words may be left out where it is the words' embedding."""


def open_checkpoint(path: Path, stack: ExitStack) -> Checkpoint:
    """Recognise a checkpoint by its config and its tensors, whatever its folder is called."""
    raw = read_config(path)
    if raw.get("model_type") == "multi_modality":
        tensors = open_tensors(path, stack)
        return Checkpoint(path, AUTHORS, authors.parse(raw, tensors), tensors, tied=False)
    config = JanusConfig.parse(raw)
    tied = raw.get("tie_word_embeddings", True)
    return Checkpoint(path, TRANSFORMERS, config, open_tensors(path, stack), tied)


def read_config(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path / 'config.json'}: cannot be read ({error})") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path / 'config.json'}: is not a model's config")
    return raw


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, then Apple's MPS, then the CPU; a device that is not there is an error."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"--device {name}: is no device; try cpu, cuda or cuda:0") from error
    beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if not available.get(device.type, False) or beyond:
        hint = ""
        if device.type == "cuda" and "+cpu" in torch.__version__:
            hint = " (this torch is a CPU build)"
        raise ModelError(f"--device {name}: not on this machine{hint}; try --device cpu")
    return device


def choose_precision(name: str, device: torch.device, checkpoint: Checkpoint) -> str:
    """`auto` is bf16 where the machine multiplies in it, else fp32; fp32 for a small model."""
    if name != "auto":
        return name
    if device.type == "cpu":
        numbers = sum(math.prod(stored.shape) for stored in checkpoint.tensors.values())
        return "bf16" if 2 * numbers >= SMALL and multiplies_bf16() else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16"


def multiplies_bf16() -> bool:
    """Whether this processor has products in bf16; elsewhere they take ten times as long."""
    # Not in older releases of torch.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def load_model(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    vision: bool = True,
    drawing: bool = True,
) -> Janus:
    """Fill the networks from the files of a checkpoint, one tensor at a time."""
    config, stored = checkpoint.config, checkpoint.tensors
    with torch.device("meta"):
        model = Janus(config, vision=vision, drawing=drawing)
        everything = model if vision and drawing else Janus(config)
    published = checkpoint.layout.published
    names = {name: published(name) for name, _ in everything.named_parameters()}
    if checkpoint.tied and names["text_head.weight"][0] not in stored:
        names["text_head.weight"] = names["language.embed.weight"]
    check_names(checkpoint, {part for parts in names.values() for part in parts})
    for name, parameter in list(model.named_parameters()):
        parts = [stored[part].read() for part in names[name]]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        if joined.shape[1:] == parameter.shape and len(joined) == 1:
            joined = joined[0]  # the authors keep a batch of one around the positions
        if joined.shape != parameter.shape:
            raise ModelError(
                f"{checkpoint.path}: tensor {names[name][0]} has shape {tuple(joined.shape)}, "
                f"but the model's sizes ask for {tuple(parameter.shape)}"
            )
        assign(model, name, joined.to(device=device, dtype=dtype))
    return model.eval()


def check_names(checkpoint: Checkpoint, wanted: set[str]) -> None:
    """Raise a ModelError that names a tensor which is missing or left over."""
    needless = checkpoint.layout.needless
    found = {name for name in checkpoint.tensors if not needless.match(name)}
    for what, names in (("lacks", wanted - found), ("has unknown", found - wanted)):
        if names:
            first, others = min(names), len(names) - 1
            more = f" and {others} more" if others else ""
            raise ModelError(f"{checkpoint.path}: the checkpoint {what} tensor {first}{more}")


def assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor in the place of a parameter."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))
