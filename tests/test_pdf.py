"""PDF documents: their pages, their locks, and what is broken in them."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pypdfium2
import pytest
from PIL import Image

from janus_cli import images, pdf
from janus_cli.errors import InputError
from janus_cli.images import read_image, read_pages

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
COLORS = (RED, GREEN, BLUE)
CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 50]>>"
RED_SQUARE = b"1 0 0 rg 0 0 20 20 re f"


def document(*objects: bytes, trailer: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1; the first is its catalog."""
    data, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    facts = b"<</Size %d/Root 1 0 R%s>>" % (len(objects) + 1, trailer)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return data + head + table + b"trailer\n%s\nstartxref\n%d\n%%%%EOF\n" % (facts, len(data))


def tree(kids: str, count: int) -> bytes:
    return f"<</Type/Pages/Kids[{kids}]/Count {count}>>".encode()


def stream(content: bytes, facts: bytes = b"") -> bytes:
    return b"<</Length %d%s>>stream\n%s\nendstream" % (len(content), facts, content)


def colored(name: str, *colors: tuple[int, int, int]) -> None:
    """Save a document with a page of each color."""
    pages = [Image.new("RGB", (32, 16), color) for color in colors]
    pages[0].save(name, "PDF", save_all=True, append_images=pages[1:], resolution=72)


def middle(page: Image.Image | InputError) -> tuple[int, int, int]:
    """The color in the middle of a page, of those that may stand there."""
    assert isinstance(page, Image.Image), page
    pixel = page.getpixel((page.width // 2, page.height // 2))
    return tuple(255 if value > 127 else 0 for value in pixel)


def test_every_page_with_its_number(folder):
    colored("a.pdf", *COLORS)
    pages = list(read_pages("a.pdf"))
    assert [number for number, _ in pages] == [1, 2, 3]
    assert [middle(page) for _, page in pages] == list(COLORS)
    assert {page.mode for _, page in pages} == {"RGB"}
    assert middle(read_image("a.pdf")) == RED


def test_one_page_has_a_number_too(folder):
    colored("a.pdf", BLUE)
    ((number, page),) = read_pages("a.pdf")
    assert (number, middle(page)) == (1, BLUE)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ("0 0 595.276 841.89", (1087, 1536)),
        ("0 0 14400 14400", (1536, 1536)),
        ("0 0 0.01 0.02", (768, 1536)),
        ("0 0 1 9000", (1, 1536)),
        ("0 0 700.111 99.3", (1536, 218)),
        ("0 0 187 187", (1536, 1536)),  # 187 * (1536 / 187) is a little more than 1536
        ("-100 -100 100 0", (1536, 768)),
        ("0 0 1e30 1e30", (1187, 1536)),  # absurd: US letter takes its place
    ],
)
def test_the_longer_side_is_always_the_same(box, size, folder):
    page = f"<</Type/Page/Parent 2 0 R/MediaBox[{box}]>>".encode()
    (folder / "a.pdf").write_bytes(document(CATALOG, tree("3 0 R", 1), page))
    assert max(size) == pdf.RENDERED
    assert read_image("a.pdf").size == size


def test_a_page_is_turned_as_it_says(folder):
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 40 20]/Rotate 90/Contents 4 0 R>>"
    data = document(CATALOG, tree("3 0 R", 1), page, stream(RED_SQUARE))
    (folder / "a.pdf").write_bytes(data)
    image = read_image("a.pdf")
    assert image.size == (768, 1536)
    assert (image.getpixel((384, 384)), image.getpixel((384, 1152))) == (RED, WHITE)


def test_forms_and_annotations_are_drawn(folder):
    page = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 20 20]/Annots[{} 0 R]>>"
    shape = b"/Rect[0 0 20 20]/F 4/AP<</N 7 0 R>>>>"
    data = document(
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[5 0 R]>>>>",
        tree("3 0 R 4 0 R", 2),
        page.format(5).encode(),
        page.format(6).encode(),
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(field)/P 3 0 R" + shape,
        b"<</Type/Annot/Subtype/Square" + shape,
        stream(RED_SQUARE, b"/Type/XObject/Subtype/Form/BBox[0 0 20 20]"),
    )
    (folder / "a.pdf").write_bytes(data)
    assert [middle(page) for _, page in read_pages("a.pdf")] == [RED, RED]


def test_content_tells_a_document_not_its_name(folder):
    colored("a.png", GREEN)
    assert middle(read_image("a.png")) == GREEN
    data = (folder / "a.png").read_bytes()
    (folder / "late.txt").write_bytes(b"\n" * 1019 + data)
    assert middle(read_image("late.txt")) == GREEN
    (folder / "later.pdf").write_bytes(b"\n" * 1024 + data)
    with pytest.raises(InputError, match=r"^later\.pdf: is not a picture in a known format"):
        read_image("later.pdf")
    Image.new("RGB", (8, 8), "red").save("picture.pdf", "PNG")
    assert read_image("picture.pdf").size == (8, 8)


def test_a_document_on_standard_input(folder, monkeypatch):
    colored("a.pdf", *COLORS)
    piped = SimpleNamespace(
        buffer=io.BytesIO((folder / "a.pdf").read_bytes()), isatty=lambda: False
    )
    monkeypatch.setattr(sys, "stdin", piped)
    assert [middle(page) for _, page in read_pages("-")] == list(COLORS)


