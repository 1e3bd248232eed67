"""A checkpoint that is loaded to be trained: in fp32, with all that a result is written with."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from ..engine.checkpoint import QUANTIZED, Checkpoint, open_checkpoint
from ..engine.config import JanusConfig
from ..engine.family import open_writer
from ..engine.load import load_model
from ..engine.model import Janus
from ..engine.pixels import Preprocessing
from ..engine.precision import make_precision
from ..engine.prompt import PromptWriter
from ..errors import ModelError, UsageError


@dataclass
class Pupil:
    """A model and what belongs to it."""

    checkpoint: Checkpoint
    model: Janus
    writer: PromptWriter
    preprocessing: Preprocessing
    dtype: torch.dtype
    """Of the checkpoint's numbers, and of those that are written in the end."""


def open_pupil(path: Path, device: torch.device) -> Pupil:
    """Load a checkpoint in fp32.

    Raises:
        ModelError: it is damaged, or was quantized.
        UsageError: it is a JanusFlow.
    """
    with ExitStack() as stack:
        checkpoint = open_checkpoint(path, stack)
        if not isinstance(checkpoint.config, JanusConfig):
            raise UsageError(f"--model {path}: a JanusFlow is not trained here; take a Janus")
        if checkpoint.precision in QUANTIZED:
            raise ModelError(
                f"{path}: was quantized to {checkpoint.precision}; train the checkpoint that it "
                "was made from, and quantize the result"
            )
        model = load_model(checkpoint, make_precision("fp32", device), device)
        assert isinstance(model, Janus)
        for parameter in model.parameters():
            if parameter.device.type == "cpu":  # else it may lie in the file, which is read-only
                parameter.data = parameter.data.clone()
        writer = open_writer(checkpoint)
        preprocessing = Preprocessing.load(path, checkpoint.config.vision.image_size)
        norm = checkpoint.published("language.norm.weight")[0]
        dtype = checkpoint.tensors[norm].read().dtype
    return Pupil(checkpoint, model, writer, preprocessing, dtype)
