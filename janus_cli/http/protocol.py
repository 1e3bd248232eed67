"""HTTP on one connection: what is no HTTP gets JSON, and who says nothing is not waited for."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import ApiError

PATIENCE = 60.0  # seconds until a request has begun


class Connection(H11Protocol):
    """A connection as uvicorn makes it, but for these two."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()

    def _wait_for_request(self) -> None:
        self.loop.call_later(PATIENCE, self._look, self.cycle)

    def _look(self, before: object) -> None:
        """Close the connection if no request has come since, and none is being answered."""
        if self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self.cycle is before:
            self.transport.close()
        else:
            self._wait_for_request()

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong, where an answer has not begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = ApiError(400, "this is no HTTP").body()
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
            start = h11.Response(status_code=400, headers=headers, reason="Bad Request")
            for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()
