"""Pictures as PNG files that carry their prompt and settings: written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import InputError, OutputError
from .schema import Picture

if TYPE_CHECKING:
    from PIL import Image

CHUNK = "janus"  # our settings, as JSON
COMMON_CHUNK = "parameters"  # the same for the many tools that read this one
GRID_GAP = 8  # pixels between the pictures of a contact sheet


def settings_of(picture: Picture) -> dict[str, Any]:
    """What it takes to draw the picture again."""
    return {
        "prompt": picture.prompt,
        "negative": picture.negative,
        "seed": picture.seed,
        "model": picture.model,
        "precision": picture.precision,
        "guidance": picture.guidance,
        "temperature": picture.temperature,
        "top_k": picture.top_k,
        "top_p": picture.top_p,
        "width": picture.width,
        "height": picture.height,
    }


def write_picture(picture: Picture, path: str, *, force: bool) -> None:
    """Write one picture with its settings."""
    _write(_image_of(picture), settings_of(picture), path, force)


def write_grid(pictures: list[Picture], path: str, *, force: bool) -> None:
    """Write the pictures of one prompt as a contact sheet."""
    from PIL import Image

    first = pictures[0]
    columns = next(n for n in range(1, len(pictures) + 1) if n * n >= len(pictures))
    rows = -(-len(pictures) // columns)
    across, down = first.width + GRID_GAP, first.height + GRID_GAP
    sheet = Image.new("RGB", (columns * across - GRID_GAP, rows * down - GRID_GAP), "white")
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        sheet.paste(_image_of(picture), (column * across, row * down))
    _write(sheet, settings_of(first) | {"count": len(pictures)}, path, force)


def read_settings(path: str) -> dict[str, Any]:
    """The settings that `write_picture` put into a file."""
    from .images import open_image

    with open_image(path) as image:
        text = image.info.get(CHUNK)
    try:
        settings = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise InputError(
            f"{path}: carries no settings of janus; only PNGs that `janus imagine` wrote do"
        )
    return settings


def _image_of(picture: Picture) -> Image.Image:
    from PIL import Image

    return Image.frombytes("RGB", (picture.width, picture.height), picture.pixels)


def _write(image: Image.Image, settings: dict[str, Any], path: str, force: bool) -> None:
    """Write aside in the same folder, then give the file its name in one step."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt(COMMON_CHUNK, _common_text(settings))
    chunks.add_itxt(CHUNK, json.dumps(settings))
    with _errors_named(path), _aside(path) as aside:
        with open(aside, "xb") as file:
            image.save(file, "PNG", pnginfo=chunks)
        if force:
            os.replace(aside, path)
        else:
            _name_without_replacing(aside, path)


def _common_text(settings: dict[str, Any]) -> str:
    """The settings in the words of the "parameters" chunk that image tools read."""
    negative = settings["negative"]
    lines = [settings["prompt"], *([f"Negative prompt: {negative}"] if negative else [])]
    facts = {
        "CFG scale": settings["guidance"],
        "Seed": settings["seed"],
        "Size": f"{settings['width']}x{settings['height']}",
        "Model": settings["model"],
        "Precision": settings["precision"],
        "Temperature": settings["temperature"],
        "Top k": settings["top_k"],
        "Top p": settings["top_p"],
    }
    lines.append(", ".join(f"{name}: {value}" for name, value in facts.items()))
    return "\n".join(lines).encode("utf-8", "replace").decode().replace("\0", "")


@contextlib.contextmanager
def _aside(path: str) -> Iterator[str]:
    """A free name in the folder of `path`; what lies there in the end is removed."""
    name = f".janus-{os.getpid()}-{os.urandom(4).hex()}.tmp"
    aside = os.path.join(os.path.dirname(path), name)
    try:
        yield aside
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


def _name_without_replacing(aside: str, path: str) -> None:
    """Give the file its name unless that has been taken meanwhile, by whomever."""
    try:
        os.link(aside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name first
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(aside, path)
        except OSError:
            os.unlink(path)
            raise


@contextlib.contextmanager
def _errors_named(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise OutputError(f"{path}: exists; use --force, another --seed or -o") from None
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path}: cannot be written: {reason}; choose another place") from error
