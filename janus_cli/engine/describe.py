"""What a checkpoint is and what it would take to run it here, without loading it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import ModelError
from .auto import choose_precision
from .checkpoint import Checkpoint, open_checkpoint
from .family import tell_family
from .machine import free_memory
from .precision import Precision, blank_model, bytes_to_run, weight_bytes
from .prompt import (
    BEGIN_OF_IMAGE,
    BEGIN_OF_SENTENCE,
    END_OF_IMAGE,
    END_OF_SENTENCE,
    PAD,
    PLACEHOLDER,
    read_tokenizer,
)

SPECIAL_TOKENS = (
    *(BEGIN_OF_SENTENCE, END_OF_SENTENCE, PAD),
    *(BEGIN_OF_IMAGE, END_OF_IMAGE, PLACEHOLDER),
)
SENTENCE = "Hello, how are you? 你好 ¿qué tal? 🐧"


@dataclass(frozen=True)
class Fit:
    """How a checkpoint would be run on a device."""

    numbers: int
    """How many numbers the model has."""
    precision: str
    """What `auto` takes."""
    needs: int
    """Bytes of memory at that precision: all weights, and what one picture takes."""
    free: int
    """Bytes of memory that are free on the device."""
    ready: bool
    """Whether the files hold what is run, so that nothing is quantized at every start."""
    notes: tuple[str, ...]
    """Why `auto` does not take the best precision, and what is slow."""

    @property
    def fits(self) -> bool:
        return self.needs <= self.free


@dataclass(frozen=True)
class Description:
    """What a checkpoint holds."""

    family: str
    layout: str
    precision: str
    """Of the numbers in the files."""
    fit: Fit


def describe(path: Path, device: torch.device) -> Description:
    """Look into a checkpoint folder.

    Raises:
        ModelError: it is damaged or no Janus model.
    """
    with ExitStack() as stack:
        checkpoint = open_checkpoint(path, stack)
        family = tell_family(checkpoint, read_tokenizer(path))
        held = checkpoint.precision or stored_dtype(checkpoint)
        return Description(family, checkpoint.layout.name, held, fit(checkpoint, device))


def measure(path: Path, device: torch.device) -> Fit:
    """The same without the tokenizer, whose file takes longest to read."""
    with ExitStack() as stack:
        return fit(open_checkpoint(path, stack), device)


def fit(checkpoint: Checkpoint, device: torch.device) -> Fit:
    precision, notes = choose_precision("auto", device, checkpoint, vision=True, drawing=True)
    plain = Precision("fp32", torch.float32, torch.float32)
    return Fit(
        numbers=weight_bytes(blank_model(checkpoint.config, plain)) // 4,
        precision=precision.name,
        needs=bytes_to_run(blank_model(checkpoint.config, precision)),
        free=free_memory(device),
        ready=checkpoint.holds_codes or precision.layer is None,
        notes=notes,
    )


def stored_dtype(checkpoint: Checkpoint) -> str:
    """What the words' embedding is stored in: fp32, bf16 or fp16."""
    name = checkpoint.published("language.embed.weight")[0]
    if name not in checkpoint.tensors:
        raise ModelError(f"{checkpoint.path}: the checkpoint lacks tensor {name}")
    dtype = checkpoint.tensors[name].read().dtype
    short = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    return short.get(dtype, str(dtype).removeprefix("torch."))


def check_tokenizer(path: Path) -> list[str]:
    """What is right and wrong with a tokenizer, a line each."""
    tokenizer = read_tokenizer(path)
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    lines = [f"{token} {'MISSING' if number is None else number}" for token, number in ids.items()]
    encoded = tokenizer.encode(SENTENCE, add_special_tokens=False).ids
    back = tokenizer.decode(encoded)
    whole = back == SENTENCE
    lines.append(f"a sentence comes back {'whole' if whole else f'changed: {back!r}'}")
    return lines
