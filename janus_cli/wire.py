"""Requests and events as lines of JSON, for a model that is kept warm in another process."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from io import BufferedReader, BufferedRWPair
from typing import Any

from . import errors, schema
from .errors import JanusError, ModelError

END = "End"  # the kind of the line behind the last event
ERROR = "Error"  # that of the line in its place, where something went wrong
KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(schema.UnderstandRequest, schema.ImagineRequest, schema.Wish, schema.Turn, schema.Origin),
        *(schema.Piece, schema.Answer, schema.Picture, schema.Failure, schema.Progress),
    )
}


def send(stream: BufferedRWPair, value: Any) -> None:
    """Write a request, an event or a plain object as one line."""
    stream.write(json.dumps(_packed(value), ensure_ascii=True).encode() + b"\n")
    stream.flush()


def receive(stream: BufferedRWPair | BufferedReader) -> Any:
    """The next line as what it was; EOFError where there is none, or only a part of it."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return _unpacked(json.loads(line))


def send_error(stream: BufferedRWPair, error: Exception) -> None:
    """Say what went wrong in the place of the end; an error of no known kind is a defect."""
    known = isinstance(error, JanusError)
    kind = type(error).__name__ if known else ""
    message = str(error) if known else f"{type(error).__name__}: {error}"
    send(stream, {"kind": ERROR, "error": kind, "message": message})


def events(stream: BufferedRWPair) -> Iterator[schema.Event]:
    """The events until the end.

    Raises:
        JanusError: what went wrong there, of the same class.
        EOFError: the other side went away.
    """
    while True:
        event = receive(stream)
        if not isinstance(event, dict):
            yield event
        elif event["kind"] == END:
            return
        else:
            raise _error(event)


def _error(said: dict[str, Any]) -> Exception:
    kind = getattr(errors, said["error"], None) if said["error"] else None
    if isinstance(kind, type) and issubclass(kind, JanusError):
        return kind(said["message"])
    return RuntimeError(said["message"])


def _packed(value: Any) -> Any:
    """Plain data that says what it was."""
    if is_dataclass(value):
        content = {field.name: _packed(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__, **content}
    if isinstance(value, bytes):
        return {"kind": "bytes", "base64": base64.b64encode(value).decode()}
    if isinstance(value, (tuple, list)):
        return [_packed(part) for part in value]
    if isinstance(value, dict):
        return {name: _packed(part) for name, part in value.items()}
    return value


def _unpacked(value: Any) -> Any:
    """What plain data was; lists come back as tuples."""
    if isinstance(value, list):
        return tuple(_unpacked(part) for part in value)
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "bytes":
        return base64.b64decode(value["base64"])
    content = {name: _unpacked(part) for name, part in value.items()}
    kind = KINDS.get(content.get("kind", ""))
    if kind is None:
        return content
    del content["kind"]
    try:
        return kind(**content)
    except TypeError as error:
        raise ModelError(
            f"another janus answers on the socket ({error}); janus stop ends it"
        ) from error
