"""Pictures as they come from cameras, scanners and pipes, and files that are none."""

from __future__ import annotations

import io
import os
import struct
import zlib

import pytest
from PIL import Image

from janus_cli.errors import InputError
from janus_cli.images import read_image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


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


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (2, 2), color) for color in (RED, GREEN)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:], duration=10)
    assert pixels(read_image("a.gif"))[0] == RED


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
