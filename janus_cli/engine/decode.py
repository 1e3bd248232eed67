"""The two loops: text until the end of the sentence, image codes until the grid is full.

`Native` is the engine that runs them on our own networks; reference.Reference is its twin on those
of transformers. Both speak token ids and codes, never words or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .language import Cache, cache_bytes
from .machine import free_memory
from .model import Janus
from .pixels import Preprocessing
from .prompt import PromptWriter
from .sample import guide, pick, uniform_numbers
from .vq import to_bytes

PROMPT = 64  # words of a prompt, when memory is planned


@dataclass(frozen=True)
class Sampling:
    """How codes are picked; the defaults are those of the authors' generation_inference.py."""

    guidance: float = 5.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


class Native:
    """The engine on our own networks."""

    def __init__(
        self,
        model: Janus,
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

    def write(
        self,
        ids: Sequence[int],
        pixels: Tensor | None,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[int]:
        """Answer a prompt token by token, until the end of the sentence or `max_tokens`.

        Args:
            ids: the prompt, with a placeholder for every image token.
            pixels: (pictures, 3, size, size) for those placeholders, in order.
        """
        with torch.inference_mode():
            model = self.model
            max_tokens = min(max_tokens, self.writer.context - len(ids))
            cache = self.new_cache(rows=1, capacity=len(ids) + max_tokens)
            state = model.language.prefill(self.embed_prompt(ids, pixels), cache, [0])
            uniforms = uniform_numbers([seed], max_tokens).to(model.device)
            for index in range(max_tokens):
                logits = model.text_logits(state)
                token = pick(logits, uniforms[:, index], temperature=temperature)
                if token.item() == self.writer.end_of_sentence:
                    return
                yield int(token.item())
                if index + 1 < max_tokens:
                    state = model.language.step(model.embed_text(token), cache)

    def draw(
        self,
        ids: Sequence[int],
        unconditional: Sequence[int],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> Iterator[Tensor]:
        """Draw one picture for each seed, all at once: codes (pictures,) of one grid cell a step.

        Rows 0..n-1 of the batch see the prompt, rows n..2n-1 the unconditional prompt. The batch is
        padded to rows that every product treats alike, so that a picture does not depend on `n`.
        """
        with torch.inference_mode():
            model, count = self.model, len(seeds)
            guided = sampling.guidance != 1
            used = 2 * count if guided else count
            rows = -(-used // model.drawing_rows) * model.drawing_rows
            capacity = max(len(ids), len(unconditional)) + self.image_tokens
            cache = self.new_cache(rows=rows, capacity=capacity)
            states = self.prefill_rows(ids, list(range(count)), cache)
            if rows > count:
                other = self.prefill_rows(
                    unconditional if guided else ids, list(range(count, rows)), cache
                )
                states = torch.cat((states, other))
            uniforms = uniform_numbers(seeds, self.image_tokens).to(model.device)
            for index in range(self.image_tokens):
                logits = model.image_logits(states)
                if guided:
                    logits = guide(logits[:count], logits[count:used], sampling.guidance)
                codes = pick(
                    logits[:count],
                    uniforms[:, index],
                    temperature=sampling.temperature,
                    top_k=sampling.top_k,
                    top_p=sampling.top_p,
                )
                yield codes
                if index + 1 < self.image_tokens:
                    spread = codes.repeat(-(-rows // count))[:rows]
                    states = model.language.step(model.embed_codes(spread), cache)

    def most_pictures(self) -> int:
        """How many pictures can be drawn at once, at least one: each has two rows of the cache."""
        model = self.model
        config, capacity = model.config.language, self.image_tokens + PROMPT
        each = cache_bytes(config, rows=2, capacity=capacity, dtype=model.dtype)
        return max(1, free_memory(model.device) // each)

    def paint(self, codes: Tensor) -> Tensor:
        """Codes (pictures, image tokens) to uint8 pictures (pictures, size, size, 3).

        One at a time: a convolution over several pictures may round one of them differently.
        """
        with torch.inference_mode():
            pictures = [to_bytes(self.model.decode_pixels(row[None])) for row in codes]
            return torch.cat(pictures).cpu()

    def prefill_rows(self, ids: Sequence[int], rows: list[int], cache: Cache) -> Tensor:
        """Run a prompt of words once for all `rows`; its last state for each (rows, D)."""
        embeddings = self.embed_prompt(ids, None)
        return self.model.language.prefill(embeddings, cache, rows).expand(len(rows), -1)

    def embed_prompt(self, ids: Sequence[int], pixels: Tensor | None) -> Tensor:
        """Embeddings (1, T, D) of a prompt, with the pictures in place of their placeholders."""
        model = self.model
        tokens = torch.tensor([ids], device=model.device)
        embeddings = model.embed_text(tokens)
        if pixels is not None:
            features = model.embed_images(pixels.to(model.device))
            embeddings[tokens == self.writer.placeholder] = features.flatten(0, 1)
        return embeddings

    def new_cache(self, *, rows: int, capacity: int) -> Cache:
        model = self.model
        return Cache(model.config.language, rows, capacity, dtype=model.dtype, device=model.device)
