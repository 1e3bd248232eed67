"""Own data as a source of lessons: JSON lines about pictures that lie beside them.

A line is {"image", "question", "answer"}, {"image", "caption"} to draw from, {"question", "answer"}
without a picture, or {"text"}; an image is a path relative to the file that names it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..engine.pixels import Preprocessing
from ..errors import InputError
from ..images import read_image
from .lessons import KINDS, Lesson

TOGETHER = 12  # questions about one picture that are asked at once
WORDS = ("question", "answer", "caption", "text", "image")
HALF = re.compile("[\ud800-\udfff]")  # a lone surrogate, which JSON can say and UTF-8 cannot


@dataclass(frozen=True)
class Record:
    """What is learned from one picture or text, and where its first line stands."""

    name: str
    image: Path | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    caption: str | None = None
    text: str | None = None

    @property
    def kind(self) -> str:
        if self.image is None:
            return "text"
        return "understanding" if self.caption is None else "generation"


class Folder:
    """The records of one file, in an order that is shuffled anew each time all were seen."""

    def __init__(self, file: Path, preprocessing: Preprocessing, *, seed: int) -> None:
        self.file, self.preprocessing, self.seed = file, preprocessing, seed
        self.records: dict[str, list[Record]] = {kind: [] for kind in KINDS}
        self.digest = ""

    def read(self, complain: Callable[[str], None]) -> None:
        """Read the file; a line that is broken is named, and left out.

        Raises:
            InputError: the file cannot be read, or not one of its lines.
        """
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise InputError(f"{self.file}: cannot be read: {error.strerror}") from error
        self.digest = hashlib.sha256(data).hexdigest()
        merged: dict[Any, Record] = {}
        for number, line in enumerate(data.splitlines(), 1):
            if not line.strip():
                continue
            name = f"{self.file}:{number}"
            try:
                for record in parse(line, name, self.file.parent):
                    key = record.image if record.pairs and record.image else record
                    first = merged.setdefault(key, replace(record, pairs=()))
                    merged[key] = replace(first, pairs=(*first.pairs, *record.pairs))
            except ValueError as error:
                complain(f"{name}: {error}; it is left out")
        if not merged:
            raise InputError(
                f"{self.file}: holds nothing to learn from; a line is like "
                '{"image": "a.png", "question": "what is it?", "answer": "a cat"}'
            )
        for record in merged.values():
            self.records[record.kind].append(record)

    def count(self, kind: str) -> int:
        return len(self.records[kind])

    def lesson(self, kind: str, number: int) -> Lesson:
        records = self.records[kind]
        turn, place = divmod(number, len(records))
        record = records[shuffled(len(records), f"{self.seed} {kind} {turn}")[place]]
        pairs = random.Random(f"{self.seed} {turn} {record.name}").sample(
            record.pairs, min(TOGETHER, len(record.pairs))
        )
        picture = None if record.image is None else self._picture(record)
        return Lesson(record.name, tuple(pairs), record.text, record.caption, picture)

    def _picture(self, record: Record) -> np.ndarray:
        """A picture to read in the middle of a square, one to draw cropped to it."""
        try:
            image = read_image(str(record.image))
        except InputError as error:
            raise InputError(f"{record.name}: {error}") from error
        if record.caption is None:
            return np.array(self.preprocessing.frame(image))
        side = self.preprocessing.size
        return np.array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))


@functools.lru_cache(maxsize=8)
def shuffled(count: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), count)


def find_files(path: Path) -> list[Path]:
    """The files of a DATA argument: itself, or every .jsonl in a folder.

    Raises:
        InputError: there is none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise InputError(f"{path}: holds no .jsonl file; write one line for each question")
    return files


def parse(line: bytes, name: str, folder: Path) -> Iterator[Record]:
    """The records of a line; a ValueError says what is wrong with it."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(raw, dict):
        raise ValueError("is no JSON object")
    for key in WORDS:
        if not isinstance(raw.get(key, ""), str):
            raise ValueError(f"{key!r} is no string")
        if HALF.search(raw.get(key, "")):
            raise ValueError(f"{key!r} holds half of a character")
    found = {key: raw[key] for key in WORDS if raw.get(key, "").strip()}
    if ("question" in found) != ("answer" in found):
        raise ValueError("a question and its answer go together")
    image = folder / found["image"] if "image" in found else None
    if "caption" in found and image is None:
        raise ValueError("a caption lacks its 'image'")
    if image and not found.keys() & {"question", "caption"}:
        raise ValueError("an image lacks its question and answer, or its caption")
    if not found.keys() & {"question", "caption", "text"}:
        raise ValueError("has neither 'question' and 'answer' nor 'caption' nor 'text'")
    if "question" in found:
        yield Record(name, image, ((found["question"], found["answer"]),))
    if "caption" in found:
        yield Record(name, image, caption=found["caption"])
    if "text" in found:
        yield Record(name, text=found["text"])
