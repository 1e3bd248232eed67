"""Which precision `auto` takes: by device, processor, free memory and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..errors import ModelError, size_in_words
from .checkpoint import Checkpoint
from .kernel.library import kernel
from .machine import free_memory
from .precision import (
    Precision,
    blank_model,
    bytes_to_run,
    make_precision,
    multiplies_bf16,
    why_slow,
)

SMALL = 1 << 30  # bytes in 16 bits that a CPU reads fast enough for torch's operations at any width


def choose_precision(
    name: str, device: torch.device, checkpoint: Checkpoint, *, vision: bool, drawing: bool
) -> tuple[Precision, tuple[str, ...]]:
    """The precision `name`, or the one that `auto` finds, and what the user should know of it.

    Raises:
        ModelError: the device cannot run it, or the checkpoint holds another one.
    """
    if checkpoint.holds_codes and name not in ("auto", checkpoint.precision):
        raise ModelError(
            f"{checkpoint.path}: was quantized to {checkpoint.precision}; for --precision {name} "
            "take the checkpoint that it was made from"
        )
    notes = []
    if checkpoint.holds_codes:
        name = str(checkpoint.precision)
    elif name == "auto":
        name, note = choose_automatically(checkpoint, device, vision=vision, drawing=drawing)
        notes.append(note)
    notes.append(why_slow(name, device))
    return make_precision(name, device), tuple(note for note in notes if note)


def choose_automatically(
    checkpoint: Checkpoint, device: torch.device, *, vision: bool = True, drawing: bool = True
) -> tuple[str, str]:
    """The best precision that fits, and a line where that is not the best of all."""
    if device.type == "cpu" and checkpoint.numbers * 2 < SMALL:
        return "fp32" if kernel() is None else "bf16", ""

    def needs(name: str) -> int:
        precision = make_precision(name, device)
        blank = blank_model(checkpoint.config, precision, vision=vision, drawing=drawing)
        return bytes_to_run(blank)

    names = candidates(device)
    held = {"int8": names[1:] or names, "nf4": names[-1:]}  # wider would gain nothing
    return best_that_fits(held.get(str(checkpoint.precision), names), needs, free_memory(device))


def best_that_fits(names: Sequence[str], needs: Callable[[str], int], free: int) -> tuple[str, str]:
    """The first of the precisions whose bytes are free, else the last; and why not the first."""
    there = f"{size_in_words(free)} are free"
    for name in names:
        if needs(name) <= free:
            first = f"{name}, since {names[0]} needs {size_in_words(needs(names[0]))} and {there}"
            return name, "" if name == names[0] else first
    return names[-1], f"{names[-1]} needs about {size_in_words(needs(names[-1]))}, but only {there}"


def candidates(device: torch.device) -> tuple[str, ...]:
    """The precisions that are worth while on a device, the best first."""
    if device.type == "cuda":
        return ("bf16", "nf4")
    if device.type == "mps":
        return ("bf16",)
    return ("bf16", "int8", "nf4" if multiplies_bf16() else "int4")
