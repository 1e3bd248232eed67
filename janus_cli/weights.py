"""Which checkpoint folder answers. Knows folders and names, not what is inside them."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import ModelError

EMBEDDED = "embedded"
EMBEDDED_NOTICE = (
    "the embedded model knows only shapes, penguins, corgis and words; --model takes a real Janus"
)
PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
SHELF = CHECKOUT / "weights"  # there in a checkout only


def find_model(choice: str | None) -> Path:
    """The checkpoint folder that a path or a name stands for; None is the embedded model."""
    if not choice:
        return _embedded()
    folder = Path(choice).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if choice == EMBEDDED:
        return _embedded()
    if choice in installed():
        return SHELF / choice
    if folder.is_dir():
        raise ModelError(f"model {choice}: holds no config.json; name the folder of a checkpoint")
    if folder.exists():
        raise ModelError(f"model {choice}: is a file; name the folder of a checkpoint")
    raise ModelError(
        f"model {choice}: no such folder; give --model the path of a checkpoint folder "
        f"or a name ({', '.join(installed())})"
    )


def installed() -> list[str]:
    """The names that --model takes, the embedded model first."""
    is_checkout = (CHECKOUT / "pyproject.toml").is_file()
    names = sorted(os.listdir(SHELF)) if is_checkout and SHELF.is_dir() else []
    others = [name for name in names if (SHELF / name / "config.json").is_file()]
    return [EMBEDDED, *(name for name in others if name != EMBEDDED)]


def _embedded() -> Path:
    """In an installed wheel the model lies in the package, in a checkout beside it."""
    for folder in (PACKAGE / EMBEDDED, SHELF / EMBEDDED):
        if (folder / "config.json").is_file():
            return folder
    raise ModelError("the embedded model is missing; reinstall janus, or give --model PATH")
