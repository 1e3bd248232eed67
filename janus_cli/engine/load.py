"""A checkpoint folder, a device and a precision to an engine that is ready to answer.

Strict: a tensor that is missing, left over or of the wrong shape is an error that names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import ModelError
from ..schema import ModelChoice
from .config import JanusConfig
from .decode import Native
from .layout import published_names
from .model import Janus
from .pixels import Preprocessing
from .prompt import JANUS_PRO, PromptWriter
from .reference import Reference

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SMALL = 1 << 30  # bytes in 16 bits under which half the width gains nothing on a CPU

Engine = Native | Reference


def open_engine(
    path: Path, choice: ModelChoice, *, vision: bool = True, drawing: bool = True
) -> Engine:
    """Load a checkpoint for a request.

    Args:
        path: a checkpoint folder in transformers' layout.
        choice: device, precision and backend; `auto` is decided here.
        vision: whether pictures are to be read.
        drawing: whether pictures are to be drawn.

    Raises:
        ModelError: the checkpoint is damaged or unknown, or the machine cannot run it.
    """
    raw = read_config(path)
    config = JanusConfig.parse(raw)
    device = choose_device(choice.device)
    precision = choose_precision(choice.precision, device, path)
    writer = PromptWriter.load(path, JANUS_PRO, config.vision.tokens, config.language.context)
    preprocessing = Preprocessing.load(path, config.vision.image_size)
    label = {"name": path.resolve().name, "precision": precision}
    if choice.backend == "transformers":
        return Reference.load(
            path, config, writer, preprocessing, device=device, dtype=DTYPES[precision], **label
        )
    model = load_model(
        path,
        config,
        device=device,
        dtype=DTYPES[precision],
        tied=raw.get("tie_word_embeddings", True),
        vision=vision,
        drawing=drawing,
    )
    return Native(model, writer, preprocessing, **label)


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


def choose_precision(name: str, device: torch.device, path: Path) -> str:
    """`auto` is bf16 where the machine multiplies in it, else fp32; fp32 for a small model."""
    if name != "auto":
        return name
    if device.type == "cpu":
        # The 16-bit size: published files hold bf16.
        small = sum(file.stat().st_size for file in path.glob("*.safetensors")) < SMALL
        return "bf16" if not small and multiplies_bf16() else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16"


def multiplies_bf16() -> bool:
    """Whether this processor has products in bf16; elsewhere they take ten times as long."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older releases of torch
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def load_model(
    path: Path,
    config: JanusConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    tied: bool = False,
    vision: bool = True,
    drawing: bool = True,
) -> Janus:
    """Fill the networks from the safetensors files of a folder, one tensor at a time."""
    with torch.device("meta"):
        model = Janus(config, vision=vision, drawing=drawing)
        everything = model if vision and drawing else Janus(config)
    with ExitStack() as stack:
        readers = open_tensors(path, stack)
        names = {name: published_names(name) for name, _ in everything.named_parameters()}
        if tied and "lm_head.weight" not in readers:
            names["text_head.weight"] = names["language.embed.weight"]
        check_names(path, readers, [part for parts in names.values() for part in parts])
        for name, parameter in list(model.named_parameters()):
            parts = [readers[part](part) for part in names[name]]
            joined = parts[0] if len(parts) == 1 else torch.cat(parts)
            if joined.shape != parameter.shape:
                raise ModelError(
                    f"{path}: tensor {names[name][0]} has shape {tuple(joined.shape)}, "
                    f"but config.json asks for {tuple(parameter.shape)}"
                )
            assign(model, name, joined.to(device=device, dtype=dtype))
    return model.eval()


def open_tensors(path: Path, stack: ExitStack) -> dict[str, Callable[[str], Tensor]]:
    """Every tensor name of the folder's safetensors files, with a function that reads it."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{path}: holds no .safetensors file; is the download complete?")
    readers: dict[str, Callable[[str], Tensor]] = {}
    for file in files:
        try:
            opened = stack.enter_context(safe_open(file, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: damaged ({error}); fetch it again") from error
        readers.update(dict.fromkeys(opened.keys(), opened.get_tensor))
    return readers


def check_names(path: Path, found: Mapping[str, Any], wanted: Iterable[str]) -> None:
    wanted = set(wanted)
    for what, names in (("lacks", wanted - set(found)), ("has unknown", set(found) - wanted)):
        if names:
            first, others = min(names), len(names) - 1
            more = f" and {others} more" if others else ""
            raise ModelError(f"{path}: the checkpoint {what} tensor {first}{more}")


def assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor in the place of a parameter."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))
