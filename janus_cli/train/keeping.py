"""The folder of a run while it lasts: its state to go on from, and its losses to look at.

They lie in `training/` of the folder where the trained model will be when all is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..engine.machine import is_out_of_memory
from ..errors import OutputError, UsageError
from ..files import errors_named, give_name, name_aside, write_whole
from .curves import draw_curves
from .loop import Trainer

INSIDE = "training"
DAMAGE = (
    *(OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError),
    pickle.UnpicklingError,
)
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
            try:
                torch.save({"facts": dict(facts), **trainer.state()}, aside)
            except RuntimeError as error:  # so torch says that a disk is full
                raise OutputError(
                    f"{place}: cannot be written ({first_line(error)}); make room for it"
                ) from error
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
    with damage_named(file):
        state = torch.load(file, weights_only=True, map_location="cpu")
        before = dict(state["facts"])
    for flag, value in facts.items():
        if before.get(flag) != value:
            raise UsageError(
                f"{flag}: the run in {folder} had {before.get(flag)}, not {value}; "
                "go on with that, or choose another -o"
            )
    with damage_named(file):
        trainer.restore(state)


@contextlib.contextmanager
def damage_named(file: Path) -> Iterator[None]:
    """What goes wrong with a state that another program wrote, or half of one."""
    try:
        yield
    except DAMAGE as error:
        if is_out_of_memory(error):
            raise
        raise OutputError(
            f"{file}: is damaged ({first_line(error)}); begin anew with --force"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says, without the stack that torch adds."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def refuse(folder: Path, models: Iterable[Path], *, resume: bool, force: bool) -> None:
    """Raise an OutputError where a run would lie over something else, or over one of `models`."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose another -o")
    if folder.resolve() in {model.resolve() for model in models}:
        raise OutputError(f"{folder}: is the model to begin with; choose another -o")
    if not (resume or force) and folder.exists() and os.listdir(folder):
        begun = (folder / INSIDE / STATE).is_file()
        hint = "go on with --resume" if begun else "choose another -o"
        raise OutputError(f"{folder}: exists; {hint}, or replace it with --force")


def try_out(folder: Path) -> None:
    """Raise an OutputError where a run could not be kept; of what was tried, nothing is left."""
    place = folder / INSIDE
    missing = [path for path in (place, *place.parents) if not os.path.exists(path)]
    try:
        with errors_named(str(folder)):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
