"""The folder of a run while it lasts: its state to go on from, and its losses to look at.

They lie in `training/` of the folder where the trained model will be when all is done.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import OutputError, UsageError
from ..files import errors_named, give_name, name_aside, write_whole
from .curves import draw_curves
from .loop import Trainer

INSIDE = "training"
STATE, LOSSES, CURVES = "state.pt", "losses.jsonl", "losses.png"


def save(folder: Path, trainer: Trainer, facts: Mapping[str, Any]) -> None:
    """Write where a run stands, each file whole or not at all.

    Args:
        facts: flags and what they were, which a run that goes on has to share.
    """
    place = folder / INSIDE
    with errors_named(str(place)):
        place.mkdir(parents=True, exist_ok=True)
        with name_aside(str(place / STATE)) as aside:
            torch.save({"facts": dict(facts), **trainer.state()}, aside)
            give_name(aside, str(place / STATE), force=True)
    lines = [json.dumps(asdict(record)) + "\n" for record in trainer.records]
    write_whole(str(place / LOSSES), "".join(lines).encode(), force=True)
    words = [(r.step, r.words) for r in trainer.records if r.words is not None]
    codes = [(r.step, r.codes) for r in trainer.records if r.codes is not None]
    curves = draw_curves({"words": words, "codes": codes})
    write_whole(str(place / CURVES), curves, force=True)


def restore(folder: Path, trainer: Trainer, facts: Mapping[str, Any]) -> None:
    """Put a trainer where the run of a folder stood.

    Raises:
        OutputError: there is no run in it, or it is damaged.
        UsageError: the run was another one.
    """
    file = folder / INSIDE / STATE
    if not file.is_file():
        raise OutputError(f"{folder}: holds no run to resume; leave --resume out to begin one")
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        before = state["facts"]
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise OutputError(f"{file}: is damaged ({error}); begin anew with --force") from error
    for flag, value in facts.items():
        if before.get(flag) != value:
            raise UsageError(
                f"{flag}: the run in {folder} had {before.get(flag)}, not {value}; "
                "go on with that, or choose another -o"
            )
    trainer.restore(state)


def refuse(folder: Path, *, resume: bool, force: bool) -> None:
    """Raise an OutputError where a new run would lie over something else."""
    if not (resume or force) and folder.exists() and (not folder.is_dir() or os.listdir(folder)):
        begun = (folder / INSIDE / STATE).is_file()
        hint = "go on with --resume" if begun else "choose another -o"
        raise OutputError(f"{folder}: exists; {hint}, or replace it with --force")
