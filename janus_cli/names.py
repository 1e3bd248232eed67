"""Where pictures go: a request and --output → one path per picture, checked before any is drawn."""

from __future__ import annotations

import os
import re
import string
import unicodedata
from dataclasses import dataclass

from .errors import OutputError, UsageError
from .schema import ImagineRequest

DEFAULT_NAME = "{slug}-{seed}.png"
FIELDS = ("slug", "seed", "i", "index")
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

    def every(self) -> list[str]:
        """All paths in the order in which they are written."""
        return [path for group in self.paths for path in group] + list(self.grids)


def plan(request: ImagineRequest, output: str | None, *, grid: bool, force: bool) -> Targets:
    """Name every file of the run; UsageError for a bad pattern, OutputError for a taken name."""
    pattern = _pattern(output)
    paths = tuple(
        tuple(_fill(pattern, prompt, request.seed, i, index) for i in range(request.count))
        for index, prompt in enumerate(request.prompts)
    )
    grids = tuple(_beside(group[0], "-grid") for group in paths) if grid else ()
    targets = Targets(paths, grids, force)
    _refuse_doubles(targets)
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
    for folder in dict.fromkeys(os.path.dirname(path) or "." for path in targets.every()):
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


def _pattern(output: str | None) -> str:
    """The file pattern that --output stands for: a folder keeps the usual names."""
    if output is None:
        return DEFAULT_NAME
    if not output:
        raise UsageError("--output: is empty; name a folder or a file pattern")
    if os.path.isdir(output):
        return os.path.join(_literal(output), DEFAULT_NAME)
    if output.endswith(("/", os.sep)):
        return output + DEFAULT_NAME
    ending = os.path.splitext(output)[1].lower()
    if ending == ".png":
        return output
    if ending in OTHER_FORMATS:
        raise UsageError(f"--output: {output}: pictures are written as PNG; end the name in .png")
    if "{" in os.path.basename(output):
        return output + ".png"
    return os.path.join(output, DEFAULT_NAME)


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _fill(pattern: str, prompt: str, first_seed: int, i: int, index: int) -> str:
    """The pattern with its fields filled in; only the four fields, never an attribute of one."""
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    try:
        fields = [
            field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None
        ]
        for field in fields:
            if field not in FIELDS:
                raise UsageError(f"--output: {{{field}}} is unknown; the fields are {known}")
        path = pattern.format(slug=slug(prompt), seed=first_seed + i, i=i, index=index)
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(
            f"--output: {pattern} is no file pattern ({error}); the fields are {known}"
        ) from error
    if "\0" in path:
        raise UsageError("--output: a null byte cannot be part of a file name")
    return path


def _beside(path: str, suffix: str) -> str:
    stem, ending = os.path.splitext(path)
    return stem + suffix + ending


def _refuse_doubles(targets: Targets) -> None:
    seen: set[str] = set()
    for path in targets.every():
        place = os.path.normpath(path)
        if place in seen:
            raise UsageError(
                f"--output: two pictures would be named {path}; "
                "tell them apart by {seed}, {i} or {index}, as in -o '{slug}-{index}-{seed}.png'"
            )
        seen.add(place)


def _refuse_existing(targets: Targets) -> None:
    for path in targets.every():
        if os.path.isdir(path):
            raise OutputError(f"{path}: is a folder; name a file, or end the folder's name in /")
        if not targets.force and os.path.lexists(path):
            raise OutputError(f"{path}: exists; use --force, another --seed or -o")
