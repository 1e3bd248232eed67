"""Arguments → the names of pictures: folders, patterns, lists of names. It opens no picture.

What is not there or cannot be read stays among the names, so that whoever reads the pictures
reports it in its place.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable

from .errors import InputError

STDIN = "-"
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".heic", ".ppm", ".pgm", ".ico", ".jp2"),
)


def expand(arguments: Iterable[str], *, recursive: bool = False) -> list[str]:
    """The pictures that arguments stand for, in their order; those of a folder by name.

    A name that exists is that file, whatever its characters mean in a pattern.
    """
    names = []
    for argument in arguments:
        if os.path.isdir(argument):
            names += in_folder(argument, recursive=recursive)
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            found = sorted(glob.glob(argument, recursive=True))
            names += expand(found, recursive=recursive) or [argument]
        else:
            names.append(argument)
    return names


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
    """Whether a file's name says that it is a picture."""
    return name.lower().endswith(ENDINGS) and not os.path.basename(name).startswith(".")


def listed(source: str, *, null: bool = False) -> list[str]:
    """The names in a file or, for `-`, on standard input: one a line, or ended by null bytes.

    They are files and nothing else, whatever their characters mean in an argument.

    Raises:
        InputError: the list cannot be read.
    """
    try:
        if source == STDIN:
            if sys.stdin is None or sys.stdin.isatty():
                raise InputError("--files-from -: standard input is no list; pipe one in")
            data = sys.stdin.buffer.read()
        else:
            with open(source, "rb") as file:
                data = file.read()
    except OSError as error:
        raise InputError(
            f"--files-from {source}: cannot be read: {error.strerror}; name a list of files"
        ) from error
    lines = data.split(b"\0") if null else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    names = [os.fsdecode(line) for line in lines if line]
    return [os.path.join(".", name) if name == STDIN else name for name in names]
