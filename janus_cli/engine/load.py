"""A checkpoint folder, a device and a precision to an engine that is ready to answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import weights
from ..errors import ModelError
from ..schema import ModelChoice
from .adapter import adapted
from .auto import choose_precision
from .checkpoint import Checkpoint, open_checkpoint
from .config import JanusConfig
from .decode import Native, NativeCodes
from .euler import NativeFlow
from .family import open_writer
from .flow import JanusFlow
from .layout import TRANSFORMERS
from .linear import BF16Linear, HalfLinear, Quantized
from .machine import choose_device
from .model import Janus, Reader
from .packing import PACKINGS, Packed
from .pixels import Preprocessing
from .precision import Precision, blank_model
from .prompt import PromptWriter
from .reference import Reference
from .tensors import let_go
from .vae import VAE

ALIGNMENT = 64  # bytes: products of numbers that lie elsewhere may round otherwise

Engine = Native | Reference


def open_engine(
    path: Path, choice: ModelChoice, *, vision: bool = True, drawing: bool = True
) -> Engine:
    """Load a checkpoint for a request.

    Args:
        path: a checkpoint folder in the authors', in transformers' or in our own layout.
        choice: device, precision, family and backend; `auto` is decided here.
        vision: whether pictures are to be read.
        drawing: whether pictures are to be drawn.

    Raises:
        ModelError: the checkpoint is damaged or unknown, or the machine cannot run it.
    """
    with ExitStack() as stack:
        checkpoint = adapted(open_checkpoint(path, stack), choice.adapter, stack)
        device = choose_device(choice.device)
        precision, notes = choose_precision(
            choice.precision, device, checkpoint, vision=vision, drawing=drawing
        )
        writer = open_writer(checkpoint, choice.family)
        preprocessing = Preprocessing.load(path, checkpoint.config.vision.image_size)
        engine: Engine
        if choice.backend == "transformers":
            engine = load_reference(checkpoint, writer, preprocessing, device, precision)
        else:
            vae = open_vae(checkpoint, precision, device)
            if vae and drawing and not vision:
                vae.check()  # before the gigabytes
            model = load_model(checkpoint, precision, device, vision=vision, drawing=drawing)
            names = {"name": checkpoint.name, "precision": precision.name}
            if isinstance(model, JanusFlow):
                assert vae is not None, "a flow is painted by a VAE"
                engine = NativeFlow(model, writer, preprocessing, vae, **names)
            else:
                engine = NativeCodes(model, writer, preprocessing, **names)
        if isinstance(engine, NativeCodes | Reference):
            engine.guidance = checkpoint.guidance
        engine.notes = (*notes, *(checkpoint.changes.notes(path) if checkpoint.changes else ()))
        return engine


def open_vae(checkpoint: Checkpoint, precision: Precision, device: torch.device) -> VAE | None:
    """What paints the pictures of a flow; nothing is read yet. Codes take none."""
    if isinstance(checkpoint.config, JanusConfig):
        return None
    return VAE(
        partial(weights.find_vae, checkpoint.path),
        channels=checkpoint.config.flow.latent_channels,
        factor=checkpoint.config.flow.latent_factor,
        dtype=precision.pixels,
        device=device,
    )


def load_reference(
    checkpoint: Checkpoint,
    writer: PromptWriter,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision,
) -> Reference:
    """The same checkpoint in transformers' own networks."""
    if not isinstance(checkpoint.config, JanusConfig):
        raise ModelError(
            f"{checkpoint.path}: --backend transformers: has no JanusFlow; leave it out"
        )
    if checkpoint.layout is not TRANSFORMERS:
        raise ModelError(
            f"{checkpoint.path}: --backend transformers reads transformers' layout, "
            f"not {checkpoint.layout.name}"
        )
    if precision.layer is not None and checkpoint.precision is None:
        raise ModelError(
            f"--backend transformers: runs fp32, bf16 and fp16, not {precision.name}; "
            "add --precision bf16"
        )
    return Reference.load(
        checkpoint.path,
        checkpoint.config,
        writer,
        preprocessing,
        device=device,
        dtype=precision.stored,
        name=checkpoint.name,
        precision=precision.name,
    )


