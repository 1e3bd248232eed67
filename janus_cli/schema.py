"""Requests in, events out: what every part of janus says to every other, in plain data.

Standard library only, so that a process that merely passes requests on stays small. Requests are
checked when they are made; a task turns one into an iterator of events.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from .errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8", "int4", "nf4")
WRITTEN = ("bf16", "fp16", "int8", "int4", "nf4")  # what `janus quantize` writes
FAMILIES = ("auto", "janus", "janus-pro")
BACKENDS = ("janus", "transformers")
DETAILS = ("short", "normal", "long")
MAX_SEED = 2**63 - 1  # what a torch.Generator takes
MAX_STEPS = 1000  # the networks of a flow know no finer time
CODE_GUIDANCE, FLOW_GUIDANCE, FLOW_STEPS = 5.0, 2.0, 30  # what the authors draw with


@dataclass(frozen=True)
class ModelChoice:
    """Which model answers and how it is run."""

    model: str | None = None
    """A checkpoint folder or a name; None follows the lookup order."""
    device: str = "auto"
    precision: str = "auto"
    backend: str = "janus"
    family: str = "auto"
    """Whose names for the two speakers a prompt uses."""
    adapter: str | None = None
    """The folder of an adapter that is merged into the model."""

    def __post_init__(self) -> None:
        device_kind = self.device.split(":")[0]
        require_one_of("--device", device_kind, DEVICES)
        require_one_of("--precision", self.precision, PRECISIONS)
        require_one_of("--backend", self.backend, BACKENDS)
        require_one_of("--family", self.family, FAMILIES)
        own = self.adapter is None or self.backend == "janus"
        require("--adapter", own, "is merged into janus' own networks; leave --backend")


@dataclass(frozen=True)
class Turn:
    """One question of a conversation and the answer that it got."""

    question: str
    answer: str


@dataclass(frozen=True)
class Origin:
    """Where names of pictures lead in another process than the one where they were written."""

    folder: str = ""
    """Where relative names begin; empty is the folder of this process."""
    given: tuple[tuple[str, bytes], ...] = ()
    """Pictures that come along, by their names: what was on standard input as `-`."""


@dataclass(frozen=True)
class UnderstandRequest:
    """Pictures to text: describe, ask and ocr are this request with different questions."""

    images: tuple[str, ...]
    """Files, addresses or `-`; a document or a file of several frames is answered page by page."""
    questions: tuple[str, ...]
    """Each is asked about every page of every picture, on its own."""
    together: bool = False
    """All images in one conversation, instead of one conversation for each."""
    history: tuple[Turn, ...] = ()
    """Earlier turns of the conversation, oldest first."""
    max_tokens: int = 512
    temperature: float = 0.0
    """0 is greedy."""
    seed: int = 0
    origin: Origin = Origin()
    answered: tuple[tuple[int, int], ...] = ()
    """Pages to leave out, since a former run has answered them: (number in images, page)."""

    def __post_init__(self) -> None:
        pictures = bool(self.images) or self.together  # a conversation may do without
        require("IMAGE", pictures, "name at least one picture, or - for standard input")
        require("QUESTION", bool(self.questions), "write a question after the pictures")
        for question in self.questions:
            require("QUESTION", bool(question.strip()), "is empty: write what you want to know")
            require_unicode("QUESTION", question)
        require("--max-tokens", self.max_tokens >= 1, "must be at least 1")
        require("--temperature", 0 <= self.temperature < inf, "must be 0 (greedy) or more")
        require("--seed", 0 <= self.seed <= MAX_SEED, f"must lie in 0..{MAX_SEED}")


@dataclass(frozen=True)
class Wish:
    """A prompt, and how it is to be drawn: picture i with `seed + i`."""

    prompt: str
    count: int = 1
    seed: int = 0
    guidance: float | None = None
    """None is the model's own: FLOW_GUIDANCE, or what its checkpoint says, mostly CODE_GUIDANCE."""
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """0 keeps every code."""
    top_p: float = 1.0
    negative: str | None = None
    """Takes the place of the unconditional row."""
    drawn: tuple[int, ...] = ()
    """The pictures i to leave out, since a former run has drawn them."""
    steps: int | None = None
    """Of a model that draws by a flow; None is its own, FLOW_STEPS."""

    def __post_init__(self) -> None:
        require("PROMPT", bool(self.prompt.strip()), "is empty: say what to draw")
        require_unicode("PROMPT", self.prompt)
        require_unicode("--negative", self.negative or "")
        require("-n", self.count >= 1, "must be at least 1")
        seeds_fit = 0 <= self.seed <= MAX_SEED - self.count
        require("--seed", seeds_fit, f"must lie in 0..{MAX_SEED}, the last picture's seed included")
        guidance = self.guidance or 0
        require("--guidance", 0 <= guidance < inf, "must be 0 or more, and finite")
        require("--temperature", 0 <= self.temperature < inf, "must be 0 (greedy) or more")
        require("--top-k", self.top_k >= 0, "must be 0 (off) or more")
        require("--top-p", 0 < self.top_p <= 1, "must lie above 0 and up to 1")
        steps = FLOW_STEPS if self.steps is None else self.steps
        require("--steps", 1 <= steps <= MAX_STEPS, f"must lie in 1..{MAX_STEPS}")


