"""Bytes → RGB pictures, page by page, as a viewer would show them. Knows nothing of models."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Container, Generator, Iterator
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from . import pdf, sources
from .errors import InputError
from .schema import Origin

Page = tuple[int | None, Image.Image | InputError]

WHITE = (255, 255, 255, 255)
PAGED = ("TIFF", "GIF")  # frames of other formats are a motion, or one picture in several sizes
MAX_PAGES = 100_000
BROKEN_IN_A_ROW = 20  # pages, until the rest is not tried


def read_image(source: str) -> Image.Image:
    """The picture in a file or at an address, or its first page; see read_pages.

    Raises:
        InputError: it cannot be read.
    """
    with contextlib.closing(read_pages(source)) as pages:
        _, page = next(pages)
    if isinstance(page, InputError):
        raise page
    return page


def read_pages(
    source: str, *, without: Container[int] = (), origin: Origin = sources.HERE
) -> Generator[Page]:
    """Every page of a file, of standard input for `-`, or of an address: upright, opaque, in 8-bit
    RGB, each read when it is asked for.

    The pages of a PDF and the frames of a TIFF or GIF of several are numbered from 1, and those in
    `without` are left out; a plain picture is one page with no number. A page that cannot be read
    is the InputError that says so.

    Raises:
        InputError: nothing of it can be read.
    """
    name = sources.spoken(source)
    with sources.open_source(source, origin) as stream:
        read = pdf.render_pages if pdf.is_pdf(stream) else _pictures
        with contextlib.closing(read(stream, name, without)) as pages:
            yield from _bounded(pages, name)


@contextlib.contextmanager
def open_image(source: str) -> Iterator[Image.Image]:
    """The picture as it is stored; whatever is wrong with it comes out as an InputError."""
    name = sources.spoken(source)
    with sources.open_source(source) as stream, _errors_named(name), _identified(stream) as image:
        yield image


def _bounded(pages: Iterator[Page], name: str) -> Iterator[Page]:
    """The pages, as far as it makes sense to go on: a damaged file may claim any number."""
    broken = 0
    for number, page in pages:
        if broken == BROKEN_IN_A_ROW:
            reason = f"those before it are damaged, {broken} in a row; get a new copy"
        elif number is not None and number > MAX_PAGES:
            reason = f"there are more than {MAX_PAGES} pages; split the file first"
        else:
            yield number, page
            broken = broken + 1 if isinstance(page, InputError) else 0
            continue
        yield number, InputError(f"{name}, page {number}: and what follows is not read: {reason}")
        return


# What Pillow knows


def _pictures(stream: BinaryIO, name: str, without: Container[int]) -> Generator[Page]:
    with _errors_named(name):
        image = _identified(stream)
    with image:
        if image.format in PAGED and _has_several_frames(image):
            yield from _frames(image, name, without)
            return
        with _errors_named(name):
            picture = _finished(image)
        yield None, picture


def _identified(stream: BinaryIO) -> Image.Image:
    """The picture, not decoded yet; HEIC's decoder is loaded only for what Pillow does not know."""
    # For all threads at once, so never undone: decoders remark on odd but readable files.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return Image.open(stream)
    except UnidentifiedImageError:
        import pillow_heif

        stream.seek(0)
        if not pillow_heif.is_supported(stream):
            raise
        return pillow_heif.HeifImageFile(stream)


def _has_several_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # what follows the first frame is damaged beyond counting
        return False


def _frames(image: Image.Image, name: str, without: Container[int]) -> Iterator[Page]:
    """The frames as they look when their turn comes; Pillow composes those of a GIF."""
    for number in itertools.count(1):
        page: Image.Image | InputError | None = None
        try:
            with _errors_named(f"{name}, page {number}"):
                if not _turned_to(image, number):
                    return
                if number not in without:
                    page = _finished(image)
        except InputError as error:
            page = error
        if page is not None and number not in without:
            yield number, page
        if isinstance(page, InputError) and image.format == "GIF":
            return  # what follows is painted over what cannot be read


def _turned_to(image: Image.Image, number: int) -> bool:
    """Whether there is such a frame; if so, it is the next to be decoded."""
    try:
        image.seek(number - 1)
    except EOFError:
        return False
    return True


def _finished(image: Image.Image) -> Image.Image:
    """The frame that is due, upright, opaque and in 8-bit RGB, if it is not too large."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError
    return _flat(_upright(image))


@contextlib.contextmanager
def _errors_named(name: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
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
    """The picture turned as its EXIF orientation says."""
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
