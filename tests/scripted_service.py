"""The HTTP interface around a scripted engine, and a client that calls it without a connection."""

import asyncio
import json
import threading
from dataclasses import dataclass
from types import SimpleNamespace

from janus_cli.errors import InputError, UsageError
from janus_cli.http.api import Service, application
from janus_cli.http.guard import Limits
from janus_cli.images import read_pages
from janus_cli.schema import Answer, Failure, Picture, Piece, Progress, UnderstandRequest

SIDE, CONTEXT = 4, 100_000
LOCAL = ((b"host", b"localhost"),)
AS_JSON = (*LOCAL, (b"content-type", b"application/json"))


class Session:
    """The scripted engine as one caller sees it."""

    def __init__(self, engine):
        self.name = engine.name
        self.image_tokens = engine.image_tokens
        self.preprocessing = engine.preprocessing
        self.writer = engine.writer
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


class Scripted:
    """An engine that draws in one color, and does what its prompts say.

    `wait` waits until the request is cancelled; `fail` fails with an error that nobody expects.
    """

    name = "scripted"
    image_tokens = 16
    preprocessing = SimpleNamespace(size=SIDE)
    writer = SimpleNamespace(context=CONTEXT, drawing=lambda prompt: prompt.split())

    def __init__(self):
        self.sessions = []
        self.begun = threading.Semaphore(0)
        """Released at the beginning of every task."""

    def session(self):
        self.sessions.append(Session(self))
        return self.sessions[-1]

    def run(self, request, session):
        """Events as those of the tasks."""
        yield Progress("scripted", 0, 0)
        if isinstance(request, UnderstandRequest):
            yield from self.answered(request, session)
        else:
            for wish in request.wishes:
                self.obey(wish.prompt, session)
                yield from self.drawn(wish)

    def answered(self, request, session):
        """The question, word by word, with a space too many."""
        question = request.questions[0]
        try:
            for name in request.images:
                list(read_pages(name, origin=request.origin))
        except InputError as error:
            yield Failure(0, name, str(error), "InputError")
            return
        pieces = [f"{word} " for word in question.split()]
        for number, piece in enumerate(pieces):
            yield Piece(0, None, question, piece)
            if number == 0:
                self.obey(question, session)
        text = "".join(pieces).strip()
        counts = (min(len(pieces), request.max_tokens), 7)
        yield Answer(0, "", None, question, text, self.name, "fp32", *counts, 0.5)

    def drawn(self, wish):
        for seed in range(wish.seed, wish.seed + wish.count):
            pixels = bytes([seed % 256] * SIDE * SIDE * 3)
            settings = (wish.guidance, wish.temperature, wish.top_k, wish.top_p, wish.negative)
            names = (self.name, "fp32")
            yield Picture(0, wish.prompt, seed, SIDE, SIDE, pixels, *names, *settings, 0.5)

    def obey(self, prompt, session):
        self.begun.release()
        if prompt.startswith("wait"):
            session.cancelled.wait()
        if prompt.startswith("fail"):
            raise RuntimeError("nobody expects this")
        if prompt.startswith("long"):
            raise UsageError("QUESTION: takes more than fits into the model's context; shorten it")


def scripted(engine=None, *, limits=None, **options):
    """The application around a scripted engine."""
    engine = engine or Scripted()
    limits = limits or Limits()
    return application(Service(engine, engine.run, 7, limits=limits, **options))


@dataclass
class Told:
    """A response."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def events(self):
        """The data of server-sent events."""
        assert self.headers["content-type"].startswith("text/event-stream")
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        return [line.removeprefix("data: ") for line in lines]


async def call(app, method, path, headers=LOCAL, chunks=(), *, whole=True, then=None):
    """Ask an application; None where it answers nothing.

    The last chunk ends the body, if it is to be `whole`. Then the client waits for the response;
    with `then` for that, and goes away.
    """
    scope = {
        **{"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "root_path": ""},
        **{"http_version": "1.1", "scheme": "http", "method": method, "path": path},
        **{"raw_path": path.encode(), "query_string": b"", "headers": list(headers)},
        **{"server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "state": {}},
    }
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) + (not whole)}
        for number, chunk in enumerate(chunks, start=1)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]
    told, complete = [], asyncio.Event()
    gone = None if then is None else asyncio.ensure_future(then())

    async def receive():
        if messages:
            return messages.pop(0)
        await (complete.wait() if gone is None else asyncio.shield(gone))
        return {"type": "http.disconnect"}

    async def send(message):
        told.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            complete.set()

    await app(scope, receive, send)
    if not told:
        return None
    start, *bodies = told
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Told(start["status"], headers, b"".join(body.get("body", b"") for body in bodies))


async def post(app, path, body, headers=AS_JSON, **options):
    """Ask with a body."""
    return await call(app, "POST", path, headers, [json.dumps(body).encode()], **options)
