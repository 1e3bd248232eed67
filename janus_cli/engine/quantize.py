"""A checkpoint at another precision, written so that it loads at the speed of the disk.

What is written is what loading would make, tensor by tensor, so a quantized checkpoint and
quantizing on load give the same bits. Matrices that stay plain are held in 16 bits; whatever else
is plain keeps the dtype of the original.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

from .. import __version__
from ..errors import ModelError, OutputError, size_in_words
from ..schema import Progress
from ..weights import VAE_INSIDE
from .adapter import adapted
from .checkpoint import FORMAT, Checkpoint, open_checkpoint
from .family import open_writer, tell_family
from .layout import OURS
from .load import blanks, filled, shapes
from .model import Reader
from .packing import Packed
from .precision import LAYERS, PLAIN, Precision, blank_model, weight_bytes
from .save import config_json, write_json
from .stream import SafetensorsWriter

COPIED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("preprocessor_config.json", "processor_config.json", "generation_config.json"),
    *("chat_template.jinja", "chat_template.json", "LICENSE", "README.md"),
    "stamps.npz",  # what the embedded model learned to draw with, see train/stamps.py
)


def quantize_checkpoint(
    path: Path, folder: Path, name: str, *, device: torch.device, adapter: str | None = None
) -> Iterator[Progress]:
    """Write the checkpoint in `path` at the precision `name` to a new `folder`.

    It appears whole or not at all: it is written beside, under a name that begins with a dot, and
    its config comes last. The adapter in the folder `adapter` is merged into it.

    Raises:
        ModelError: the checkpoint is damaged, or was quantized already.
        OutputError: the folder exists, or there is no room for it.
    """
    with ExitStack() as stack:
        checkpoint = open_checkpoint(path, stack)
        if checkpoint.holds_codes:
            raise ModelError(f"{path}: was quantized already; take the checkpoint it was made from")
        checkpoint = adapted(checkpoint, adapter, stack)
        precision = stored_precision(name)
        model = blank_model(checkpoint.config, precision)
        checkpoint.check_names(shapes(checkpoint, model))
        keep_dtypes(model, checkpoint, precision)
        aside = make_aside(folder, weight_bytes(model))
        try:
            yield from write_weights(checkpoint, model, aside / "model.safetensors", device)
            for file in COPIED:
                if (path / file).is_file():
                    shutil.copyfile(path / file, aside / file)
            if (path / VAE_INSIDE).is_dir():
                shutil.copytree(path / VAE_INSIDE, aside / VAE_INSIDE)
            write_json(aside / "config.json", our_config(checkpoint, precision, device))
            os.rename(aside, folder)
        except OSError as error:
            raise OutputError(f"{folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def stored_precision(name: str) -> Precision:
    """What is written is the same on every machine, whatever that computes in."""
    return Precision(name, torch.float32, PLAIN.get(name, torch.bfloat16), LAYERS.get(name))


def keep_dtypes(model: Reader, checkpoint: Checkpoint, precision: Precision) -> None:
    """Let what is neither quantized nor a matrix keep the dtype that the original has."""
    for name, module in blanks(checkpoint, model):
        leaf = name.rpartition(".")[2]
        blank = getattr(module, leaf, None)
        if blank is not None and blank.dtype != precision.stored:
            dtype = checkpoint.tensors[checkpoint.published(name)[0]].read().dtype
            blank.data = blank.data.to(dtype)


def make_aside(folder: Path, size: int) -> Path:
    """A new folder to write in, beside where the result will be."""
    if folder.exists():
        raise OutputError(f"{folder}: exists; choose another name with -o, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < size:
            needs = f"needs {size_in_words(size)}, but {size_in_words(free)} are free on its disk"
            raise OutputError(f"{folder}: {needs}; make room, or choose another place with -o")
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        aside.chmod(0o755)
        return aside
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}") from error


def write_weights(
    checkpoint: Checkpoint, model: Reader, file: Path, device: torch.device
) -> Iterator[Progress]:
    """Quantize and write one tensor at a time."""
    blank = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    total, done = weight_bytes(model), 0
    with SafetensorsWriter(file, blank) as writer:
        for name, tensor in filled(checkpoint, model, device):
            writer.write(name, tensor.cpu())
            done += tensor.numel() * tensor.element_size()
            yield Progress("quantizing", done, total)


def our_config(
    checkpoint: Checkpoint, precision: Precision, device: torch.device
) -> dict[str, object]:
    """config.json in our layout: the sizes under transformers' keys, and what was done."""
    writer = open_writer(checkpoint)
    sizes = config_json(checkpoint.config, writer, str(precision.stored).removeprefix("torch."))
    del sizes["architectures"]
    layer = precision.layer
    return sizes | {
        "model_type": OURS.name,
        "format": FORMAT,
        "written_by": f"janus {__version__}",
        "made_from": checkpoint.name,
        "family": tell_family(checkpoint, writer.tokenizer),
        "precision": precision.name,
        "packing": layer.packing(device).name if layer and issubclass(layer, Packed) else None,
    }
