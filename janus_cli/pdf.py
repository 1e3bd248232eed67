"""PDF documents → pictures of their pages, by pdfium. Knows no other format."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import threading
from collections.abc import Container, Generator, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import InputError

if TYPE_CHECKING:
    from PIL import Image

RENDERED = 1536  # pixels of a page's longer side, whatever size it states
MARK, MARK_WITHIN = b"%PDF-", 1024  # readers forgive so many bytes before it
PASSWORD, UNKNOWN_LOCK = 4, 5  # why pdfium opens no document: FPDF_ERR_PASSWORD, _SECURITY

# pdfium bears one thread at a time. Re-entrant, because a document that is thrown away half-read is
# closed wherever its thread happens to be.
_TURN = threading.RLock()


def is_pdf(stream: BinaryIO) -> bool:
    """Whether a stream holds a PDF, told by its content; the stream is rewound."""
    start = stream.read(MARK_WITHIN)
    stream.seek(0)
    return MARK in start


def render_pages(
    stream: BinaryIO, name: str, without: Container[int] = ()
) -> Generator[tuple[int, Image.Image | InputError]]:
    """The pages with their numbers from 1, in RGB over white, each rendered when it is asked for.

    A page that cannot be rendered is the InputError that says so.

    Raises:
        InputError: the document is locked or damaged.
    """
    with _opened(stream, name) as document:
        with _TURN:
            count = len(document)
        for number in range(1, count + 1):
            if number not in without:
                yield number, _page(document, number, name)


@functools.cache
def _pdfium() -> Any:
    import pypdfium2  # type: ignore[import-untyped]

    logging.getLogger("pypdfium2").setLevel(logging.CRITICAL)  # it remarks on odd forms
    atexit.register(_TURN.acquire)  # no thread is within pdfium when the library is taken down
    return pypdfium2


@contextlib.contextmanager
def _opened(stream: BinaryIO, name: str) -> Iterator[Any]:
    with _TURN:
        document = _document(stream, name)
    try:
        yield document
    finally:
        with _TURN:
            document.close()


def _document(stream: BinaryIO, name: str) -> Any:
    pdfium = _pdfium()
    try:
        document = pdfium.PdfDocument(stream)
    except pdfium.PdfiumError as error:
        raise InputError(f"{name}: {_reason(error.err_code)}") from error
    with contextlib.suppress(pdfium.PdfiumError):  # without its forms, it is still readable
        document.init_forms()
    return document


def _reason(code: int | None) -> str:
    if code == PASSWORD:
        return "is locked with a password; remove it first, as with qpdf --decrypt --password=..."
    if code == UNKNOWN_LOCK:
        return "is encrypted in an unknown way; save it without encryption first"
    return "is a damaged or truncated PDF; get a new copy"


def _page(document: Any, number: int, name: str) -> Image.Image | InputError:
    try:
        with _TURN, contextlib.closing(document[number - 1]) as page:
            return _rendered(page)
    except Exception as error:  # whatever a damaged page makes the library stumble over
        return InputError(
            f"{name}, page {number}: cannot be rendered ({error or type(error).__name__}); "
            "get a new copy"
        )


def _rendered(page: Any) -> Image.Image:
    """The page with its forms and annotations: RENDERED pixels long, RGB."""
    # Sides are rounded up: a hair less, lest an error of the last bit add a row.
    scale = (RENDERED - 1e-6) / max(page.get_size())
    with contextlib.closing(page.render(scale=scale)) as bitmap:
        image: Image.Image = bitmap.to_pil()
    return image
