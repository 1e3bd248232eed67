"""Adapters: what was trained of a model, in a folder of its own. Knows folders, names and configs,
not what is merged, nor how."""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import weights
from .errors import ModelError

CONFIG = weights.ADAPTER
WEIGHTS = "adapter_model.safetensors"
FORMAT = 1
KINDS = ("lora", "aligners")


@dataclass(frozen=True)
class Adapter:
    """What an adapter's config says."""

    path: Path
    kind: str
    """One of KINDS: low-rank products that are added to the decoder, or new aligners."""
    base: str
    """The model that it was trained on: a name, or a folder."""
    rank: int = 0
    """Of the products."""
    alpha: float = 0.0
    """The products count alpha / rank times."""

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS


def find(choice: str) -> Adapter:
    """The adapter that a folder or a name stands for.

    Raises:
        ModelError: there is none, or its config cannot be read.
    """
    folder = Path(choice).expanduser()
    for place in (folder, weights.shelf() / choice):
        if (place / CONFIG).is_file():
            return read(place)
    if (folder / "config.json").is_file() or choice in weights.installed():
        raise ModelError(f"adapter {choice}: is a model; give it with --model")
    known = ", ".join(installed()) or "none is installed"
    raise ModelError(
        f"adapter {choice}: not found; give --adapter the folder that janus train --lora has "
        f"written, or a name ({known})"
    )


def installed() -> list[str]:
    """The names that --adapter takes: the adapters beside the models in the weights folder."""
    shelf = weights.shelf()
    names = sorted(os.listdir(shelf)) if shelf.is_dir() else []
    return [n for n in names if (shelf / n / CONFIG).is_file() and not n.startswith(".")]


def read(folder: Path) -> Adapter:
    """What the config of an adapter says; ModelError if it is none of ours."""
    file = folder / CONFIG
    try:
        raw = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); train the adapter again") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or raw.get("kind") not in KINDS:
        raise ModelError(f"{file}: was not written by janus train, or by another version of it")
    try:
        return Adapter(folder, raw["kind"], str(raw["base_model_name_or_path"]), **_sizes(raw))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{file}: is damaged ({error!r}); train the adapter again") from error


def _sizes(raw: dict[str, Any]) -> dict[str, Any]:
    """Of low-rank products; aligners have none."""
    if raw["kind"] != "lora":
        return {}
    rank, alpha = int(raw["r"]), float(raw["lora_alpha"])
    if rank < 1:
        raise ValueError(f"a rank of {rank}")
    if not math.isfinite(alpha / rank):
        raise ValueError(f"an alpha of {alpha}")
    return {"rank": rank, "alpha": alpha}


def name_of_base(base: Path) -> str:
    """What an adapter calls the model it was trained on: as --model does, else by its folder."""
    for name in weights.installed():
        with contextlib.suppress(ModelError):
            if weights.find_model(name).resolve() == base.resolve():
                return name
    return str(base.resolve())
