"""Whatever goes wrong → a status and OpenAI's JSON. It knows no task and no connection."""

from __future__ import annotations

import itertools
import json
import os
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.responses import Response

from .. import terminal
from ..errors import InputError, JanusError, ModelError, UsageError

LONGEST = 1000  # characters of a message, which may cite what was sent
KINDS = ("system", "developer", "user", "assistant", "text", "image_url")  # of messages and parts
PARAMETERS = {  # what errors of requests call things, and what clients do
    "QUESTION": "messages",
    "IMAGE": "messages",
    "PROMPT": "prompt",
    "-n": "n",
}


class ApiError(Exception):
    """What a client is told instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error as OpenAI writes it; whatever characters it holds, the JSON is ASCII."""
        detail = {
            "message": terminal.one_line(self.message[:LONGEST]),
            "type": kind_of(self.status),
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": detail}).encode()

    def response(self) -> Response:
        """The error in the place of an answer."""
        return Response(self.body(), self.status, self.headers, media_type="application/json")


def kind_of(status: int) -> str:
    """The type of an error, by its status."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def explained(error: Exception) -> ApiError:
    """What a client is told of an error; one that nobody expects is said on standard error, too."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UsageError):
        return _unusable(str(error))
    if isinstance(error, InputError):
        return ApiError(400, str(error), param="messages", code="invalid_image")
    if isinstance(error, ModelError):
        return ApiError(503, str(error), code="model_unavailable")
    if _is_out_of_memory(error):
        advice = "ask for less at once, or try again later"
        return ApiError(503, f"the machine has run out of memory; {advice}", code="out_of_memory")
    return _defect(error)


def invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first thing that is wrong with a body, of those that pydantic found."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is no JSON", code="invalid_json")
    param = parameter(first["loc"])
    message = f"{param}: {first['msg']}" if param else f"the body: {first['msg']}"
    return ApiError(400, message, param=param or None, code=first["type"])


def parameter(location: Sequence[int | str]) -> str:
    """A place in a body as in messages[0].content[1].text; empty for the body itself."""
    path = ""
    for before, part in itertools.pairwise(location):
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (isinstance(before, int) and part in KINDS):
            path += f".{part}"
    return path.removeprefix(".")


def _unusable(message: str) -> ApiError:
    """A request that its own checks, or the tokenizer, refuse."""
    flag, _, advice = message.partition(": ")
    param = PARAMETERS.get(flag, flag.removeprefix("--").replace("-", "_"))
    code = "context_length_exceeded" if "context" in advice else "invalid_value"
    return ApiError(400, f"{param}: {advice}", param=param, code=code)


def _is_out_of_memory(error: Exception) -> bool:
    from ..engine.machine import is_out_of_memory

    return is_out_of_memory(error)


def _defect(error: Exception) -> ApiError:
    if isinstance(error, JanusError):
        return ApiError(500, str(error))
    terminal.say(f"--http: a defect of janus: {type(error).__name__}: {error}")
    if os.environ.get("JANUS_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    return ApiError(500, "a defect of janus; its standard error says which")
