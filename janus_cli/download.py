"""One file of a repository → the hub's cache: gone on with, checked, and only then named.

The hub's library (2.4, and 1.31 before it) deletes what has come of a file when the connection
breaks or the program ends. Here the part stays, under the name that the library's own tools know
for unfinished files, and the next try asks for the rest alone. A file gets its name when its
content has the announced checksum, so whatever has a name is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, cache, trouble
from .errors import ModelError

if TYPE_CHECKING:
    from huggingface_hub.utils import httpx

PAUSES = (1, 2, 4, 8)  # seconds before each try after one that has brought nearly nothing
ENOUGH = 10 * 2**20  # bytes that a try must bring for the pauses to begin anew
BUFFER = 2**20

Watch = Callable[[str, int, int], None]
"""Is told what is going on, how many bytes are done, and of how many."""


@dataclass(frozen=True)
class File:
    """A file as the hub announces it."""

    name: str
    size: int
    digest: str
    """The sha256 of a large file; git's sha1 of a small one. The cache's name for the content."""


@dataclass(frozen=True)
class Source:
    """One commit of a repository, and where the cache keeps what comes from it."""

    repo: str
    commit: str

    @property
    def snapshot(self) -> Path:
        """The folder in which the files have their names."""
        return cache.folder_of(self.repo) / "snapshots" / self.commit

    def blob(self, file: File) -> Path:
        """Where the content of a file lies."""
        return cache.folder_of(self.repo) / "blobs" / file.digest

    def part(self, file: File) -> Path:
        """Where the content lies as long as it is not whole."""
        blob = self.blob(file)
        return blob.with_name(f"{blob.name}.incomplete")

    def holds(self, file: File) -> bool:
        """Whether the file has its name."""
        return _size(self.snapshot / file.name) == file.size

    def bytes_to_come(self, file: File) -> int:
        """How many bytes of the file this machine lacks."""
        if self.holds(file) or _size(self.blob(file)) == file.size:
            return 0
        return max(0, file.size - max(0, _size(self.part(file))))


def fetch(source: Source, file: File, watch: Watch) -> None:
    """Get a file into the cache, from where its last download broke off."""
    from huggingface_hub.utils import WeakFileLock

    if source.holds(file):
        return
    blob, part = source.blob(file), source.part(file)
    folder = cache.folder_of(source.repo).name
    lock = cache.root() / ".locks" / folder / f"{file.digest}.lock"  # the library's, so we share
    for place in (lock, blob, source.snapshot / file.name):
        place.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        is_new = _size(blob) != file.size  # nobody else has brought it while we waited
        if is_new:
            _download(source, file, watch)
            _check(source, file, watch)
            os.replace(part, blob)
        _name(blob, source.snapshot / file.name, is_new=is_new)


def _download(source: Source, file: File, watch: Watch) -> None:
    """Complete the part of a file; give up when several tries in a row bring nearly nothing."""
    from huggingface_hub.utils import httpx

    part, tries = source.part(file), 0
    while True:
        before = _size(part)
        try:
            return _go_on(source, file, watch)
        except httpx.HTTPError as error:
            tries = tries + 1 if _size(part) - before < ENOUGH else 1
            if tries > len(PAUSES) or not trouble.may_pass(error):
                raise
        watch(f"{file.name}: the connection broke; going on", _size(part), file.size)
        time.sleep(PAUSES[tries - 1])


def _go_on(source: Source, file: File, watch: Watch) -> None:
    """Ask once for what the part lacks."""
    from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    part = source.part(file)
    done = max(0, _size(part))
    if done >= file.size:
        part.touch()  # an empty file is whole before anybody asks for it
        return
    url = hf_hub_url(source.repo, file.name, revision=source.commit)
    headers = build_hf_headers(library_name="janus-cli", library_version=__version__)
    headers["Accept-Encoding"] = "identity"  # the size and the range are those of the file itself
    if done:
        headers["Range"] = f"bytes={done}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        _keep(response, file, part, watch)


def _keep(response: httpx.Response, file: File, part: Path, watch: Watch) -> None:
    """Write what comes to the end of the part; a server that knows no ranges begins anew."""
    from huggingface_hub.utils import httpx

    resumes = response.status_code == httpx.codes.PARTIAL_CONTENT
    with open(part, "ab" if resumes else "wb", buffering=BUFFER) as output:
        watch(file.name, output.tell(), file.size)
        for piece in response.iter_bytes():
            output.write(piece)
            watch(file.name, output.tell(), file.size)
            if output.tell() > file.size:  # not that file; whoever sends it may never end
                return
        if output.tell() < file.size and "Content-Length" not in response.headers:
            raise httpx.RemoteProtocolError("the transfer ended early")
        output.flush()
        os.fsync(output.fileno())  # else a name could outlive its content when the power fails


def _check(source: Source, file: File, watch: Watch) -> None:
    """Compare the content with the announced checksum; remove a wrong one."""
    part = source.part(file)
    if _digest(part, file, watch) != file.digest:
        part.unlink()
        raise ModelError(
            f"{source.repo}: {file.name} is damaged: its content is not what the hub announces; "
            "it was removed, pull again"
        )


def _digest(part: Path, file: File, watch: Watch) -> str:
    """The content's checksum, of the kind that the hub announces for the file."""
    if len(file.digest) == hashlib.sha256().digest_size * 2:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    done = 0
    with open(part, "rb") as content:
        while piece := content.read(BUFFER):
            digest.update(piece)
            done += len(piece)
            watch(f"checking {file.name}", done, file.size)
    return digest.hexdigest()


def _name(blob: Path, name: Path, *, is_new: bool) -> None:
    """Give the content its name in the snapshot: a link, as the library makes it."""
    from huggingface_hub.constants import HF_HUB_DISABLE_SYMLINKS

    name.unlink(missing_ok=True)
    try:
        if HF_HUB_DISABLE_SYMLINKS:
            raise OSError("links are not wanted")
        name.symlink_to(os.path.relpath(blob, name.parent))
    except OSError:  # a file system without links; other snapshots may hold an older blob
        if is_new:
            os.replace(blob, name)
        else:
            shutil.copyfile(blob, name)


def _size(file: Path) -> int:
    """The size of a file, -1 where there is none."""
    try:
        return file.stat().st_size
    except OSError:
        return -1
