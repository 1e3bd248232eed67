"""Engines asked for one thing, as most tests want it."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from janus_cli.engine.batch import Prompt
from janus_cli.engine.decode import Drawing, Sampling


def answers(engine, prompts: Sequence[Prompt], **options) -> list[list[int]]:
    """The tokens of every answer, in the order of the prompts, each of which gets the options."""
    said: list[list[int]] = [[] for _ in prompts]
    ended = []
    for number, token in engine.write([replace(prompt, **options) for prompt in prompts]):
        if token is None:
            ended.append(number)
        else:
            said[number].append(token)
    assert sorted(ended) == list(range(len(prompts)))
    return said


def answer(engine, ids, pixels=None, seed=0, **options) -> list[int]:
    """The tokens of one answer."""
    return answers(engine, [Prompt(ids, pixels, seed)], **options)[0]


def draw(engine, ids, seeds=(0,), sampling=None) -> torch.Tensor:
    """Codes (seeds, image tokens) of pictures of one prompt."""
    other = engine.writer.unconditional(ids)
    drawings = [Drawing(ids, other, seed) for seed in seeds]
    return torch.stack(list(engine.draw(drawings, sampling or Sampling())), dim=1)


def embed(engine, ids, pixels=None) -> torch.Tensor:
    """Embeddings (1, T, D) of a prompt."""
    return engine.model.embed_prompt(ids, pixels, engine.writer.placeholder)
