"""The hub's cache on this machine: which models lie in it, whole, and where.

Reads the documented layout of the folders and nothing else: completion and every start look here,
so neither the hub's library nor the network is touched.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

DEFAULT_REVISION = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
PREFIX = "models--"
CONFIG = "config.json"
FLOW = "vision_gen_enc_config"  # a key that only JanusFlow's has
NEEDED = (CONFIG, "tokenizer.json")
WEIGHTS = (  # the index of several files, or the only one; in the order of preference
    ("model.safetensors.index.json", "model.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin"),
)


def root() -> Path:
    """The cache's folder, told from the environment as the hub's library tells it."""
    get = os.environ.get
    home = get("HF_HOME", os.path.join(get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    hub = os.path.join(_expanded(home), "hub")
    folder = get("HF_HUB_CACHE", get("HUGGINGFACE_HUB_CACHE", hub))
    return Path(_expanded(folder)).resolve()


def folder_of(repo: str) -> Path:
    """Where the cache keeps a repository."""
    return root() / (PREFIX + repo.replace("/", "--"))


def find_snapshot(repo: str, revision: str | None = None) -> Path | None:
    """The folder of a revision: a branch, a tag or a commit; None is main, else the newest."""
    folder = folder_of(repo)
    commit = _read(folder / "refs" / (revision or DEFAULT_REVISION))
    if commit is None and revision and COMMIT.fullmatch(revision):
        commit = revision
    if commit and COMMIT.fullmatch(commit):
        snapshot = folder / "snapshots" / commit
        if snapshot.is_dir():
            return snapshot
    return None if revision else _newest(folder / "snapshots")


def missing_file(snapshot: Path) -> str | None:
    """The first file without which the model cannot be run; None where nothing is missing."""
    for name in NEEDED:
        if not (snapshot / name).is_file():
            return name
    for index, single in WEIGHTS:
        if (snapshot / index).is_file():
            shards = read_index(snapshot / index)
            if shards is None:
                return index
            return next((name for name in shards if not (snapshot / name).is_file()), None)
        if (snapshot / single).is_file():
            return None
    return WEIGHTS[0][1]


def read_index(file: Path) -> list[str] | None:
    """The names of the files that an index of weights points to; None where it is damaged."""
    content = _read_json(file)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        return None
    return sorted(set(names.values())) or None


def refusal(config: Path) -> str | None:
    """Why this version cannot run the model of a config.json; None where it can."""
    content = _read_json(config)
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind == "janus":
        return None
    if kind != "multi_modality":
        return "is not a Janus model"
    # DeepSeek-VL says that it is "multi_modality" too; it has nothing to draw with.
    draws = "gen_head_config" in content or FLOW in content
    return None if draws else "is not a Janus model"


def is_flow(config: Path) -> bool:
    """Whether a config.json of the authors is that of JanusFlow, which paints with a VAE."""
    content = _read_json(config)
    return isinstance(content, dict) and FLOW in content


def whole_models() -> list[str]:
    """The repositories whose model is here, whole, and one that this version can run."""
    try:
        names = sorted(os.listdir(root()))
    except OSError:
        return []
    folders = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    repos = [name.replace("--", "/") for name in folders if name.count("--") == 1]
    snapshots = {repo: find_snapshot(repo) for repo in repos}
    return [repo for repo, snapshot in snapshots.items() if snapshot and is_whole(snapshot)]


def is_whole(snapshot: Path) -> bool:
    """Whether a folder holds all of a model that this version can run."""
    return refusal(snapshot / CONFIG) is None and missing_file(snapshot) is None


def _newest(snapshots: Path) -> Path | None:
    try:
        folders = [folder for folder in snapshots.iterdir() if folder.is_dir()]
        return max(folders, key=lambda folder: folder.stat().st_mtime, default=None)
    except OSError:
        return None


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError):
        return None


def _read_json(file: Path) -> Any:
    try:
        return json.loads(_read(file) or "")
    except (ValueError, RecursionError):
        return None
