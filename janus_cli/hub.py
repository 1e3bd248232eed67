"""Models from the Hugging Face hub: a name → a whole model in the hub's own cache.

Knows what a model needs; how one file comes is known to download.py, what can fail to trouble.py.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, cache, download, terminal, trouble, weights
from .download import File, Source
from .errors import ModelError, OutputError, UsageError, size_in_words
from .progress import ProgressLine

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

SETTINGS = (
    *("config.json", "generation_config.json", "preprocessor_config.json"),
    *("processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
    *("chat_template.json", "chat_template.jinja"),
)
FILE_NAME = re.compile(r"\w[\w.-]*\.(json|jinja|safetensors|bin)")  # in no folder
REVISION = re.compile(r"(?!.*\.\.)[^/\\:\s][^\\:\s]*")  # becomes a path in the cache
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Listing:
    """What the hub says of a repository."""

    source: Source
    files: Mapping[str, File]
    licence: str


def pull(choice: str, revision: str | None, progress: ProgressLine) -> Path:
    """Get whatever this machine lacks of a model; the folder that then holds it.

    JanusFlow's VAE comes with it, unless there is one.

    Raises:
        ModelError: there is no such model, janus cannot run it, or the hub does not give it out.
        OutputError: the cache has too little room, or cannot be written to.
    """
    repo = _repository(choice)
    if revision is not None and not REVISION.fullmatch(revision):
        raise UsageError(f"--revision: {revision!r} is no branch, tag or commit")
    _quieten()
    folder = _bring(repo, revision, lambda listing: _complete(listing, progress), cache.is_whole)
    if cache.is_flow(folder / cache.CONFIG) and not weights.has_vae(folder):
        vae = weights.VAE_REPO
        _bring(vae, None, lambda listing: _complete_vae(listing, progress), weights.is_vae)
    return folder


def _bring(
    repo: str,
    revision: str | None,
    complete: Callable[[Listing], None],
    is_whole: Callable[[Path], bool],
) -> Path:
    """The folder of a repository, made complete; or as it is here, if the hub is out of reach."""
    from huggingface_hub.utils import httpx

    with trouble.explained(repo, revision):
        try:
            listing = _ask(repo, revision)
        except (httpx.HTTPError, OSError) as error:
            return _from_cache(repo, revision, error, is_whole)
        complete(listing)
        _remember(listing.source, revision)
    return listing.source.snapshot


def _repository(choice: str) -> str:
    repo = weights.repository(choice)
    if repo is None:
        raise ModelError(
            f"{choice}: is unknown; pull {', '.join(weights.NAMES)}, or a repository as owner/name"
        )
    return repo


def _quieten() -> None:
    """Keep the library's own words off the screen; what matters is said here."""
    try:
        from huggingface_hub.utils import logging
    except ValueError as error:  # it reads the environment when it is loaded
        raise ModelError(f"the hub's library cannot start: {error}; check HF_ENDPOINT") from error
    logging.set_verbosity(logging.CRITICAL + 1)


# What the hub says


def _ask(repo: str, revision: str | None) -> Listing:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError

    api = HfApi(library_name="janus-cli", library_version=__version__)
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=timeout)
    except HFValidationError as error:
        raise ModelError(f"{repo}: is no repository's name; write owner/name") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a portal's page, say
        raise ModelError(f"{repo}: that is no answer of a hub; check HF_ENDPOINT") from error
    commit = info.sha or ""
    if not cache.COMMIT.fullmatch(commit):
        raise ModelError(f"{repo}: the hub names no commit; check HF_ENDPOINT")
    return Listing(Source(repo, commit), _announced(repo, info), _licence(repo, info))


def _announced(repo: str, info: ModelInfo) -> dict[str, File]:
    """The files of a repository that can be part of a model."""
    files = {}
    for sibling in info.siblings or ():
        name, lfs = sibling.rfilename, sibling.lfs
        if not FILE_NAME.fullmatch(name):
            continue
        size, digest = (lfs.size, lfs.sha256) if lfs else (sibling.size, sibling.blob_id)
        # The digest becomes the name of a file here; nothing else may come in that way.
        if not isinstance(size, int) or not DIGEST.fullmatch(digest or ""):
            raise ModelError(f"{repo}: the hub announces no checksum of {name}; check HF_ENDPOINT")
        files[name] = File(name, size, digest or "")
    return files


