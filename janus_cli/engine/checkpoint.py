"""A checkpoint folder whose files are open: what it is, and its tensors under our names.

Strict: a tensor that is missing, left over or of the wrong shape is an error that names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..schema import CODE_GUIDANCE
from . import authors, config, prequantized
from .config import Config
from .layout import OURS, TRANSFORMERS, Layout
from .packing import PACKINGS
from .tensors import Stored, open_tensors

if TYPE_CHECKING:
    from .adapter import Changes

FORMAT = 2  # of our own layout
QUANTIZED = ("int8", "int4", "nf4")


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, before anything of it is read."""

    path: Path
    layout: Layout
    config: Config
    tensors: Mapping[str, Stored]
    precision: str | None = None
    """What it was quantized to; None where it holds plain numbers."""
    family: str | None = None
    """Where the config says it."""
    packing: str | None = None
    """Of int4 and nf4, in our own layout: a key of PACKINGS."""
    tied: bool = False
    """The head over words may be left out where it is the words' embedding."""
    changes: Changes | None = None
    """What an adapter makes of its tensors."""

    @property
    def holds_codes(self) -> bool:
        """Whether the decoder's projections lie there as they are multiplied, in few bits."""
        return self.layout is OURS and self.precision in QUANTIZED

    @property
    def numbers(self) -> int:
        """How many numbers its tensors have."""
        return sum(math.prod(stored.shape) for stored in self.tensors.values())

    def published(self, name: str) -> tuple[str, ...]:
        """The stored tensors that make up our tensor `name`, in the order of joining."""
        if self.tied and name == "text_head.weight":
            head = self.layout.published(name)
            return head if head[0] in self.tensors else self.published("language.embed.weight")
        return self.layout.published(name)

    @property
    def name(self) -> str:
        """What the model is called in answers, its adapter included."""
        name = name_of(self.path)
        return f"{name}+{self.changes.adapter.name}" if self.changes else name

    @property
    def guidance(self) -> float:
        """With which it draws where none is asked for: what stands in generation_config.json.

        transformers' converter writes 5 there, which is what the authors draw with; their own
        layout has no such file.
        """
        path = self.path / "generation_config.json"
        if not path.is_file():
            return CODE_GUIDANCE
        found = read_object(path).get("guidance_scale", CODE_GUIDANCE)
        if type(found) not in (int, float) or not 0 <= found < math.inf:
            raise ModelError(f"{path}: guidance_scale: must be a number of 0 or more")
        return float(found)

    def check_names(self, ours: Mapping[str, torch.Size]) -> None:
        """Raise a ModelError that names a tensor which is missing or left over.

        Args:
            ours: our names of the tensors that are to be read, and their shapes.
        """
        wanted = {part for name in ours for part in self.published(name)}
        found = {name for name in self.tensors if not self.layout.needless.match(name)}
        for what, names in (("lacks", wanted - found), ("has unknown", found - wanted)):
            if names:
                first, others = min(names), len(names) - 1
                more = f" and {others} more" if others else ""
                raise ModelError(f"{self.path}: the checkpoint {what} tensor {first}{more}")
        if self.changes:
            self.changes.check(ours)

    def read_parts(self, name: str) -> list[Tensor]:
        """The stored tensors that make up our tensor `name`, as they lie in their files."""
        return [self.tensors[part].read() for part in self.published(name)]

    def join(self, name: str, parts: list[Tensor], shape: torch.Size) -> Tensor:
        """Our tensor `name` from its parts; its shape must be the one asked for."""
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        if joined.shape[1:] == shape and len(joined) == 1:
            joined = joined[0]  # the authors keep a batch of one around the positions
        if joined.shape != shape:
            raise ModelError(
                f"{self.path}: tensor {self.published(name)[0]} has shape {tuple(joined.shape)}, "
                f"but the model's sizes ask for {tuple(shape)}"
            )
        return joined


def open_checkpoint(path: Path, stack: ExitStack) -> Checkpoint:
    """Recognise a checkpoint by its config and its tensors, whatever its folder is called.

    Its files stay open, memory-mapped, as long as `stack` does.
    """
    raw = read_object(path / "config.json")
    kind = raw.get("model_type")
    if kind == "multi_modality":
        tensors = open_tensors(path, stack)
        sizes, layout = authors.parse(raw, tensors)
        return Checkpoint(path, layout, sizes, tensors)
    sizes = config.parse(raw)
    tensors = open_tensors(path, stack)
    if kind == OURS.name:
        held, family, packing = (raw.get(key) for key in ("precision", "family", "packing"))
        if raw.get("format") != FORMAT or packing not in (None, *PACKINGS):
            raise ModelError(f"{path}: was written by another version of janus; quantize it again")
        return Checkpoint(path, OURS, sizes, tensors, held, family, packing)
    precision = None
    if "quantization_config" in raw:
        precision = prequantized.precision(raw["quantization_config"], path)
        try:
            tensors = prequantized.widened(tensors)
        except (KeyError, ValueError, TypeError) as error:
            raise ModelError(f"{path}: its quantized tensors are damaged ({error!r})") from error
    tied = raw.get("tie_word_embeddings", True)
    return Checkpoint(path, TRANSFORMERS, sizes, tensors, precision=precision, tied=tied)


def name_of(path: Path) -> str:
    """What a model is called: its folder, or its repository in the hub's cache."""
    path = path.resolve()
    if path.parent.name == "snapshots":
        return path.parent.parent.name.split("--")[-1]
    return path.name


def read_object(path: Path) -> dict[str, Any]:
    """What one of the JSON files of a checkpoint says."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path}: is not a model's config")
    return raw
