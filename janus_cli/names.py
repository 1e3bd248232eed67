"""Where pictures go: orders and --output → one path per picture, checked before any is drawn."""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import OutputError, UsageError
from .prompts import Order

DEFAULT_NAME = "{slug}-{seed}.png"
NUMBERED_NAME = "{{index:0{width}}}-{{slug}}-{{seed}}.png"  # where the usual names are too few
FIELDS = ("slug", "stem", "seed", "i", "index")
SLUG_LENGTH = 48
OTHER_FORMATS = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")


@dataclass(frozen=True)
class Targets:
    """The files of a run: `paths[p][i]` is picture i of prompt p, `grids[p]` its contact sheet."""

    paths: tuple[tuple[str, ...], ...]
    grids: tuple[str, ...]
    """Empty without --grid."""
    force: bool
    """Existing files are replaced."""
    resume: bool = False
    """Existing files are left as they are, where they hold what would be drawn."""

    def every(self) -> list[str]:
        """All paths in the order in which they are written."""
        return [path for group in self.paths for path in group] + list(self.grids)

    def folders(self) -> list[str]:
        """The folders of all files."""
        return list(dict.fromkeys(os.path.dirname(path) or "." for path in self.every()))


def plan(
    orders: Sequence[Order], output: str | None, *, grid: bool, force: bool, resume: bool = False
) -> Targets:
    """Name every file of the run; UsageError for a bad pattern, OutputError for a taken name."""
    pattern = _pattern(output, _usual_name(orders))
    paths = tuple(
        tuple(_path(pattern, order, i, index) for i in range(order.wish.count))
        for index, order in enumerate(orders)
    )
    grids = tuple(_beside(group[0], "-grid") for group in paths) if grid else ()
    targets = Targets(paths, grids, force, resume)
    _refuse_doubles(targets, orders)
    _refuse_existing(targets)
    return targets


def slug(prompt: str) -> str:
    """A short, plain file name part for a prompt: lower-case ASCII words joined by hyphens."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    words = "-".join(re.findall(r"[a-z0-9]+", plain.lower()))
    if len(words) > SLUG_LENGTH:
        words = words[: SLUG_LENGTH + 1].rpartition("-")[0] or words[:SLUG_LENGTH]
    return words or "picture"


def make_folders(targets: Targets) -> None:
    """Create the folders and try each with an empty file, so that drawing is not in vain."""
    for folder in targets.folders():
        trial = os.path.join(folder, f".janus-{os.getpid()}.tmp")
        try:
            os.makedirs(folder, exist_ok=True)
            with open(trial, "xb"):
                pass
            os.unlink(trial)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be written to: {error.strerror}; choose another folder with -o"
            ) from error


def _usual_name(orders: Sequence[Order]) -> str:
    """The name where --output gives none: with the prompt's number where it would be too few."""
    named = [order.wish for order in orders if order.output is None]
    usual = [(slug(wish.prompt), wish.seed + i) for wish in named for i in range(wish.count)]
    if len(set(usual)) == len(usual):
        return DEFAULT_NAME
    return NUMBERED_NAME.format(width=len(str(len(orders) - 1)))


def _pattern(output: str | None, usual: str) -> str:
    """The file pattern that --output stands for: a folder keeps the usual names."""
    if output is None:
        return usual
    if not output:
        raise UsageError("--output: is empty; name a folder or a file pattern")
    if os.path.isdir(output):
        return os.path.join(_literal(output), usual)
    if output.endswith(("/", os.sep)):
        return output + usual
    ending = os.path.splitext(output)[1].lower()
    if ending == ".png":
        return output
    if ending in OTHER_FORMATS:
        raise UsageError(f"--output: {output}: pictures are written as PNG; end the name in .png")
    if "{" in os.path.basename(output):
        return output + ".png"
    return os.path.join(output, usual)


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _path(pattern: str, order: Order, i: int, index: int) -> str:
    """The file of picture i of an order: its own name in the pattern's folder, or the pattern's."""
    if order.output is None:
        return _fill(pattern, "--output", order, i, index)
    flag = _flag(order)
    name = _fill(order.output, flag, order, i, index)
    parts = name.replace("\\", "/").split("/")
    if os.path.isabs(name) or os.path.splitdrive(name)[0] or ".." in parts:
        raise UsageError(f"{flag}: {name} leads out of the folder; write a plain file name")
    ending = os.path.splitext(name)[1].lower()
    if not parts[-1] or ending not in ("", ".png"):
        raise UsageError(f"{flag}: {name}: pictures are written as PNG; end the name in .png")
    folder = _fill(os.path.dirname(pattern), "--output", order, i, index)
    return os.path.join(folder, name if ending else f"{name}.png")


def _flag(order: Order) -> str:
    """What gave an order's pictures their names, for messages."""
    return "--output" if order.output is None else f"{order.place}: output"


def _fill(pattern: str, flag: str, order: Order, i: int, index: int) -> str:
    """The pattern with its fields filled in; only those five, never an attribute of one."""
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    try:
        fields = [
            field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None
        ]
        for field in fields:
            if field not in FIELDS:
                raise UsageError(f"{flag}: {{{field}}} is unknown; the fields are {known}")
        path = pattern.format(**_values(order, i, index))
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(
            f"{flag}: {pattern} is no file pattern ({error}); the fields are {known}"
        ) from error
    if "\0" in path:
        raise UsageError(f"{flag}: a null byte cannot be part of a file name")
    return path


def _values(order: Order, i: int, index: int) -> dict[str, str | int]:
    plain = slug(order.wish.prompt)
    stem = plain if order.stem is None else order.stem
    return {"slug": plain, "stem": stem, "seed": order.wish.seed + i, "i": i, "index": index}


def _beside(path: str, suffix: str) -> str:
    stem, ending = os.path.splitext(path)
    return stem + suffix + ending


def _refuse_doubles(targets: Targets, orders: Sequence[Order]) -> None:
    groups = [*zip(orders, targets.paths, strict=True)]
    groups += [(order, (grid,)) for order, grid in zip(orders, targets.grids, strict=False)]
    seen: set[str] = set()
    for order, paths in groups:
        for path in paths:
            place = os.path.normpath(path)
            if place in seen:
                raise UsageError(
                    f"{_flag(order)}: two pictures would be named {path}; tell them apart by "
                    "{seed}, {i} or {index}, as in '{slug}-{index}-{seed}.png'"
                )
            seen.add(place)


def _refuse_existing(targets: Targets) -> None:
    for path in targets.every():
        if os.path.isdir(path):
            raise OutputError(f"{path}: is a folder; name a file, or end the folder's name in /")
        if not (targets.force or targets.resume) and os.path.lexists(path):
            raise OutputError(f"{path}: exists; use --resume, --force, another --seed or -o")
