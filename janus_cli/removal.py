"""Taking an installed model off the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import adapters, weights
from .errors import ModelError, OutputError, size_in_words


@dataclass(frozen=True)
class Removal:
    """What would be removed."""

    path: Path
    size: str
    execute: Callable[[], None]


def plan_removal(name: str) -> Removal:
    """How an installed model or adapter, or an unfinished one, would be removed; nothing is
    touched yet.

    Raises:
        ModelError: it is not installed, or belongs to janus itself.
    """
    if name == weights.EMBEDDED:
        raise ModelError("model embedded: comes with janus and stays")
    if name in adapters.installed() or weights.has_run(name):
        return _plan_folder_removal(weights.shelf() / name)
    if name not in weights.installed():
        advice = "janus models lists them"
        if Path(name).exists():
            advice = "a folder that janus did not make is yours to remove"
        raise ModelError(f"model {name}: is not installed; {advice}")
    folder = weights.find_model(name)
    if folder.parent == weights.shelf():
        return _plan_folder_removal(folder)
    return _plan_cache_removal(str(weights.repository(name)))


def _plan_folder_removal(folder: Path) -> Removal:
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Removal(folder, size_in_words(held), lambda: _remove_folder(folder))


def _remove_folder(folder: Path) -> None:
    """Out of sight first, so that half of a model is never taken for a whole one."""
    aside = folder.with_name(f".{folder.name}-removed")
    try:
        if folder.is_symlink():
            folder.unlink()
            return
        os.rename(folder, aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be removed ({error.strerror})") from error


def _plan_cache_removal(repository: str) -> Removal:
    """Every revision of a repository; the hub's library knows which files others share."""
    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir()
    repos = [repo for repo in found.repos if repo.repo_id == repository]
    revisions = [revision.commit_hash for repo in repos for revision in repo.revisions]
    strategy = found.delete_revisions(*revisions)
    return Removal(
        repos[0].repo_path, size_in_words(strategy.expected_freed_size), strategy.execute
    )
