"""What was trained to a folder: a model that --model takes, or an adapter for --adapter."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError

from .. import weights
from ..engine.checkpoint import Checkpoint
from ..engine.family import tell_family
from ..engine.model import Janus
from ..engine.prompt import PromptWriter
from ..engine.quantize import COPIED
from ..engine.save import save_checkpoint
from ..errors import OutputError
from ..files import errors_named

OWN = ("tokenizer.json", "README.md")  # not copied: written anew, or about another model
LAST = "config.json"  # what makes a folder a model
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.index.json")
TEMPLATE = "chat_template.jinja"
OLD_ROLES = (
    "{% for message in messages %}{{ message['role'].capitalize() }}: {{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}\n{# roles: User, Assistant #}\n"
)
"""What shows that a checkpoint in transformers' layout is of Janus, not of Janus-Pro."""


def write_model(
    model: Janus, writer: PromptWriter, base: Checkpoint, folder: Path, *, dtype: torch.dtype
) -> None:
    """Write a model in transformers' layout, with whatever stood beside its weights before.

    Raises:
        OutputError: it cannot be written.
    """
    with errors_named(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".janus-", dir=folder) as name:
            aside = Path(name)
            try:
                save_checkpoint(model, writer, aside, dtype=dtype)
            except SafetensorError as error:  # a full disk, for one
                raise OutputError(
                    f"{folder}: cannot be written ({error}); make room, then --resume"
                ) from error
            for file in COPIED:
                if file not in OWN and (base.path / file).is_file():
                    shutil.copyfile(base.path / file, aside / file)
            if tell_family(base, writer.tokenizer) == "janus" and not (aside / TEMPLATE).is_file():
                (aside / TEMPLATE).write_text(OLD_ROLES)
            move(aside, folder)


def write_adapter(model: Janus, base: Path, folder: Path) -> None:
    """Write what was trained of a model, without the model."""
    from . import adapt

    with errors_named(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".janus-", dir=folder) as name:
            adapt.save(model, Path(name) / "adapter", base=base)
            move(Path(name) / "adapter", folder)


def move(aside: Path, folder: Path) -> None:
    """Give every file its place; the config, without which there is no model, comes last.

    What lay there of another model goes first, or it would be read instead of this one.
    """
    last = (LAST, weights.ADAPTER)
    for pattern in (*last, *WEIGHTS):
        for old in folder.glob(pattern):
            old.unlink()
    for file in sorted(aside.iterdir(), key=lambda file: file.name in last):
        os.replace(file, folder / file.name)
