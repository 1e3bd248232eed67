"""Which checkpoint folder answers. Knows folders and names, not what is inside them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from . import cache
from .errors import ModelError

EMBEDDED = "embedded"
EMBEDDED_NOTICE = (
    "the embedded model knows only shapes, penguins, corgis and words; --model takes a real Janus"
)
NAMES = {  # what `janus pull` knows by a short name
    "janus-1.3b": "deepseek-ai/Janus-1.3B",
    "janus-pro-1b": "deepseek-community/Janus-Pro-1B",
    "janus-pro-7b": "deepseek-community/Janus-Pro-7B",
}
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent


def find_model(choice: str | None) -> Path:
    """The checkpoint folder that a path or a name stands for; None is the embedded model."""
    if not choice:
        return _embedded()
    folder = Path(choice).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if choice == EMBEDDED:
        return _embedded()
    if choice in _shelved():
        return shelf() / choice
    pulled = _pulled(choice)
    if pulled is not None:
        return pulled
    if folder.is_dir():
        raise ModelError(f"model {choice}: holds no config.json; name the folder of a checkpoint")
    if folder.exists():
        raise ModelError(f"model {choice}: is a file; name the folder of a checkpoint")
    if choice.lower() in NAMES:
        raise ModelError(f"model {choice}: is not on this machine; fetch it: janus pull {choice}")
    fetch = f"; or fetch that repository: janus pull {choice}" if repository(choice) else ""
    raise ModelError(
        f"model {choice}: no such folder; give --model the path of a checkpoint folder "
        f"or a name ({', '.join(installed())}){fetch}"
    )


def installed() -> list[str]:
    """The names that --model takes: the embedded model, those beside it, those that were pulled."""
    short = {repo: name for name, repo in NAMES.items()}
    pulled = [short.get(repo, repo) for repo in cache.whole_models()]
    return list(dict.fromkeys([EMBEDDED, *_shelved(), *pulled]))


def repository(choice: str) -> str | None:
    """The repository on the hub that a short name or owner/name stands for."""
    if choice.lower() in NAMES:
        return NAMES[choice.lower()]
    return choice if REPOSITORY.fullmatch(choice) else None


def _pulled(choice: str) -> Path | None:
    """The folder of a pulled model; None where nothing of it is on this machine."""
    repo = repository(choice)
    snapshot = cache.find_snapshot(repo) if repo else None
    if snapshot is None:
        return None
    reason = cache.refusal(snapshot / cache.CONFIG)
    if reason is not None and (snapshot / cache.CONFIG).is_file():
        raise ModelError(f"model {choice}: {reason}")
    missing = cache.missing_file(snapshot)
    if missing is not None:
        raise ModelError(
            f"model {choice}: {missing} is missing or damaged in {snapshot}; mend it: "
            f"janus pull {choice}"
        )
    return snapshot


def shelf() -> Path:
    """Where quantized models lie, and any others that the user puts there.

    JANUS_WEIGHTS, else weights/ of a checkout, else the user's data folder.
    """
    if os.environ.get("JANUS_WEIGHTS"):
        return Path(os.environ["JANUS_WEIGHTS"]).expanduser()
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT / "weights"
    import platformdirs

    return platformdirs.user_data_path("janus") / "weights"


def _shelved() -> list[str]:
    names = sorted(os.listdir(shelf())) if shelf().is_dir() else []
    others = [name for name in names if (shelf() / name / "config.json").is_file()]
    return [name for name in others if name != EMBEDDED and not name.startswith(".")]


def _embedded() -> Path:
    """In an installed wheel the model lies in the package, in a checkout beside it."""
    for folder in (PACKAGE / EMBEDDED, CHECKOUT / "weights" / EMBEDDED):
        if (folder / "config.json").is_file():
            return folder
    raise ModelError("the embedded model is missing; reinstall janus, or give --model PATH")
