"""Pictures as they come from cameras, scanners and pipes, and files that are none."""

from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from janus_cli import images
from janus_cli.errors import InputError
from janus_cli.images import open_image, read_image, read_pages

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners() -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (2, 2), "white")
    image.putpixel((0, 0), RED)
    image.putpixel((1, 0), GREEN)
    image.putpixel((0, 1), BLUE)
    return image


def pixels(image: Image.Image) -> list:
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]


def test_rgb_comes_through_unchanged():
    corners().save("a.png")
    image = read_image("a.png")
    assert image.mode == "RGB"
    assert pixels(image) == pixels(corners())


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_270),
        (8, Image.Transpose.ROTATE_90),
    ],
)
def test_exif_orientation_is_applied(orientation, turn):
    wide = corners().resize((4, 2), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide.save("a.png", exif=exif)
    assert pixels(read_image("a.png")) == pixels(wide.transpose(turn))


def test_damaged_exif_leaves_the_picture_as_it_is():
    corners().save("a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert pixels(read_image("a.png")) == pixels(corners())


def test_alpha_is_composited_on_white():
    image = Image.new("RGBA", (3, 1), (0, 0, 255, 0))
    image.putpixel((1, 0), (0, 0, 255, 128))
    image.putpixel((2, 0), (0, 0, 255, 255))
    image.save("a.png")
    assert pixels(read_image("a.png")) == [(255, 255, 255), (127, 127, 255), (0, 0, 255)]


def test_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    image.save("a.png", transparency=0)
    assert pixels(read_image("a.png")) == [(255, 255, 255), RED]


def test_transparent_color_of_rgb_is_white():
    corners().save("a.png", transparency=RED)
    assert pixels(read_image("a.png"))[:2] == [(255, 255, 255), GREEN]


def test_gray_with_alpha():
    image = Image.new("LA", (2, 1), (100, 255))
    image.putpixel((1, 0), (100, 0))
    image.save("a.png")
    assert pixels(read_image("a.png")) == [(100, 100, 100), (255, 255, 255)]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_their_range(name):
    image = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 32768, 65535)):
        image.putpixel((x, 0), value)
    image.save(name)
    grays = [pixel[0] for pixel in pixels(read_image(name))]
    assert grays == [0, pytest.approx(128, abs=1), 255]


def test_floating_point_from_zero_to_one():
    image = Image.new("F", (3, 1))
    for x, value in enumerate((0.0, 0.5, 1.0)):
        image.putpixel((x, 0), value)
    image.save("a.tif")
    grays = [pixel[0] for pixel in pixels(read_image("a.tif"))]
    assert grays == [0, pytest.approx(128, abs=1), 255]


def test_cmyk_gray_and_one_bit():
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save("c.jpg", quality=100)
    Image.new("L", (1, 1), 77).save("l.png")
    Image.new("1", (1, 1), 1).save("1.png")
    red, green, blue = read_image("c.jpg").getpixel((4, 4))
    assert red > 240 and green < 15 and blue < 15
    assert pixels(read_image("l.png")) == [(77, 77, 77)]
    assert pixels(read_image("1.png")) == [(255, 255, 255)]


# Pages


def save_frames(name: str, *frames: Image.Image, **how: object) -> None:
    frames[0].save(name, save_all=True, append_images=frames[1:], **how)


def colored(*colors: tuple[int, int, int]) -> list[Image.Image]:
    return [Image.new("RGB", (16, 16), color) for color in colors]


def nearest(page: Image.Image | InputError) -> tuple[int, int, int]:
    """The color of a page that a lossy format may have changed a little."""
    assert isinstance(page, Image.Image), page
    return tuple(255 if value > 127 else 0 for value in page.getpixel((8, 8)))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif", "a.webp", "a.avif"])
def test_a_plain_picture_has_no_page_number(name):
    colored(RED)[0].save(name)
    ((number, page),) = read_pages(name, without={1})
    assert (number, nearest(page), page.mode) == (None, RED, "RGB")


