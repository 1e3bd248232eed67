"""What a former run over the same output has finished, so that the next one does the rest."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .errors import OutputError
from .files import Log
from .schema import UnderstandRequest

Done = Counter[tuple[str, int | None]]
"""How often an input, or a page of it, was answered: the same one may have been named twice."""


def take_up(log: Log, questions: Sequence[str], inputs: Iterable[str]) -> Done:
    """What a file of JSON lines says is answered; what has to be done again is taken out of it.

    That is a torn last line, the failures among `inputs`, and the pages of which not every question
    was answered. Records of other inputs and of other questions stay.

    Raises:
        OutputError: a line is not one that janus writes.
    """
    data = log.read()
    lines = data.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    records = [_record(line, f"{log.path}, line {n}") for n, line in enumerate(lines, start=1)]
    wanted, asked = set(inputs), set(questions)
    ours = [n for n, record in enumerate(records) if record["input"] in wanted]
    again = {n for n in ours if "error" in records[n]}
    done: Done = Counter()
    for key, found in _by_page(records, [n for n in ours if n not in again], asked):
        times = min(len(found[question]) for question in questions)
        done[key] += times
        again |= {n for numbers in found.values() for n in numbers[times:]}
    kept = b"".join(line for n, line in enumerate(lines) if n not in again)
    if kept != data:
        log.replace(kept)
    return done


def _by_page(
    records: Sequence[dict[str, Any]], numbers: Iterable[int], asked: set[str]
) -> Iterator[tuple[tuple[str, int | None], dict[str, list[int]]]]:
    """For every page the numbers of its records, by question."""
    pages: dict[tuple[str, int | None], dict[str, list[int]]] = {}
    for number in numbers:
        record = records[number]
        if record["question"] in asked:
            found = pages.setdefault((record["input"], record["page"]), defaultdict(list))
            found[record["question"]].append(number)
    yield from pages.items()


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict) and isinstance(record.get("input"), str):
        if "error" in record:
            return record
        if isinstance(record.get("question"), str) and _is_page(record.get("page", "")):
            return record
    raise OutputError(f"{place}: is no answer of janus; --resume goes on with what --json wrote")


def _is_page(page: object) -> bool:
    return page is None or (isinstance(page, int) and not isinstance(page, bool))


def answered_files(paths: Sequence[str], *, as_json: bool) -> list[bool]:
    """Of the files that a run is to write: which are there and hold no failure."""
    return [os.path.isfile(path) and not (as_json and _holds_failure(path)) for path in paths]


def _holds_failure(path: str) -> bool:
    """Whether a file of records has to be written again."""
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    return any("error" in _record(line, path) for line in lines)


def left_out(
    request: UnderstandRequest, done: Done
) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """The numbers of the pictures that are still to be answered, and the pages of those that are
    answered; the numbers of the pages' pictures are those in the shorter list."""
    done = Counter(done)
    pages: dict[str, list[int]] = defaultdict(list)
    for (name, page), times in done.items():
        if page is not None:
            pages[name] += [page] * times
    left: list[int] = []
    answered: list[tuple[int, int]] = []
    for number, name in enumerate(request.images):
        if done[name, None] > 0:
            done[name, None] -= 1
            continue
        for page in sorted(set(pages.get(name, ()))):
            pages[name].remove(page)
            answered.append((len(left), page))
        left.append(number)
    return left, tuple(answered)
