"""An engine that knows nothing: what it answers and draws is up to the test."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from janus_cli.engine.decode import Sampling

Answerer = Callable[[np.ndarray, str], str]
Drawer = Callable[[str, int, float], np.ndarray]  # prompt, seed, guidance


class ScriptedModel:
    """Answers of `answer(picture, question)`, pictures of `draw(prompt, seed, guidance)`.

    Tokens are characters, and answers are written side by side, as an engine does it.
    """

    image_tokens = 3

    def __init__(self, answer: Answerer | None = None, draw: Drawer | None = None) -> None:
        self.answer, self.drawer = answer, draw
        self.batches: list[int] = []
        self.preprocessing = SimpleNamespace(fit=lambda image: torch.from_numpy(np.array(image)))
        self.writer = SimpleNamespace(
            conversation=lambda images, history, question: question,
            decode=lambda tokens: "".join(map(chr, tokens)),
            drawing=lambda prompt, tokens: prompt,
            unconditional=lambda ids: None,
        )

    def write(self, prompts):
        said = [self.answer(prompt.pixels[0].numpy(), prompt.ids) for prompt in prompts]
        for place in range(max(map(len, said)) + 1):
            for number, words in enumerate(said):
                if place <= len(words):
                    yield number, ord(words[place]) if place < len(words) else None

    def draw(self, drawings, sampling: Sampling):
        self.batches.append(len(drawings))
        self.drawn = [
            self.drawer(drawing.ids, drawing.seed, sampling.guidance) for drawing in drawings
        ]
        for column in range(self.image_tokens):
            yield torch.full((len(drawings),), column)

    def paint(self, codes):
        assert codes.shape == (len(self.drawn), self.image_tokens)
        return torch.from_numpy(np.stack(self.drawn))

    def most_pictures(self) -> int:
        return 4