def load_model(
    checkpoint: Checkpoint,
    precision: Precision,
    device: torch.device,
    *,
    vision: bool = True,
    drawing: bool = True,
) -> Janus | JanusFlow:
    """Fill the networks from the files of a checkpoint, one tensor at a time."""
    model = blank_model(checkpoint.config, precision)
    checkpoint.check_names(shapes(checkpoint, model))
    model.keep(vision=vision, drawing=drawing)
    for name, tensor in filled(checkpoint, model, device):
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        is_buffer = leaf in module._buffers
        setattr(module, leaf, tensor if is_buffer else nn.Parameter(tensor, requires_grad=False))
    for module in model.modules():
        if isinstance(module, Quantized | BF16Linear | HalfLinear):
            settle(module, checkpoint)
    model.language.fuse()
    return model.eval()


def settle(module: Quantized | BF16Linear | HalfLinear, checkpoint: Checkpoint) -> None:
    """Arrange a layer for this machine; what it has no more use for takes no memory."""
    before = list(module.buffers())
    if isinstance(module, Packed) and checkpoint.packing is not None:
        found = module.packed
        module.repack(PACKINGS[checkpoint.packing])
        if module.packed is not found and found.device.type == "cpu":
            let_go(found)
    module.settle()
    if checkpoint.holds_codes and module.matrix is not None:
        kept = {tensor.data_ptr() for tensor in module.buffers()}
        for tensor in before:
            if tensor.data_ptr() not in kept:
                let_go(tensor)


def blanks(checkpoint: Checkpoint, model: Reader) -> Iterator[tuple[str, nn.Module]]:
    """Our name of every tensor to be read, and the module that takes it, in their order."""
    for path, module in model.named_modules():
        if isinstance(module, Quantized) and not checkpoint.holds_codes:
            yield f"{path}.weight", module
        else:
            for leaf in (*module._parameters, *module._buffers):
                if getattr(module, leaf) is not None:
                    yield f"{path}.{leaf}".removeprefix("."), module


def shapes(checkpoint: Checkpoint, model: Reader) -> dict[str, torch.Size]:
    """The shape of every tensor to be read, by our name."""
    return {name: shape_of(name, module) for name, module in blanks(checkpoint, model)}


def shape_of(name: str, module: nn.Module) -> torch.Size:
    """The shape of a tensor that a module takes: a layer that is quantized later takes a weight."""
    leaf = name.rpartition(".")[2]
    if isinstance(module, Quantized) and leaf not in module._buffers:
        return torch.Size((module.out_features, module.in_features))
    return getattr(module, leaf).shape


def filled(
    checkpoint: Checkpoint, model: Reader, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a blank model by its name: read, joined, adapted, converted or quantized.

    One at a time, so that loading takes the memory of the model and of one tensor more.
    """
    for name, module in blanks(checkpoint, model):
        path, _, leaf = name.rpartition(".")
        parts = checkpoint.read_parts(name)
        tensor = checkpoint.join(name, parts, shape_of(name, module))
        if checkpoint.changes:
            tensor = checkpoint.changes.apply(name, tensor, device)
        if isinstance(module, Quantized) and not checkpoint.holds_codes:
            quantized = module.quantize(tensor.to(device))
            made = {f"{path}.{key}": value for key, value in quantized.items()}
        else:
            tensor = tensor.to(device, getattr(module, leaf).dtype)
            made = {name: tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()}
        del tensor
        kept = {tensor.data_ptr() for tensor in made.values()}
        for part in parts:
            if part.data_ptr() not in kept:
                let_go(part)
        yield from made.items()