@dataclass(frozen=True)
class ImagineRequest:
    """Prompts to pictures, in the order of the wishes and of the seeds of each."""

    wishes: tuple[Wish, ...]

    def __post_init__(self) -> None:
        require("PROMPT", bool(self.wishes), "say what to draw")


@dataclass(frozen=True)
class Piece:
    """A piece of the next answer, as soon as it is known."""

    index: int
    page: int | None
    question: str
    text: str


@dataclass(frozen=True)
class Answer:
    """An answer: of the first picture to all questions, page by page, then of the second."""

    index: int
    """The picture's number among those of the request; 0 of a `together` request."""
    input: str
    """The path as the user wrote it; paths of a `together` request are joined by a newline."""
    page: int | None
    """From 1; None of a picture that has no pages."""
    question: str
    text: str
    model: str
    precision: str
    tokens: int
    """New tokens, the end-of-sentence token not counted."""
    prompt_tokens: int
    seconds: float


@dataclass(frozen=True)
class Picture:
    """A finished picture: `pixels` are height * width * 3 bytes of RGB, row by row."""

    index: int
    """The number of its wish."""
    prompt: str
    seed: int
    width: int
    height: int
    pixels: bytes
    model: str
    precision: str
    guidance: float
    temperature: float
    top_k: int
    top_p: float
    negative: str | None
    seconds: float
    steps: int | None = None
    """Of a flow, which has no temperature, top_k and top_p; a picture of codes has none."""


@dataclass(frozen=True)
class Failure:
    """An input could not be done; the others go on."""

    index: int
    """The number of the picture or of the wish."""
    input: str
    error: str
    error_type: str
    page: int | None = None
    """Of a document whose other pages may be done."""


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of work; `label` says what they are."""

    label: str
    done: int
    total: int
    counted: bool = False
    """Whether the label names what is counted."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found out about this machine or a model, for a bug report."""

    part: str
    name: str
    value: str
    wrong: bool = False


Event = Piece | Answer | Picture | Failure | Progress


def require(flag: str, condition: bool, advice: str) -> None:
    """Raise a UsageError that names the flag unless the condition holds."""
    if not condition:
        raise UsageError(f"{flag}: {advice}")


def require_unicode(flag: str, text: str) -> None:
    """Raise a UsageError for bytes that are no text, which Python carries as lone surrogates."""
    lone = any("\ud800" <= character <= "\udfff" for character in text)
    require(flag, not lone, "is not valid UTF-8; check the encoding of your terminal or file")


def require_one_of(flag: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a UsageError that lists the choices unless the value is one of them."""
    require(flag, value in choices, f"{value!r} is unknown; choose from {', '.join(choices)}")
