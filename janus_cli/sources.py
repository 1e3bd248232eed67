"""A file, a pipe or an address → bytes that can be read back and forth. It decodes nothing."""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import BinaryIO

from . import web
from .errors import InputError
from .inputs import STDIN, is_address
from .schema import Origin

HERE = Origin()
MAX_BYTES = 2**29  # of a picture that comes through a pipe


def spoken(source: str) -> str:
    """What messages call a source."""
    if source == STDIN:
        return "standard input"
    return web.masked(source) if is_address(source) else source


def open_source(source: str, origin: Origin = HERE) -> BinaryIO:
    """The bytes of a file, of standard input for `-`, or of an http(s) address; at least one.

    Raises:
        InputError: there is no such thing, it may not be read, or it is empty.
    """
    name, stream = spoken(source), _open(source, origin)
    try:
        if stream.read(1):
            stream.seek(0)
            return stream
    except OSError as error:
        stream.close()
        raise InputError(f"{name}: cannot be read: {error.strerror}; is its disk there?") from error
    stream.close()
    raise InputError(f"{name}: is empty; is the download complete?")


def read_stdin() -> bytes:
    """Everything on standard input, which somebody must have piped in.

    Raises:
        InputError: nobody has, or it is more than a picture can be.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("-: standard input is no picture; pipe one in, or name a file")
    return _drained(sys.stdin.buffer, spoken(STDIN))


def _open(source: str, origin: Origin) -> BinaryIO:
    given = dict(origin.given)
    if source in given:
        return io.BytesIO(given[source])
    if source == STDIN:
        return io.BytesIO(read_stdin())
    return web.download(source) if is_address(source) else _open_file(source, origin.folder)


def _open_file(path: str, folder: str) -> BinaryIO:
    """A file by its name, which messages repeat as it was written."""
    place = os.path.join(folder, path)
    try:
        kind = os.stat(place).st_mode
        if stat.S_ISDIR(kind):
            if not os.access(place, os.R_OK | os.X_OK):
                raise PermissionError
            raise InputError(f"{path}: is a folder without pictures; -r looks into its folders too")
        if stat.S_ISREG(kind):
            return open(place, "rb")
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            with open(place, "rb") as pipe:
                return io.BytesIO(_drained(pipe, path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; check its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be opened: {reason}; check the name") from error
    raise InputError(f"{path}: is neither a file nor a pipe; name a picture")


def _drained(pipe: BinaryIO, name: str) -> bytes:
    """Whatever comes through a pipe, because decoders seek."""
    try:
        data = pipe.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}; name a picture") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: is larger than {MAX_BYTES >> 20} MiB; is it a picture?")
    return data