@pytest.mark.parametrize("name", ["a.gif", "a.tif"])
def test_every_frame_is_a_page(name):
    save_frames(name, *colored(RED, GREEN, BLUE))
    pages = list(read_pages(name))
    assert [number for number, _ in pages] == [1, 2, 3]
    assert [nearest(page) for _, page in pages] == [RED, GREEN, BLUE]
    assert nearest(read_image(name)) == RED
    assert [number for number, _ in read_pages(name, without={1, 3})] == [2]
    assert list(read_pages(name, without=range(100))) == []


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_lzw", "jpeg", "packbits"])
def test_pages_of_a_compressed_tiff(compression):
    save_frames("a.tif", *colored(RED, GREEN, BLUE), compression=compression)
    assert [nearest(page) for _, page in read_pages("a.tif")] == [RED, GREEN, BLUE]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.webp", "WEBP"), ("a.png", "PNG"), ("a.jpg", "MPO"), ("a.avif", "AVIF")]
)
def test_the_frames_of_other_formats_are_no_pages(name, kind):
    save_frames(name, *colored(RED, GREEN, BLUE), format=kind)
    with Image.open(name) as image:
        assert (image.format, image.n_frames) == (kind, 3)
    ((number, page),) = read_pages(name)
    assert (number, nearest(page)) == (None, RED)


def half(color: str, x: int) -> Image.Image:
    """Two columns of color, where the other two are transparent."""
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 0))
    image.paste(color, (x, 0, x + 2, 1))
    return image


@pytest.mark.parametrize(
    ("disposal", "second", "third"),
    [
        (1, [RED, RED, BLUE, BLUE], [RED, GREEN, GREEN, BLUE]),  # painted over what is there
        (2, [WHITE, WHITE, BLUE, BLUE], [WHITE, GREEN, GREEN, WHITE]),  # wiped before
        (3, [WHITE, WHITE, BLUE, BLUE], [WHITE, GREEN, GREEN, WHITE]),  # as it was before
    ],
)
def test_frames_of_a_gif_are_composed(disposal, second, third):
    frames = [half("red", 0), half("blue", 2), half("lime", 1)]
    save_frames("a.gif", *frames, disposal=disposal)
    pages = [pixels(page) for _, page in read_pages("a.gif")]
    assert pages == [[RED, RED, WHITE, WHITE], second, third]
    assert [pixels(page) for _, page in read_pages("a.gif", without={1, 2})] == [third]


def test_a_gif_that_ends_early(folder):
    save_frames("a.gif", *(Image.effect_noise((32, 32), 80) for _ in range(3)))
    data = (folder / "a.gif").read_bytes()
    (folder / "a.gif").write_bytes(data[:-200])
    *whole, (number, error) = read_pages("a.gif")
    assert [number for number, _ in whole] == [1, 2]
    assert number == 3 and isinstance(error, InputError)
    assert str(error).startswith("a.gif, page 3: is damaged or truncated (image file is truncated")


def tiff(*frames: tuple[int, int, bytes], turned: int = -1, loop: bool = False) -> bytes:
    """A gray TIFF of frames, each a width, a height and deflated data; one of them is to be turned
    by 90 degrees, and `loop` leads from the last to the first."""
    data = b"II*\0" + struct.pack("<I", 8)
    for place, (width, height, content) in enumerate(frames):
        at = len(data)
        content_at = at + 2 + 9 * 12 + 4
        following = content_at + len(content)
        last = place + 1 == len(frames)
        tags = {256: width, 257: height, 258: 8, 259: DEFLATE, 262: 1}
        tags |= {273: content_at, 274: 6 if place == turned else 1, 278: height, 279: len(content)}
        data += struct.pack("<H", len(tags))
        data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        data += struct.pack("<I", (8 if loop else 0) if last else following) + content
    return data


DEFLATE = 8
FINE = (8, 8, zlib.compress(bytes([119] * 64)))
BROKEN = (8, 8, b"no zlib")


