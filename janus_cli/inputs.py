"""Arguments → the names of pictures: folders, patterns, lists, addresses. It opens no picture.

What is not there or cannot be read stays among the names, so that whoever reads the pictures
reports it in its place.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from .errors import InputError

STDIN = "-"
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".ico", ".jp2", ".pdf"),
)
SCHEMES = ("http://", "https://")
NO_FILE_NAME = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\:*?"<>|]')
LONGEST = 60  # characters of a file name that an address gives: 240 bytes at most


@dataclass(frozen=True)
class Source:
    """An input, and where its answer belongs."""

    name: str
    """A file, an address, or `-` for standard input."""
    place: str
    """Where it lies under a folder of answers: a relative path that stays inside it."""
    found: bool = False
    """In a folder, by a pattern or in a list, rather than named by the user."""


def expand(arguments: Iterable[str], *, recursive: bool = False) -> list[Source]:
    """The pictures that arguments stand for, in their order; those of a folder by name.

    A name that exists is that file, whatever its characters mean in a pattern. A picture's place is
    its path in the folder that was named, else its own name.
    """
    found: list[Source] = []
    for argument in arguments:
        if is_address(argument):
            found.append(Source(argument, _place_of_address(argument)))
        elif os.path.isdir(argument):
            names = in_folder(argument, recursive=recursive)
            found += [Source(name, _place_in(argument, name), found=True) for name in names]
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            found += _matching(argument, recursive=recursive)
        else:
            place = "stdin" if argument == STDIN else _own_name(argument)
            found.append(Source(argument, place))
    return found


def in_folder(folder: str, *, recursive: bool) -> list[str]:
    """The pictures of a folder, told by their endings; the folder itself where there are none.

    With `recursive` also those of the folders in it; links to folders are not followed, and neither
    hidden files nor hidden folders are looked at.
    """
    names: list[str] = []
    unread: list[str] = []
    for place, folders, files in os.walk(folder, onerror=lambda e: unread.append(e.filename)):
        folders[:] = sorted(f for f in folders if recursive and not f.startswith("."))
        names += [os.path.join(place, name) for name in sorted(files) if is_picture(name)]
    return names + unread or [folder]


def is_picture(name: str) -> bool:
    """Whether a file's name says that it is a picture, or a document of some."""
    return name.lower().endswith(ENDINGS) and not os.path.basename(name).startswith(".")


def is_address(name: str) -> bool:
    """Whether a name is an http(s) address."""
    return name.lower().startswith(SCHEMES)


def listed(source: str, *, null: bool = False) -> list[Source]:
    """The names in a file or, for `-`, on standard input: one a line, or ended by null bytes.

    They are files and addresses and nothing else, whatever their characters mean in an argument. A
    file's place is its path as it is written.

    Raises:
        InputError: the list cannot be read.
    """
    data = _content_of_list(source)
    lines = data.split(b"\0") if null else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    names = [os.fsdecode(line) for line in lines if line]
    return [_listed(os.path.join(".", name) if name == STDIN else name) for name in names]


def _content_of_list(source: str) -> bytes:
    try:
        if source == STDIN:
            if sys.stdin is None or sys.stdin.isatty():
                raise InputError("--files-from -: standard input is no list; pipe one in")
            return sys.stdin.buffer.read()
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(
            f"--files-from {source}: cannot be read: {error.strerror}; name a list of files"
        ) from error


def _listed(name: str) -> Source:
    place = _place_of_address(name) if is_address(name) else _inside(PurePath(name).parts)
    return Source(name, place, found=True)


def _matching(pattern: str, *, recursive: bool) -> list[Source]:
    """The files that a pattern finds and the pictures of the folders, each once; else itself."""
    start = _start_of(pattern)
    found = {}
    for name in sorted(glob.glob(pattern, recursive=True)):
        is_folder = os.path.isdir(name)
        for picture in in_folder(name, recursive=recursive) if is_folder else [name]:
            deep = is_folder or "**" in pattern
            place = _place_in(start, picture) if deep else _own_name(picture)
            found[picture] = Source(picture, place, found=True)
    return list(found.values()) or [Source(pattern, _own_name(pattern), found=True)]


def _start_of(pattern: str) -> str:
    """The folder of a pattern down to where it begins to mean several."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


# Places


def _own_name(name: str) -> str:
    return _inside(PurePath(name).parts[-1:])


def _place_in(folder: str, name: str) -> str:
    """The place of a file that was found in a folder; of the folder itself, its name."""
    parts = PurePath(name).relative_to(folder).parts
    return _inside(parts) if parts else _own_name(name)


def _inside(parts: Sequence[str]) -> str:
    """A relative path of these parts, but of those that lead out of a folder."""
    kept = [part for part in parts if part != ".." and not PurePath(part).anchor]
    return os.path.join(*(part.replace("\0", "_") for part in kept)) if kept else "index"


def _place_of_address(url: str) -> str:
    from urllib.parse import unquote

    path = re.split(r"[?#]", url)[0].split("/")[3:]
    name = NO_FILE_NAME.sub("_", unquote(path[-1] if path else "")).strip(". ")
    return name[-LONGEST:] or "index"
