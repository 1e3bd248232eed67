"""What lies at an http(s) address → bytes in memory, within limits. It looks into no picture."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO

from . import __version__
from .errors import InputError

if TYPE_CHECKING:
    import httpx2

PAUSES = (0.5, 2.0)  # seconds before the second and the third try
PASSWORD = re.compile(r"(?i)^(https?://[^/?#:@]*):[^/?#]*@")
NO_PICTURE = re.compile(
    r"(text|audio|video|font|model|multipart|message)/[\w.+-]{1,60}"
    r"|application/([\w.-]{1,60}\+)?(json|xml|javascript|zip|gzip)"
)


@dataclass(frozen=True)
class Limits:
    """How long and how much to read."""

    size: int = 2**26
    """Bytes."""
    connect: float = 10.0
    """Seconds until a server must have answered the call."""
    between: float = 30.0
    """Seconds from one byte to the next."""
    in_all: float = 60.0
    """Seconds, every further try included."""
    redirects: int = 5


LIMITS = Limits()


def masked(url: str) -> str:
    """The address as it may be shown: without the password that it may hold."""
    return PASSWORD.sub(r"\1:***@", url)


def download(url: str, limits: Limits = LIMITS) -> BinaryIO:
    """Whatever an address gives out that may be a picture.

    Raises:
        InputError: it gives nothing out, no picture, or more than the limits allow.
    """
    import asyncio

    with _explained(masked(url), limits):
        return asyncio.run(asyncio.wait_for(_download(url, limits), limits.in_all))


async def _download(url: str, limits: Limits) -> BinaryIO:
    import asyncio

    async with _client(url, limits) as client:
        for pause in PAUSES:
            try:
                return await _ask(client, url, limits)
            except Exception as error:
                if not _may_pass(error):
                    raise
            await asyncio.sleep(pause)
        return await _ask(client, url, limits)


def _client(url: str, limits: Limits) -> httpx2.AsyncClient:
    import httpx2

    # Compressed pictures gain nothing by a second compression, but may burst.
    headers = {"User-Agent": f"janus/{__version__}", "Accept-Encoding": "identity"}
    timeout = httpx2.Timeout(limits.between, connect=limits.connect)
    try:
        return httpx2.AsyncClient(headers=headers, timeout=timeout)
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:  # by the environment
        raise InputError(
            f"{masked(url)}: cannot be fetched ({error}); check HTTPS_PROXY, ALL_PROXY and "
            "SSL_CERT_FILE"
        ) from error


async def _ask(client: httpx2.AsyncClient, url: str, limits: Limits) -> BinaryIO:
    """The content at the address, or at the one to which it is redirected."""
    request = client.build_request("GET", url)
    for _ in range(limits.redirects + 1):
        response = await client.send(request, stream=True)
        async with contextlib.aclosing(response):
            if response.next_request is None:
                return await _content(response, masked(url), limits)
            request = response.next_request
        if request.url.scheme not in ("http", "https"):
            raise InputError(
                f"{masked(url)}: is redirected to {request.url.scheme}:, which is not read; "
                "check the address"
            )
    raise InputError(
        f"{masked(url)}: is redirected more than {limits.redirects} times; check the address"
    )


async def _content(response: httpx2.Response, name: str, limits: Limits) -> BinaryIO:
    if response.status_code != HTTPStatus.OK:
        raise _refusal(response)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if NO_PICTURE.fullmatch(kind):
        raise InputError(
            f"{name}: is {kind}, not a picture; name the address of the picture itself"
        )
    too_large = InputError(
        f"{name}: is larger than {limits.size >> 20} MiB; download it and name the file"
    )
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > limits.size:
        raise too_large
    data = io.BytesIO()
    async for piece in response.aiter_bytes():
        data.write(piece)
        if data.tell() > limits.size:
            raise too_large
    data.seek(0)
    return data


# What can go wrong


def _refusal(response: httpx2.Response) -> httpx2.HTTPStatusError:
    import httpx2

    code = response.status_code
    return httpx2.HTTPStatusError(
        f"{code} {httpx2.codes.get_reason_phrase(code)}".strip(),
        request=response.request,
        response=response,
    )


def _may_pass(error: Exception) -> bool:
    """Whether asking once more may help."""
    import httpx2

    if isinstance(error, httpx2.HTTPStatusError):
        code = error.response.status_code
        return code == HTTPStatus.TOO_MANY_REQUESTS or code >= 500
    passing = (httpx2.NetworkError, httpx2.ConnectTimeout, httpx2.RemoteProtocolError)
    return isinstance(error, passing)


@contextlib.contextmanager
def _explained(name: str, limits: Limits) -> Iterator[None]:
    """Every error of the library as an InputError."""
    import asyncio

    import httpx2

    try:
        yield
    except httpx2.HTTPStatusError as error:
        advice = "try again later" if _may_pass(error) else "check the address"
        raise InputError(f"{name}: the server answers {error}; {advice}") from error
    except httpx2.ReadTimeout as error:
        raise InputError(
            f"{name}: the server sends nothing for {limits.between:g} seconds; try again later"
        ) from error
    except asyncio.TimeoutError as error:
        raise InputError(
            f"{name}: takes longer than {limits.in_all:g} seconds; download it and name the file"
        ) from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:
        raise InputError(f"{name}: is no valid address; check how it is written") from error
    except (httpx2.HTTPError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{name}: cannot be fetched ({reason}); check the address and the network"
        ) from error