def test_a_page_of_a_tiff_is_turned_as_it_says(folder):
    frame = (2, 1, zlib.compress(bytes([0, 255])))
    (folder / "a.tif").write_bytes(tiff(frame, frame, frame, turned=1))
    assert [page.size for _, page in read_pages("a.tif")] == [(2, 1), (1, 2), (2, 1)]
    assert {tuple(pixels(page)) for _, page in read_pages("a.tif")} == {((0, 0, 0), WHITE)}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (BROKEN, "is damaged or truncated"),
        ((8, 8, FINE[2][:-9]), "is damaged or truncated"),
        ((0, 8, b""), "is damaged or truncated"),
        ((20_000, 20_000, b""), "has more than 89 megapixels; scale it down first"),
        ((10_000, 10_000, b""), "has more than 89 megapixels; scale it down first"),
    ],
)
def test_a_broken_page_among_others(frame, reason, folder):
    (folder / "a.tif").write_bytes(tiff(FINE, frame, FINE))
    first, (number, error), third = read_pages("a.tif")
    assert (first[0], third[0]) == (1, 3)
    assert pixels(first[1]) == pixels(third[1]) == [(119, 119, 119)] * 64
    assert number == 2 and isinstance(error, InputError)
    assert str(error).startswith(f"a.tif, page 2: {reason}")
    assert [number for number, _ in read_pages("a.tif", without={2})] == [1, 3]


def test_read_image_raises_what_is_wrong_with_the_first_page(folder):
    (folder / "a.tif").write_bytes(tiff(BROKEN, FINE))
    with pytest.raises(InputError, match=r"^a\.tif, page 1: is damaged"):
        read_image("a.tif")


def test_a_tiff_whose_pages_go_in_a_circle(folder):
    (folder / "a.tif").write_bytes(tiff(FINE, FINE, loop=True))
    assert [number for number, _ in itertools.islice(read_pages("a.tif"), 9)] == [1, 2]


def test_more_broken_pages_than_anybody_wants_to_hear_of(folder):
    (folder / "a.tif").write_bytes(tiff(FINE, *[BROKEN] * 100))
    pages = list(read_pages("a.tif"))
    assert [number for number, _ in pages] == list(range(1, 3 + images.BROKEN_IN_A_ROW))
    assert str(pages[-1][1]) == (
        "a.tif, page 22: and what follows is not read: those before it are damaged, 20 in a row; "
        "get a new copy"
    )


def test_more_pages_than_a_file_may_have(folder, monkeypatch):
    monkeypatch.setattr(images, "MAX_PAGES", 3)
    (folder / "a.tif").write_bytes(tiff(*[FINE] * 3))
    assert len(list(read_pages("a.tif"))) == 3
    (folder / "a.tif").write_bytes(tiff(*[FINE] * 5))
    *_, (number, error) = read_pages("a.tif")
    assert number == 4
    assert str(error) == (
        "a.tif, page 4: and what follows is not read: there are more than 3 pages; "
        "split the file first"
    )


def test_a_page_is_decoded_when_it_is_asked_for(folder, monkeypatch):
    (folder / "a.tif").write_bytes(tiff(*[FINE] * 3))
    decoded, load = [], Image.Image.load
    monkeypatch.setattr(
        Image.Image, "load", lambda image: decoded.append(image.getbbox) or load(image)
    )
    pages = read_pages("a.tif")
    next(pages)
    so_far = len(decoded)
    list(pages)
    assert 0 < so_far < len(decoded)


# HEIC


def save_heic(name: str, *colors: tuple[int, int, int], **how: object) -> None:
    first, *others = (image.resize((64, 64)) for image in colored(*colors))
    heic = pillow_heif.from_pillow(first)
    for other in others:
        heic.add_from_pillow(other)
    heic.save(name, **how)


def test_heic():
    save_heic("a.heic", BLUE)
    ((number, page),) = read_pages("a.heic")
    assert (number, nearest(page), page.mode) == (None, BLUE, "RGB")
    with open_image("a.heic") as image:
        assert image.size == (64, 64)


