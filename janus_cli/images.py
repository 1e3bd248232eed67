"""A file or standard input → an RGB picture, as a viewer would show it. Knows nothing of models."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InputError
from .inputs import STDIN

MAX_BYTES = 2**29  # of a picture that comes through a pipe
WHITE = (255, 255, 255, 255)


def read_image(source: str) -> Image.Image:
    """The picture in a file, or on standard input for `-`, upright, opaque and in 8-bit RGB."""
    with open_image(source) as image:
        return _flat(_upright(image))


@contextlib.contextmanager
def open_image(source: str) -> Iterator[Image.Image]:
    """The picture as it is stored; whatever is wrong with it comes out as an InputError."""
    name = "standard input" if source == STDIN else source
    with _open_stdin() if source == STDIN else _open_file(source) as stream, _errors_named(name):
        if not stream.read(1):
            raise InputError(f"{name}: is empty; is the download complete?")
        stream.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a decoder's remarks on odd but readable files
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream) as image:
                yield image


def _open_stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("-: standard input is no picture; pipe one in, or name a file")
    return _buffered(sys.stdin.buffer, "standard input")


def _open_file(path: str) -> BinaryIO:
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            if not os.access(path, os.R_OK | os.X_OK):
                raise PermissionError
            raise InputError(f"{path}: is a folder without pictures; -r looks into its folders too")
        if stat.S_ISREG(kind):
            return open(path, "rb")
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            with open(path, "rb") as pipe:
                return _buffered(pipe, path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; check its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be opened: {reason}; check the name") from error
    raise InputError(f"{path}: is neither a file nor a pipe; name a picture")


def _buffered(pipe: BinaryIO, name: str) -> BinaryIO:
    """What comes through a pipe, in memory, because decoders seek."""
    try:
        data = pipe.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}; name a picture") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: is larger than {MAX_BYTES >> 20} MiB; is it a picture?")
    return io.BytesIO(data)


@contextlib.contextmanager
def _errors_named(name: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InputError(f"{name}: has more than {limit} megapixels; scale it down first") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{name}: is not a picture in a known format; convert it to PNG or JPEG"
        ) from None
    except MemoryError:
        raise InputError(f"{name}: does not fit into memory; scale it down first") from None
    except Exception as error:  # on damaged data decoders raise whatever they stumble over
        raise InputError(f"{name}: is damaged or truncated ({error}); get a new copy") from error


def _upright(image: Image.Image) -> Image.Image:
    """The first frame, turned as its EXIF orientation says."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data says nothing about the pixels, which are fine
        return image


def _flat(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB: transparency over white, deeper samples scaled down."""
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, WHITE)
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits or floating point as 8-bit gray."""
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        low, high = _range_of(image)
    scale = 255 / (high - low)
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")


def _range_of(image: Image.Image) -> tuple[float, float]:
    """Black and white of a picture whose mode does not say: the usual range that holds it."""
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    for usual in (1.0, 255.0, 65535.0):
        if low >= 0 and high <= usual and (usual > 1 or image.mode == "F"):
            return 0.0, usual
    return low, max(high, low + 1)