@pytest.fixture
def rendered(monkeypatch):
    """The pages that have been rendered so far."""
    drawn, draw = [], pypdfium2.PdfPage.render
    monkeypatch.setattr(
        pypdfium2.PdfPage, "render", lambda page, **how: drawn.append(page) or draw(page, **how)
    )
    return drawn


def test_a_page_is_rendered_when_it_is_asked_for(folder, rendered):
    colored("a.pdf", *COLORS)
    pages = read_pages("a.pdf")
    assert next(pages)[0] == 1
    assert len(rendered) == 1
    pages.close()


def test_pages_to_be_left_out_are_not_rendered(folder, rendered):
    colored("a.pdf", *COLORS)
    ((number, page),) = read_pages("a.pdf", without={1, 3})
    assert (number, middle(page)) == (2, GREEN)
    assert len(rendered) == 1
    assert list(read_pages("a.pdf", without=range(100))) == []


# What is broken


def test_a_broken_page_among_others(folder):
    (folder / "a.pdf").write_bytes(document(CATALOG, tree("3 0 R 9 0 R 4 0 R", 3), PAGE, PAGE))
    first, (number, error), third = read_pages("a.pdf")
    assert (first[0], middle(first[1])) == (1, WHITE)
    assert (third[0], middle(third[1])) == (3, WHITE)
    assert number == 2 and isinstance(error, InputError)
    assert str(error) == (
        "a.pdf, page 2: cannot be rendered (Failed to load page.); get a new copy"
    )
    assert [number for number, _ in read_pages("a.pdf", without={2})] == [1, 3]


def test_read_image_raises_what_is_wrong_with_the_first_page(folder):
    (folder / "a.pdf").write_bytes(document(CATALOG, tree("9 0 R 3 0 R", 2), PAGE))
    with pytest.raises(InputError, match=r"^a\.pdf, page 1: cannot be rendered"):
        read_image("a.pdf")


def test_pages_that_are_only_claimed(folder):
    (folder / "a.pdf").write_bytes(document(CATALOG, tree("3 0 R", 900_000), PAGE))
    pages = list(itertools.islice(read_pages("a.pdf"), 1000))
    assert [number for number, _ in pages] == list(range(1, 3 + images.BROKEN_IN_A_ROW))
    assert str(pages[-1][1]) == (
        "a.pdf, page 22: and what follows is not read: those before it are damaged, 20 in a row; "
        "get a new copy"
    )


def locked(encryption: bytes) -> bytes:
    trailer = b"/ID[<00><00>]/Encrypt<<" + encryption + b">>"
    return document(CATALOG, tree("3 0 R", 1), PAGE, trailer=trailer)


PASSWORD = b"/Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4" % (b"41" * 32, b"42" * 32)
COLORED = io.BytesIO()
Image.new("RGB", (8, 8)).save(COLORED, "PDF")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            locked(PASSWORD),
            "is locked with a password; remove it first, as with qpdf --decrypt --password=...",
        ),
        (
            locked(b"/Filter/Other/V 1/R 2"),
            "is encrypted in an unknown way; save it without encryption first",
        ),
        (b"%PDF-1.7\n", "is a damaged or truncated PDF; get a new copy"),
        (b"%PDF-1.7\n" + bytes(4096), "is a damaged or truncated PDF; get a new copy"),
        (COLORED.getvalue()[:200], "is a damaged or truncated PDF; get a new copy"),
    ],
)
def test_a_document_that_cannot_be_opened(data, reason, folder):
    (folder / "a.pdf").write_bytes(data)
    with pytest.raises(InputError) as raised:
        next(read_pages("a.pdf"))
    assert str(raised.value) == f"a.pdf: {reason}"
    with pytest.raises(InputError):
        read_image("a.pdf")


# Threads


def test_documents_are_read_by_several_threads(folder):
    wanted = {f"{n}.pdf": [COLORS[(n + page) % 3] for page in range(6)] for n in range(4)}
    for name, colors in wanted.items():
        colored(name, *colors)

    def read(name: str) -> list[tuple[int, int, int]]:
        return [middle(page) for _, page in read_pages(name)]

    with ThreadPoolExecutor(len(wanted)) as threads:
        assert dict(zip(wanted, threads.map(read, wanted), strict=True)) == wanted


def test_one_thread_is_within_the_library_at_a_time(folder, monkeypatch):
    colored("a.pdf", *COLORS)
    colored("b.pdf", *COLORS)
    met, both, draw = [], threading.Barrier(2), pypdfium2.PdfPage.render

    def meet(page, **how):
        with contextlib.suppress(threading.BrokenBarrierError):
            met.append(both.wait(0.2))
        return draw(page, **how)

    monkeypatch.setattr(pypdfium2.PdfPage, "render", meet)
    with ThreadPoolExecutor(2) as threads:
        read = [threads.submit(read_image, name) for name in ("a.pdf", "b.pdf")]
    assert [middle(page.result()) for page in read] == [RED, RED]
    assert not met


def test_a_document_that_is_thrown_away_half_read(folder):
    colored("a.pdf", *COLORS)
    half_read = read_pages("a.pdf")
    next(half_read)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(half_read.close).result()
    assert [middle(page) for _, page in read_pages("a.pdf")] == list(COLORS)