def test_the_primary_picture_of_several_in_heic():
    save_heic("a.heic", RED, GREEN, BLUE, primary_index=1)
    ((number, page),) = read_pages("a.heic")
    assert (number, nearest(page)) == (None, GREEN)


def test_heic_is_turned_as_it_says():
    wide = Image.new("RGB", (128, 64), "red")
    wide.paste("blue", (64, 0, 128, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(wide).save("a.heic", exif=exif.tobytes())
    upright = read_image("a.heic")
    assert upright.size == (64, 128)
    assert upright.getpixel((32, 16))[0] > 200 and upright.getpixel((32, 112))[2] > 200


def test_half_of_a_heic(folder):
    save_heic("a.heic", RED)
    data = (folder / "a.heic").read_bytes()
    for end in (len(data) // 2, len(data) - 4):
        (folder / "a.heic").write_bytes(data[:end])
        with pytest.raises(InputError, match=r"^a\.heic: is damaged or truncated"):
            read_image("a.heic")


def test_common_formats_load_no_other_decoder():
    colored(RED)[0].save("a.png")
    probe = (
        "import sys; from janus_cli.images import read_image; read_image('a.png');"
        "print({'pillow_heif', 'pypdfium2', 'httpx2', 'asyncio'} & set(sys.modules))"
    )
    root = Path(images.__file__).parent.parent
    env = os.environ | {"PYTHONPATH": str(root)}
    ended = subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("set()\n", "")


# Pipes and files that are no pictures


def test_a_named_pipe():
    os.mkfifo("pipe")
    data = io.BytesIO()
    corners().save(data, "PNG")
    if os.fork() == 0:
        with open("pipe", "wb") as pipe:
            pipe.write(data.getvalue())
        os._exit(0)
    assert pixels(read_image("pipe")) == pixels(corners())
    os.wait()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


def bad_files() -> dict[str, bytes]:
    """Names and contents of files that are no pictures."""
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(whole, "PNG")
    jpeg = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(jpeg, "JPEG")
    return {
        "empty.png": b"",
        "half.png": whole.getvalue()[: len(whole.getvalue()) // 2],
        "half.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "start.png": whole.getvalue()[:20],
        "words.png": b"this is no picture at all",
        "bomb.png": png_header(20_000, 20_000),
        "warning.png": png_header(10_000, 10_000),
        "nothing.png": png_header(10, 10),
    }


REASONS = {
    "empty.png": "is empty",
    "half.png": "is damaged or truncated",
    "half.jpg": "is damaged or truncated",
    "start.png": "is not a picture|is damaged or truncated",
    "words.png": "is not a picture in a known format",
    "bomb.png": "has more than 89 megapixels",
    "warning.png": "has more than 89 megapixels",
    "nothing.png": "is damaged or truncated",
}


@pytest.mark.parametrize("name", REASONS)
def test_a_bad_file_is_named_with_the_reason(name, folder):
    (folder / name).write_bytes(bad_files()[name])
    with pytest.raises(InputError, match=f"^{name}: ({REASONS[name]})"):
        read_image(name)


def test_what_is_no_file(folder, monkeypatch):
    with pytest.raises(InputError, match=r"^none\.png: no such file"):
        read_image("none.png")
    with pytest.raises(InputError, match=r"is a folder without pictures; -r"):
        read_image(str(folder))
    with pytest.raises(InputError, match=r"^/dev/zero: is neither a file nor a pipe"):
        read_image("/dev/zero")
    with pytest.raises(InputError, match=r"cannot be opened"):
        read_image("a\0b.png")
    with pytest.raises(InputError, match=r"cannot be opened.*name too long"):
        read_image("a" * 5000)


def test_a_file_that_may_not_be_read(monkeypatch):
    corners().save("a.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(InputError, match=r"^a\.png: may not be read; check its permissions"):
        read_image("a.png")
