"""Arguments, standard input and --prompts → wishes, every one checked before any is drawn.

It says what is to be drawn, and what names the pictures; it forms no name.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any

from . import terminal
from .errors import InputError, UsageError
from .inputs import STDIN
from .schema import Wish, require_unicode

WHOLE, NUMBER, TEXT = (int,), (int, float), (str,)
KINDS: dict[str, tuple[type, ...]] = {
    "prompt": TEXT,
    "seed": WHOLE,
    "n": WHOLE,
    "guidance": NUMBER,
    "steps": WHOLE,
    "temperature": NUMBER,
    "top_k": WHOLE,
    "top_p": NUMBER,
    "negative": (str, NoneType),
    "output": (str, NoneType),
}
IN_WORDS: dict[tuple[type, ...], str] = {
    WHOLE: "a whole number",
    NUMBER: "a number",
    TEXT: "a text",
}


@dataclass(frozen=True)
class Order:
    """A wish, and what its pictures are named after."""

    wish: Wish
    stem: str | None = None
    """Of the list that it stands in; None of an argument."""
    output: str | None = None
    """A name of its own for its pictures."""
    place: str = "PROMPT"
    """Where it was written, for messages."""
    own_seed: bool = False
    """Its seed was written with it."""


def read(words: Sequence[str], source: str | None, usual: Wish) -> tuple[Order, ...]:
    """The orders of the arguments, then those of the list; whatever they leave open is as usual.

    Raises:
        InputError: the list cannot be read.
        UsageError: there is nothing to draw, or a line of the list is wrong.
    """
    if (*words, source).count(STDIN) > 1:
        raise UsageError("-: standard input is read once; name it once")
    orders: list[Order] = []
    for word in words:
        orders += _piped(usual) if word == STDIN else [Order(replace(usual, prompt=word))]
    if source is not None:
        orders += listed(source, usual)
    if not orders:
        raise UsageError(
            'PROMPT: nothing to draw; write janus imagine "nebula corgi", or name a list of '
            "prompts with --prompts"
        )
    return tuple(orders)


def listed(source: str, usual: Wish) -> list[Order]:
    """The orders in a file or, for `-`, on standard input: a prompt or a JSON object a line."""
    name = f"--prompts {source}"
    if source == STDIN:
        if terminal.is_terminal(sys.stdin):
            raise InputError(f"{name}: standard input is no list; pipe one in, or name a file")
        data, stem = _stdin(), "stdin"
    else:
        data, stem = _contents(source), os.path.splitext(os.path.basename(source))[0]
    orders = [
        _object(line, place, stem, usual)
        if line.startswith("{")
        else Order(_wish(place, usual, prompt=line), stem, place=place)
        for place, line in _lines(data, name)
    ]
    if not orders:
        raise UsageError(f"{name}: holds no prompt; write one a line")
    return orders


def _piped(usual: Wish) -> list[Order]:
    """The lines of standard input, in the place of an argument; each is a prompt as it stands."""
    orders = [
        Order(_wish(place, usual, prompt=line), "stdin", place=place)
        for place, line in _lines(_stdin(), "standard input")
    ]
    if not orders:
        raise UsageError("PROMPT: standard input holds no prompt; write one a line")
    return orders


def _stdin() -> bytes:
    if sys.stdin is None:
        raise InputError("-: standard input is closed; pipe prompts in, one a line")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise InputError(f"-: cannot be read: {error.strerror}; pipe prompts in") from error


def _contents(source: str) -> bytes:
    try:
        with open(source, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"--prompts {source}: cannot be read: {reason}; name a list of prompts"
        ) from error


def _lines(data: bytes, name: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place."""
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        place = f"{name}, line {number}"
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise UsageError(f"{place}: is not valid UTF-8; save the list as UTF-8") from None
        if text:
            yield place, text


def _object(line: str, place: str, stem: str, usual: Wish) -> Order:
    """The order that a JSON object is."""
    record = _parsed(line, place)
    for key, value in record.items():
        kinds = KINDS.get(key)
        if kinds is None:
            raise UsageError(f"{place}: {key!r} is unknown; the keys are {', '.join(KINDS)}")
        if type(value) not in kinds:  # which tells true from 1
            raise UsageError(f"{place}: {key} must be {IN_WORDS.get(kinds, 'a text or null')}")
    if "prompt" not in record:
        raise UsageError(f'{place}: has no "prompt"; say what to draw')
    output = record.pop("output", None)
    try:
        require_unicode("output", output or "")
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    own_seed = "seed" in record
    if "n" in record:
        record["count"] = record.pop("n")
    return Order(_wish(place, usual, **record), stem, output, place, own_seed)


def _parsed(line: str, place: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number or a nesting without end
        reason = str(error)
    else:
        return record
    raise UsageError(f'{place}: begins like JSON but is none ({reason}); write {{"prompt": "..."}}')


def _wish(place: str, usual: Wish, **fields: Any) -> Wish:
    """The usual wish with some fields of its own, which are checked."""
    try:
        for name in {"guidance", "temperature", "top_p"} & fields.keys():
            fields[name] = float(fields[name])
        return replace(usual, **fields)
    except (UsageError, OverflowError) as error:
        raise UsageError(f"{place}: {error}") from None
