"""The routes of the HTTP interface, which is OpenAI's. What they lead to, other modules know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from .. import __version__
from ..schema import Event, ImagineRequest, UnderstandRequest
from .chat import Reply, beginning, parts, understanding
from .errors import ApiError, explained, invalid
from .guard import Guard, Limits
from .images import drawn
from .schema import (
    ChatCompletion,
    ChatRequest,
    ErrorBody,
    Health,
    ImageRequest,
    ImagesResponse,
    ModelCard,
    ModelList,
)
from .work import Work

if TYPE_CHECKING:
    from ..engine.shared import Session, Shared

EVERY_MODEL = "janus"  # what a client may call any model
UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Service:
    """What is served, and how."""

    engine: Shared
    run: Callable[[UnderstandRequest | ImagineRequest, Any], Iterator[Event]]
    """Makes events of a request."""
    since: int
    """Seconds of the epoch."""
    key: str | None = None
    """What every client has to show; None lets in this machine alone."""
    remote: bool = False
    """Whether pictures at http(s) addresses are fetched."""
    limits: Limits = field(default_factory=Limits)

    def check(self, model: str | None) -> None:
        """Refuse a request for another model."""
        if model not in (None, EVERY_MODEL, self.engine.name):
            message = f"model: {model!r} is not served here; ask for {self.engine.name}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def card(self) -> ModelCard:
        return ModelCard(id=self.engine.name, created=self.since)


def application(service: Service) -> Guard:
    """The whole interface, behind its door."""
    api = FastAPI(
        title="janus",
        version=__version__,
        docs_url=None,  # it would come from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.service = service
    api.include_router(router)
    api.add_exception_handler(RequestValidationError, _tell_invalid)
    api.add_exception_handler(HTTPException, _tell_http)
    api.add_exception_handler(ApiError, _tell)
    api.add_exception_handler(Exception, _tell)
    return Guard(api, key=service.key, limits=service.limits)


def served(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def beginning_work(request: Request) -> AsyncIterator[Work]:
    """The work of a request; it ends when the response has been sent, or nobody waits for it."""
    service = served(request)
    async with Work(service.engine, service.limits.answer) as work:
        yield work


Serving = Annotated[Service, Depends(served)]
Working = Annotated[Work, Depends(beginning_work)]
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What is wrong with the request"},
    "5XX": {"model": ErrorBody, "description": "Why the server cannot answer"},
}
router = APIRouter(responses=ERRORS)


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def complete_chat(body: ChatRequest, service: Serving, work: Working) -> Any:
    """Answer the last question of a conversation, which may be about pictures."""
    service.check(body.model)

    def task(session: Session) -> Generator[Event]:
        yield from service.run(understanding(body, remote=service.remote), session)

    engine = service.engine
    reply = Reply.to(body, model=engine.name, context=engine.writer.context)
    said = parts(work.events(task))
    if not body.stream:
        return await reply.whole(said)
    options = body.stream_options
    events = reply.streamed(
        await beginning(said), with_usage=bool(options and options.include_usage)
    )
    return StreamingResponse(events, media_type="text/event-stream", headers=UNBUFFERED)


@router.post("/v1/images/generations")
async def generate_images(body: ImageRequest, service: Serving, work: Working) -> ImagesResponse:
    """Draw pictures of a prompt."""
    service.check(body.model)

    def task(session: Session) -> Generator[ImagesResponse]:
        yield from drawn(body, lambda request: service.run(request, session), session)

    [response] = [response async for response in work.events(task)]
    return response


@router.get("/v1/models")
async def list_models(service: Serving) -> ModelList:
    """The model that is served."""
    return ModelList(data=[service.card()])


@router.get("/v1/models/{model}")
async def show_model(model: str, service: Serving) -> ModelCard:
    """The model that is served, if it is the one."""
    service.check(model)
    return service.card()


@router.get("/health")
async def show_health() -> Health:
    """Whether the server answers."""
    return Health()


# What has gone wrong


async def _tell(request: Request, error: Exception) -> Response:
    return explained(error).response()


async def _tell_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors()).response()


async def _tell_http(request: Request, error: Exception) -> Response:
    """What has no route, or not with this method, or no body that can be read."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.scope['path']}"
    return ApiError(error.status_code, f"{where}: {error.detail}", headers=error.headers).response()
