"""Pictures as PNG files that carry their prompt and settings: written whole or not at all."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .files import write_whole
from .schema import Picture

if TYPE_CHECKING:
    from PIL import Image

CHUNK = "janus"  # our settings, as JSON
COMMON_CHUNK = "parameters"  # the same for the many tools that read this one
GRID_GAP = 8  # pixels between the pictures of a contact sheet
SETTINGS = (
    *("prompt", "negative", "seed", "model", "precision"),
    *("guidance", "steps", "temperature", "top_k", "top_p", "width", "height"),
)


def settings_of(picture: Picture) -> dict[str, Any]:
    """What it takes to draw the picture again."""
    return {name: getattr(picture, name) for name in SETTINGS}


def write_picture(picture: Picture, path: str, *, force: bool) -> None:
    """Write one picture with its settings."""
    write_whole(path, encoded(picture), force=force)


def encoded(picture: Picture) -> bytes:
    """What a file of the picture holds, its settings included."""
    return _encoded(_image_of(picture), settings_of(picture))


def write_grid(pictures: list[Picture], path: str, *, force: bool) -> None:
    """Write the pictures of one prompt as a contact sheet."""
    from PIL import Image

    first = pictures[0]
    columns = next(n for n in range(1, len(pictures) + 1) if n * n >= len(pictures))
    rows = -(-len(pictures) // columns)
    across = max(picture.width for picture in pictures) + GRID_GAP
    down = max(picture.height for picture in pictures) + GRID_GAP
    sheet = Image.new("RGB", (columns * across - GRID_GAP, rows * down - GRID_GAP), "white")
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        sheet.paste(_image_of(picture), (column * across, row * down))
    data = _encoded(sheet, settings_of(first) | {"count": len(pictures)})
    write_whole(path, data, force=force)


def read_settings(path: str, *, whole: bool = False) -> dict[str, Any]:
    """The settings that `write_picture` put into a file, InputError if there are none.

    With `whole` the file is read to its end, and is not to be damaged anywhere.
    """
    from .images import open_image

    with open_image(path) as image:
        text = image.info.get(CHUNK)
        if whole:
            image.verify()
    try:
        settings = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise InputError(
            f"{path}: carries no settings of janus; only PNGs that `janus imagine` wrote do"
        )
    return settings


def read_picture(path: str, index: int) -> Picture:
    """The picture of wish `index` that `write_picture` put into a file."""
    from .images import read_image

    image = read_image(path)
    settings = {name: value for name, value in read_settings(path).items() if name in SETTINGS}
    settings |= {"width": image.width, "height": image.height}
    return Picture(index=index, pixels=image.tobytes(), seconds=0.0, **settings)


def _image_of(picture: Picture) -> Image.Image:
    from PIL import Image

    return Image.frombytes("RGB", (picture.width, picture.height), picture.pixels)


def _encoded(image: Image.Image, settings: dict[str, Any]) -> bytes:
    """A picture and its settings as one PNG."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt(COMMON_CHUNK, _common_text(settings))
    chunks.add_itxt(CHUNK, json.dumps(settings))
    data = io.BytesIO()
    image.save(data, "PNG", pnginfo=chunks)
    return data.getvalue()


def _common_text(settings: dict[str, Any]) -> str:
    """The settings in the words of the "parameters" chunk that image tools read."""
    negative = settings["negative"]
    lines = [settings["prompt"], *([f"Negative prompt: {negative}"] if negative else [])]
    steps = settings["steps"]
    facts = {
        **({} if steps is None else {"Steps": steps}),
        "CFG scale": settings["guidance"],
        "Seed": settings["seed"],
        "Size": f"{settings['width']}x{settings['height']}",
        "Model": settings["model"],
        "Precision": settings["precision"],
    }
    if steps is None:
        names = {"Temperature": "temperature", "Top k": "top_k", "Top p": "top_p"}
        facts |= {name: settings[key] for name, key in names.items()}
    lines.append(", ".join(f"{name}: {value}" for name, value in facts.items()))
    return "\n".join(lines).encode("utf-8", "replace").decode().replace("\0", "")
