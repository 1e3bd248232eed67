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
    "janusflow-1.3b": "deepseek-ai/JanusFlow-1.3B",
}
VAE_REPO = "stabilityai/sdxl-vae"  # what JanusFlow paints with
VAE_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
VAE_INSIDE, VAE_BESIDE = "vae", "sdxl-vae"  # its folder in that of a model, and beside it
ADAPTER = "adapter_config.json"  # what a folder holds that is no model but an adapter
RUN = "training/state.pt"  # what a folder holds in which janus train is not done
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
    if (folder / ADAPTER).is_file() or (shelf() / choice / ADAPTER).is_file():
        raise ModelError(f"model {choice}: is an adapter; give it with --adapter")
    for place in (folder, shelf() / choice):
        if (place / RUN).is_file():
            raise ModelError(
                f"model {choice}: its training has not come to its end; go on with it: "
                f"janus train --resume -o {place}"
            )
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


def find_vae(model: Path) -> Path:
    """The folder of the VAE with which a JanusFlow model paints.

    That of JANUS_VAE; one in the model's folder, or beside that; or the one that was pulled.

    Raises:
        ModelError: there is none.
    """
    chosen = os.environ.get("JANUS_VAE")
    if chosen:
        folder = Path(chosen).expanduser()
        if not is_vae(folder):
            raise ModelError(f"JANUS_VAE: {chosen} holds no {' and '.join(VAE_FILES)} of a VAE")
        return folder
    pulled = cache.find_snapshot(VAE_REPO)
    near = [model / VAE_INSIDE, model.resolve().parent / VAE_BESIDE]
    for folder in [*near, pulled] if pulled else near:
        if is_vae(folder):
            return folder
    raise ModelError(
        f"{model}: paints with the VAE of SDXL, which is not on this machine; fetch it: janus pull "
        "janusflow-1.3b, or set JANUS_VAE to its folder"
    )


def has_vae(model: Path) -> bool:
    """Whether there is a VAE with which a JanusFlow model paints."""
    try:
        return bool(find_vae(model))
    except ModelError:
        return False


def is_vae(folder: Path) -> bool:
    """Whether a folder holds a VAE as diffusers saves it."""
    return all((folder / name).is_file() for name in VAE_FILES)


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


def has_run(name: str) -> bool:
    """Whether a name is that of a folder in `shelf()` where a training run has begun."""
    plain = name not in ("", ".", "..") and os.path.basename(name) == name
    return plain and (shelf() / name / RUN).is_file()


def _shelved() -> list[str]:
    names = sorted(os.listdir(shelf())) if shelf().is_dir() else []
    others = [name for name in names if (shelf() / name / "config.json").is_file()]
    no_models = (EMBEDDED, VAE_BESIDE)
    return [name for name in others if name not in no_models and not name.startswith(".")]


def _embedded() -> Path:
    """In an installed wheel the model lies in the package, in a checkout beside it."""
    for folder in (PACKAGE / EMBEDDED, CHECKOUT / "weights" / EMBEDDED):
        if (folder / "config.json").is_file():
            return folder
    raise ModelError("the embedded model is missing; reinstall janus, or give --model PATH")
