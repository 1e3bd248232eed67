"""The two loops: text until the end of the sentence, image codes until the grid is full.

`Native` is the engine on our own networks, `NativeCodes` the one that draws by codes; JanusFlow's
loop is in euler.py, and reference.Reference is the twin on transformers' networks. All speak token
ids and codes, never words or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..errors import UsageError
from ..schema import CODE_GUIDANCE, Wish
from .batch import Past, Prompt, Said, sharing
from .graph import Repeated
from .kv_cache import Cache, StaticCache, cache_bytes
from .machine import free_memory
from .model import Janus, Reader
from .pixels import Preprocessing
from .prompt import PromptWriter
from .sample import guide, pick, uniform_numbers
from .vq import to_bytes
from .writing import Outcome, Writing

PROMPT = 64  # words of a prompt, when memory is planned
ANSWERS = 8  # under way at once; more gain little on a CPU, and the first comes later
PICTURES, PICTURES_ON_CUDA = 8, 16  # drawn at once


@dataclass(frozen=True)
class Drawing:
    """A picture to be drawn."""

    ids: Sequence[int]
    unconditional: Sequence[int]
    """What guidance moves away from."""
    seed: int


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn; the defaults are those of the authors' generation_inference.py."""

    guidance: float = CODE_GUIDANCE
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    steps: int | None = None
    """From noise to a picture, of a flow; codes have none, and a flow has nothing of the above but
    guidance."""

    @classmethod
    def of_codes(cls, wish: Wish, model: str, guidance: float) -> Sampling:
        """How a model that draws by codes draws a wish, with its own guidance where none is asked.

        Raises:
            UsageError: the wish names steps.
        """
        if wish.steps is not None:
            raise UsageError(f"--steps: {model} draws code by code and has none; leave it out")
        guidance = guidance if wish.guidance is None else wish.guidance
        return cls(guidance, wish.temperature, wish.top_k, wish.top_p)

    @property
    def guided(self) -> bool:
        """Whether there are rows to move away from: at 1 they count for nothing."""
        return self.guidance != 1

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """A code for each of `uniforms` (n,): the first n rows of logits, guided by the next n."""
        count = len(uniforms)
        conditional = logits[:count]
        if self.guided:
            conditional = guide(conditional, logits[count : 2 * count], self.guidance)
        return pick(
            conditional,
            uniforms,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
        )


