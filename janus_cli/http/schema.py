"""Bodies of requests and answers as OpenAI's interface has them. It knows no model and no task.

Fields that nothing here reads are passed over, but for those that ask for what janus cannot do.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MESSAGES = 1024  # of a conversation
PARTS = 256  # of a message
CHARACTERS = 2**18  # of a text, and of a conversation; no context holds so many
PICTURES = 16  # asked about, or drawn, in one request


def only(*harmless: Any) -> AfterValidator:
    """What a field must be that asks for something else than janus does."""

    def check(value: Any) -> Any:
        if value not in harmless:
            raise PydanticCustomError("unsupported", "is not supported; leave it out")
        return value

    return AfterValidator(check)


def as_parts(content: Any) -> Any:
    """A text as the list of parts that it stands for."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Asked(BaseModel):
    """Whatever comes in: nothing is taken for what it is not, as "1" for a number."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


Text = Annotated[str, Field(max_length=CHARACTERS)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(ge=0)]


class TextPart(Asked):
    type: Literal["text"]
    text: Text


class ImageUrl(Asked):
    url: str
    """data:image/...;base64,..."""


class ImagePart(Asked):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Parts = Annotated[
    list[Part],
    Field(max_length=PARTS),
    BeforeValidator(as_parts, json_schema_input_type=str | list[Part]),
]
Texts = Annotated[
    list[TextPart],
    Field(max_length=PARTS),
    BeforeValidator(as_parts, json_schema_input_type=str | list[TextPart]),
]


class SystemMessage(Asked):
    role: Literal["system", "developer"]
    content: Texts


class UserMessage(Asked):
    role: Literal["user"]
    content: Parts


class AssistantMessage(Asked):
    role: Literal["assistant"]
    content: Texts | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(Asked):
    include_usage: bool | None = None


class ChatRequest(Asked):
    """A conversation that the model is to go on with."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    temperature: Number | None = None
    """0, which is greedy, where it is left out."""
    seed: Whole | None = None
    n: Annotated[int | None, only(None, 1)] = None
    top_p: Annotated[float | None, only(None, 1)] = None
    frequency_penalty: Annotated[float | None, only(None, 0)] = None
    presence_penalty: Annotated[float | None, only(None, 0)] = None
    logit_bias: Annotated[dict[str, Any] | None, only(None, {})] = None
    logprobs: Annotated[bool | None, only(None, False)] = None
    stop: Annotated[Any, only(None, [])] = None
    modalities: Annotated[list[str] | None, only(None, ["text"])] = None
    response_format: Annotated[dict[str, Any] | None, only(None, {"type": "text"})] = None
    tools: Annotated[list[Any] | None, only(None, [])] = None
    functions: Annotated[list[Any] | None, only(None, [])] = None


class ImageRequest(Asked):
    """A prompt that is to be drawn; picture i with `seed + i`."""

    prompt: Text
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=PICTURES)] | None = None
    size: str | None = None
    """The model's own, or auto."""
    seed: Whole | None = None
    guidance: Number | None = None
    temperature: Number | None = None
    top_k: Whole | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    negative: Text | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    response_format: Annotated[str | None, only(None, "b64_json")] = None
    output_format: Annotated[str | None, only(None, "png")] = None
    background: Annotated[str | None, only(None, "auto", "opaque")] = None
    stream: Annotated[bool | None, only(None, False)] = None


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Said(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int = 0
    message: Said
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """An answer; with `stream`, events carry it piece by piece as chat.completion.chunk."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage


class DrawnPicture(BaseModel):
    b64_json: str
    """A PNG that carries its settings."""
    seed: int


class PromptTokens(BaseModel):
    text_tokens: int
    image_tokens: int = 0


class ImagesUsage(BaseModel):
    input_tokens: int
    input_tokens_details: PromptTokens
    output_tokens: int
    total_tokens: int


class ImagesResponse(BaseModel):
    created: int
    data: list[DrawnPicture]
    output_format: Literal["png"] = "png"
    size: str
    usage: ImagesUsage


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["janus"] = "janus"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    error: ErrorDetail