def _licence(repo: str, info: ModelInfo) -> str:
    """The model's licence as its card states it, and where to read it."""
    from huggingface_hub import constants

    card = info.card_data
    stated = [card.get("license"), card.get("license_name")] if card else []
    named = " / ".join(str(name) for name in dict.fromkeys(stated) if name) or "not stated"
    link = str((card.get("license_link") if card else None) or "")
    if not link.startswith(("https://", "http://")):
        page = f"{constants.ENDPOINT}/{repo}"
        link = f"{page}/blob/main/{link}" if link else page
    return f"{repo}: licence: {named} ({link})"


# What is still to come


def _complete(listing: Listing, progress: ProgressLine) -> None:
    """Fetch the settings, then the weights: a model that cannot run costs no gigabytes."""
    source, files = listing.source, listing.files
    if cache.CONFIG not in files:
        raise ModelError(f"{source.repo}: is not a Janus model: it has no config.json")
    download.fetch(source, files[cache.CONFIG], progress.show)
    reason = cache.refusal(source.snapshot / cache.CONFIG)
    if reason is not None:
        raise ModelError(f"{source.repo}: {reason}")
    for name in cache.NEEDED:
        if name not in files:
            raise ModelError(f"{source.repo}: has no {name}, which janus needs")
    wanted = [files[name] for name in SETTINGS if name in files]
    wanted += _weights(listing, progress)  # last, so that only they are missing when it breaks off
    _fetch_all(listing, wanted, progress)


def _complete_vae(listing: Listing, progress: ProgressLine) -> None:
    """Fetch what JanusFlow paints with."""
    for name in weights.VAE_FILES:
        if name not in listing.files:
            raise ModelError(f"{listing.source.repo}: has no {name}, with which JanusFlow paints")
    _fetch_all(listing, [listing.files[name] for name in weights.VAE_FILES], progress)


def _fetch_all(listing: Listing, wanted: list[File], progress: ProgressLine) -> None:
    """Fetch files for which there is room, and show under which licence they come."""
    source = listing.source
    if to_come := sum(source.bytes_to_come(file) for file in wanted):
        _check_room(source, to_come)
        progress.hide()
        terminal.say(listing.licence)
    for file in wanted:
        download.fetch(source, file, progress.show)


def _weights(listing: Listing, progress: ProgressLine) -> list[File]:
    """The files that hold the weights, with their index: safetensors, else pickles, never both."""
    source, files = listing.source, listing.files
    for index, single in cache.WEIGHTS:
        if index in files:
            download.fetch(source, files[index], progress.show)
            names = cache.read_index(source.snapshot / index)
        elif single in files:
            names = [single]
        else:
            continue
        if names is None or not files.keys() >= set(names):
            raise ModelError(f"{source.repo}: is damaged: {index} names files that are not there")
        return [files[name] for name in names]
    singles = " nor ".join(single for _, single in cache.WEIGHTS)
    raise ModelError(f"{source.repo}: has neither {singles}, nor an index of several")


def _check_room(source: Source, to_come: int) -> None:
    folder = cache.root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < to_come:
        raise OutputError(
            f"{source.repo}: {size_in_words(to_come)} are still to come, and {folder} has "
            f"{size_in_words(free)} free; make room, or point HF_HUB_CACHE elsewhere"
        )


def _remember(source: Source, revision: str | None) -> None:
    """Let the revision point to this commit, now that it is whole."""
    if revision == source.commit:
        return
    ref = cache.folder_of(source.repo) / "refs" / (revision or cache.DEFAULT_REVISION)
    if ref.is_file() and ref.read_text() == source.commit:
        return  # a cache that is only read may stay so
    ref.parent.mkdir(parents=True, exist_ok=True)
    aside = ref.with_name(f".{ref.name}.{os.getpid()}.tmp")
    aside.write_text(source.commit)
    os.replace(aside, ref)


def _from_cache(
    repo: str, revision: str | None, error: Exception, is_whole: Callable[[Path], bool]
) -> Path:
    """The model as it is here, where the hub is out of reach; else the error as it was."""
    offline = trouble.is_offline(error)
    snapshot = cache.find_snapshot(repo, revision)
    if snapshot is None or not is_whole(snapshot) or not (offline or trouble.may_pass(error)):
        raise error
    if not offline:
        terminal.say(f"{repo}: the hub cannot be reached; here is the model as it was")
    return snapshot
