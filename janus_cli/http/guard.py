"""Who may ask over HTTP, how much and how many at once. It knows neither routes nor models."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, explained

OPEN = "/health"  # needs no key
JSON = re.compile(r"application/([\w.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)
HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")
CLOSING = {"Connection": "close"}
FAREWELL = 5.0  # seconds for an answer, or an error in its place, to reach its client


@dataclass(frozen=True)
class Limits:
    """How much is let in."""

    body: int = 2**25
    """Bytes."""
    upload: float = 60.0
    """Seconds until a body is complete."""
    requests: int = 64
    """At once, those that still come in and those that wait included."""
    answer: float = 600.0
    """Seconds that a request may take."""


class Gone(Exception):
    """The client went away."""


class Guard:
    """An application behind a door.

    Requests with a body are read first, whole; one whose client goes away is cancelled. Everything
    that goes wrong leaves as JSON.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, limits: Limits) -> None:
        """Without a key only this machine, under its own names, is let in."""
        self.app = app
        self.key = None if key is None else os.fsencode(key)
        self.limits = limits
        self.inside = 0
        """Requests that hold a place."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = Answer(send)
        try:
            self.check(scope["path"], Headers(scope=scope))
            if scope["method"] == "POST":
                with self.place():
                    await self.take_in(scope, receive, answer)
            else:
                await self.app(scope, receive, answer)
        except Gone:
            return
        except Exception as error:
            if not answer.begun:  # else the client sees that it is broken off
                await explained(error).response()(scope, receive, send)

    def check(self, path: str, headers: Headers) -> None:
        """Refuse whoever may not ask."""
        if self.key is None:
            host = headers.get("host", "")
            if not is_loopback(host_of(host)):
                advice = "ask for localhost, or start the server with JANUS_API_KEY set"
                raise ApiError(403, f"Host: {host!r} is no name of this machine alone; {advice}")
        elif path != OPEN:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            shown = key.strip(" \t").encode("latin-1")
            if scheme.lower() != "bearer" or not hmac.compare_digest(shown, self.key):
                message = "the key is missing or wrong; send it as Authorization: Bearer KEY"
                headers_back = {"WWW-Authenticate": "Bearer"}
                raise ApiError(401, message, code="invalid_api_key", headers=headers_back)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places."""
        if self.inside >= self.limits.requests:
            message = f"{self.inside} requests are under way; try again later"
            again = {"Retry-After": "5"}
            raise ApiError(429, message, code="rate_limit_exceeded", headers=again)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def take_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request with its whole body, and cancel it if its client goes away."""
        headers = Headers(scope=scope)
        if not JSON.fullmatch(headers.get("content-type", "")):
            # A browser lets any page post anything else to this machine.
            raise ApiError(415, "Content-Type: has to be application/json", headers=CLOSING)
        announced = headers.get("content-length", "")
        if announced.isdecimal() and len(announced) < 20 and int(announced) > self.limits.body:
            raise self.too_large()
        body: Message | None = await self.body(receive)

        async def again() -> Message:
            nonlocal body
            message, body = body, None
            return await receive() if message is None else message

        deadline = anyio.current_time() + self.limits.answer + FAREWELL
        with anyio.CancelScope(deadline=deadline) as attended:
            watcher = asyncio.ensure_future(until_gone(receive, attended))
            try:
                await self.app(scope, again, send)
            finally:
                watcher.cancel()

    async def body(self, receive: Receive) -> Message:
        """The body of a request as one message."""
        data = bytearray()
        try:
            with anyio.fail_after(self.limits.upload):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    data += message.get("body", b"")
                    if len(data) > self.limits.body:
                        raise self.too_large(CLOSING)
                    if not message.get("more_body", False):
                        return {"type": "http.request", "body": bytes(data), "more_body": False}
        except TimeoutError:
            late = f"the body is not complete after {self.limits.upload:g} seconds"
            raise ApiError(408, late, headers=CLOSING) from None

    def too_large(self, headers: dict[str, str] | None = None) -> ApiError:
        message = f"the body is larger than {self.limits.body >> 20} MiB; send smaller pictures"
        return ApiError(413, message, headers=headers)


class Answer:
    """What is sent, and whether it has begun."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self.send(message)


async def until_gone(receive: Receive, attended: anyio.CancelScope) -> None:
    """Cancel what nobody waits for any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
    attended.cancel()


def host_of(header: str) -> str:
    """The name or the address in a Host header, without the port; empty where there is none."""
    match = HOST.fullmatch(header.strip())
    return match[1].strip("[]").lower() if match else ""


def is_loopback(host: str) -> bool:
    """Whether a name or an address can only mean the machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