class Native:
    """The engine on our own networks. A kind of it says how pictures are drawn."""

    def __init__(
        self,
        model: Reader,
        writer: PromptWriter,
        preprocessing: Preprocessing,
        *,
        name: str,
        precision: str,
    ) -> None:
        self.model = model
        self.writer = writer
        self.preprocessing = preprocessing
        self.name = name
        self.precision = precision
        self.notes: tuple[str, ...] = ()
        """What whoever asked should know of how the model is run, a line each."""
        self.image_tokens = model.config.image_tokens
        self.past: Past | None = None
        """Of the last answer that was given alone."""

    @torch.inference_mode()
    def write(self, prompts: Iterable[Prompt]) -> Iterator[Said]:
        """Answer prompts token by token, each until the end of the sentence or its `max_tokens`.

        Several are under way at once, and a prompt is asked for when there is room for it. Where
        memory runs out, fewer are; only what has no room even alone raises the error.

        Yields the number of a prompt and a token of its answer, or None when that is complete.
        """
        writing = self.begin_writing()
        groups = sharing(prompts, ANSWERS)
        group = next(groups, None)
        while group or writing.busy():
            if group and writing.has_room(group):
                yield from checked(writing.admit(group))
                group = next(groups, None)
            else:
                yield from checked(writing.step())
        self.past = writing.past

    def begin_writing(self) -> Writing:
        """Answers to be given together, the first from where the last lone one ended."""
        past, self.past = self.past, None
        most = partial(self.most_answers, free=free_memory(self.model.device))
        return Writing(self.model, self.writer, most, past)

    def sampling(self, wish: Wish) -> Sampling:
        """How this model draws a wish; UsageError names what it cannot heed."""
        raise NotImplementedError

    def steps(self, sampling: Sampling) -> int:
        """In how many steps a picture is drawn."""
        raise NotImplementedError

    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """Draw pictures, all at once: what each is after each step, (pictures, ...)."""
        raise NotImplementedError

    def paint(self, drawn: Tensor) -> Tensor:
        """All steps (pictures, steps, ...) to uint8 pictures (pictures, size, size, 3)."""
        raise NotImplementedError

    def most_pictures(self) -> int:
        """How many pictures are drawn at once."""
        raise NotImplementedError

    def most_answers(self, max_tokens: int, free: int) -> int:
        """How many answers about a picture each are under way at once, as free bytes allow."""
        capacity = min(self.writer.image_tokens + PROMPT + max_tokens, self.writer.context)
        return min(ANSWERS, max(1, free // self.row_bytes(capacity)))

    def row_bytes(self, capacity: int) -> int:
        """What a row of a cache of this capacity takes in memory."""
        config, dtype = self.model.config.language, self.model.cache_dtype
        return cache_bytes(config, rows=1, capacity=capacity, dtype=dtype)

    def prefill(self, prompts: Sequence[Sequence[int]], cache: Cache) -> Tensor:
        """Fill the rows of the cache with prompts of words; their last states (B, D).

        Prompts that are equal are run once.
        """
        model = self.model
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, ids in enumerate(prompts):
            rows.setdefault(tuple(ids), []).append(row)
        states = torch.empty(
            len(prompts), model.config.language.hidden_size, dtype=model.dtype, device=model.device
        )
        for ids, alike in rows.items():
            x = model.embed_prompt(ids, None, self.writer.placeholder)
            states[alike] = model.language.prefill(x, cache, alike)
        return states

    def new_cache(self, *, rows: int, capacity: int, static: bool = False) -> Cache:
        model = self.model
        kind = StaticCache if static else Cache
        sizes, dtype = model.config.language, model.cache_dtype
        return kind(sizes, rows, capacity, dtype=dtype, device=model.device)


class NativeCodes(Native):
    """The engine of Janus and Janus-Pro, which draw by codes."""

    model: Janus
    guidance = CODE_GUIDANCE
    """Where none is asked for; what the checkpoint says, if it says so."""

    def sampling(self, wish: Wish) -> Sampling:
        return Sampling.of_codes(wish, self.name, self.guidance)

    def steps(self, sampling: Sampling) -> int:
        return self.image_tokens

    @torch.inference_mode()
    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """Draw pictures, all at once: codes (pictures,) of one grid cell a step.

        Rows 0..n-1 of the batch see the prompts, rows n..2n-1 what guidance moves away from. The
        batch is padded to rows that every product treats alike, so that a picture does not depend
        on those beside it.
        """
        model, count = self.model, len(drawings)
        prompts = [drawing.ids for drawing in drawings]
        if sampling.guided:
            prompts += [drawing.unconditional for drawing in drawings]
        prompts += [prompts[-1]] * (-len(prompts) % model.drawing_rows)
        uniforms = uniform_numbers([drawing.seed for drawing in drawings], self.image_tokens)
        uniforms = uniforms.to(model.device)

        def advance(codes: Tensor, numbers: Tensor) -> Tensor:
            spread = codes.repeat(-(-len(prompts) // count))[: len(prompts)]
            states = model.language.step(model.embed_codes(spread), cache)
            return sampling.choose(model.image_logits(states), numbers)

        capacity = max(len(ids) for ids in prompts) + self.image_tokens
        captured = model.device.type == "cuda"
        cache = self.new_cache(rows=len(prompts), capacity=capacity, static=captured)
        logits = model.image_logits(self.prefill(prompts, cache))
        codes = sampling.choose(logits, uniforms[:, 0])
        yield codes
        repeated = Repeated(advance, model.device, self.image_tokens - 1)
        for index in range(1, self.image_tokens):
            codes = repeated(codes, uniforms[:, index])
            yield codes

    def most_pictures(self) -> int:
        """How many pictures are drawn at once, as memory allows: each has two rows of the cache."""
        most = PICTURES_ON_CUDA if self.model.device.type == "cuda" else PICTURES
        rows = free_memory(self.model.device) // self.row_bytes(self.image_tokens + PROMPT)
        return min(most, max(1, rows // 2))

    def paint(self, drawn: Tensor) -> Tensor:
        """Codes (pictures, image tokens) to uint8 pictures (pictures, size, size, 3).

        One at a time: a convolution over several pictures may round one of them differently.
        """
        with torch.inference_mode():
            pictures = [to_bytes(self.model.decode_pixels(row[None])) for row in drawn]
            return torch.cat(pictures).cpu()


def checked(outcomes: Iterable[Outcome]) -> Iterator[Said]:
    """The same outcomes, an error among them raised."""
    for number, token in outcomes:
        if isinstance(token, Exception):
            raise token
        yield number, token
