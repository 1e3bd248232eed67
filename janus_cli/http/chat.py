"""Conversations as OpenAI's clients send them, and their answers. It knows no connection."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..flags import random_seed
from ..inputs import is_address
from ..schema import Answer, Event, Failure, Origin, Piece, Turn, UnderstandRequest
from .errors import ApiError, explained
from .schema import (
    CHARACTERS,
    PICTURES,
    AssistantMessage,
    ChatCompletion,
    ChatRequest,
    ChatUsage,
    Choice,
    ImagePart,
    Message,
    Said,
    TextPart,
    UserMessage,
)

DATA_URL = re.compile(r"data:image/[\w.+-]{1,60}(;[\w.+-]{1,60}=[\w.+-]{1,60})?;base64", re.I)
MAX_TOKENS = 512
DONE = "data: [DONE]\n\n"


# What is asked


def understanding(body: ChatRequest, *, remote: bool) -> UnderstandRequest:
    """The question that a conversation ends in; `remote` allows pictures at http(s) addresses.

    The pictures of all messages are seen before the first question.

    Raises:
        ApiError, UsageError: it cannot be asked like that.
    """
    history, question = conversation(body.messages)
    names, given = pictures(body.messages, remote=remote)
    temperature = body.temperature or 0.0
    seed = body.seed
    if seed is None:
        seed = random_seed() if temperature > 0 else 0
    return UnderstandRequest(
        images=names,
        questions=(question,),
        together=True,
        history=history,
        max_tokens=body.max_completion_tokens or body.max_tokens or MAX_TOKENS,
        temperature=temperature,
        seed=seed,
        origin=Origin(given=given),
    )


def conversation(messages: Sequence[Message]) -> tuple[tuple[Turn, ...], str]:
    """The turns before the last question, and that question.

    What the system says goes before the first question. Neighbours of one speaker are one message.
    """
    spoken = [
        message for message in messages if isinstance(message, UserMessage | AssistantMessage)
    ]
    system = [text_of(message) for message in messages if message.role in ("system", "developer")]
    texts = [
        "\n\n".join(text_of(message) for message in neighbours)
        for _, neighbours in itertools.groupby(spoken, key=lambda message: message.role)
    ]
    if not spoken or spoken[0].role != "user" or spoken[-1].role != "user":
        advice = "the first and the last that is not the system's have to be the user's"
        raise ApiError(400, f"messages: {advice}", param="messages", code="invalid_value")
    texts[0] = "\n\n".join([*system, texts[0]])
    if sum(map(len, texts)) > CHARACTERS:
        advice = f"hold more than {CHARACTERS} characters; shorten them"
        code = "context_length_exceeded"
        raise ApiError(400, f"messages: {advice}", param="messages", code=code)
    turns = zip(texts[:-1:2], texts[1::2], strict=True)
    return tuple(Turn(question, answer) for question, answer in turns), texts[-1]


def text_of(message: Message) -> str:
    """What is said in a message."""
    parts = message.content or []
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def pictures(
    messages: Sequence[Message], *, remote: bool
) -> tuple[tuple[str, ...], tuple[tuple[str, bytes], ...]]:
    """The names of the pictures, and the content of those that came along."""
    users = [message for message in messages if isinstance(message, UserMessage)]
    parts = [part for message in users for part in message.content if isinstance(part, ImagePart)]
    if len(parts) > PICTURES:
        raise _unreadable(f"messages: hold {len(parts)} pictures; ask about {PICTURES} at most")
    names, given = [], []
    for number, part in enumerate(parts, start=1):
        name, url = f"image {number}", part.image_url.url
        if not is_address(url):
            given.append((name, content(name, url)))
        elif not remote:
            raise _unreadable(f"{name}: addresses are not followed; send it as a data: URL")
        names.append(url if is_address(url) else name)
    return tuple(names), tuple(given)


def content(name: str, url: str) -> bytes:
    """The bytes in a data: URL."""
    header, _, data = url.partition(",")
    if not DATA_URL.fullmatch(header[:200]):
        raise _unreadable(f"{name}: is no picture; send it as data:image/png;base64,...")
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable(f"{name}: is no base64; encode it again") from None


def _unreadable(message: str) -> ApiError:
    return ApiError(400, message, param="messages", code="invalid_image")


# What is answered


@dataclass(frozen=True)
class Reply:
    """What the chunks of an answer have in common, and how it is counted."""

    model: str
    context: int
    """Tokens of a question and its answer that the model holds."""
    max_tokens: int
    id: str
    created: int

    @classmethod
    def to(cls, body: ChatRequest, *, model: str, context: int) -> Reply:
        """A reply that is about to be given."""
        most = body.max_completion_tokens or body.max_tokens or MAX_TOKENS
        return cls(model, context, most, f"chatcmpl-{secrets.token_hex(12)}", int(time.time()))

    def reason(self, answer: Answer) -> Literal["stop", "length"]:
        """Why the answer ends where it does."""
        full = answer.prompt_tokens + answer.tokens >= self.context
        return "length" if full or answer.tokens >= self.max_tokens else "stop"

    async def whole(self, said: AsyncIterator[str | Answer]) -> ChatCompletion:
        """The answer at once."""
        [answer] = [part async for part in said if isinstance(part, Answer)]
        choice = Choice(message=Said(content=answer.text), finish_reason=self.reason(answer))
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[choice],
            usage=usage(answer),
        )

    async def streamed(
        self, said: AsyncIterator[str | Answer], *, with_usage: bool
    ) -> AsyncIterator[str]:
        """The answer as server-sent events; an error on the way is the last of them."""
        empty: dict[str, Any] = {"usage": None} if with_usage else {}
        try:
            yield self.chunk({"role": "assistant", "content": ""}, **empty)
            async for part in said:
                if isinstance(part, str):
                    yield self.chunk({"content": part}, **empty)
                    continue
                yield self.chunk({}, self.reason(part), **empty)
                if with_usage:
                    yield self.event(choices=[], usage=usage(part).model_dump())
            yield DONE
        except Exception as error:
            yield f"data: {explained(error).body().decode()}\n\n"

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None, **more: Any) -> str:
        """An event with the next piece of the answer, or with its end."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self.event(choices=[choice], **more)

    def event(self, **content: Any) -> str:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created}
        return f"data: {json.dumps(head | {'model': self.model} | content)}\n\n"


async def parts(events: AsyncIterator[Event]) -> AsyncIterator[str | Answer]:
    """The pieces of the answer, which make up its text, and then the answer.

    Raises:
        ApiError: a picture cannot be read.
    """
    text = shown = ""
    async for event in events:
        if isinstance(event, Failure):
            raise _unreadable(event.error)
        if isinstance(event, Piece):
            text += event.text
            piece = text[len(shown) :].rstrip()  # what ends the answer is no part of it
            shown += piece
            if piece:
                yield piece
        elif isinstance(event, Answer):
            if event.text.startswith(shown) and event.text != shown:
                yield event.text[len(shown) :]
            yield event


async def beginning(parts: AsyncIterator[str | Answer]) -> AsyncIterator[str | Answer]:
    """The same parts, when the first of them is there: until then an error is a plain one."""
    first = await anext(parts)

    async def all_of_them() -> AsyncIterator[str | Answer]:
        yield first
        async for part in parts:
            yield part

    return all_of_them()


def usage(answer: Answer) -> ChatUsage:
    """What an answer has taken, in tokens."""
    total = answer.prompt_tokens + answer.tokens
    return ChatUsage(
        prompt_tokens=answer.prompt_tokens, completion_tokens=answer.tokens, total_tokens=total
    )
