"""The two losses of Janus: next word of an answer, next code of a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.model import Janus
from ..engine.pixels import Preprocessing
from .data import to_pixels
from .packing import Batch
from .sequences import CODED, DRAWN, SEEN

Encode = Callable[[Tensor], Tensor]
"""Pixels (N, 3, S, S) in [-1, 1] to codes (N, ...), row by row."""


def loss_sums(
    model: Janus, batch: Batch, preprocessing: Preprocessing, encode: Encode | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropies of the words and of the codes of packed sequences, two sums.

    The weights of an answer, and of a whole picture, add up to 1 (see Sample), so a sum divided by
    that of the weights is a mean over answers or pictures. No gradient reaches the VQ tokenizer.

    Args:
        encode: pictures to the codes that are learned; the model's own tokenizer where absent.
    """
    embeddings = model.embed_text(batch.ids.clamp(min=0))  # (B, T, D)
    if len(batch.seen):
        features = model.aligner(features_of(model, batch.seen, preprocessing))
        slots = (batch.ids == SEEN)[:, :, None]
        embeddings = embeddings.masked_scatter(slots, features.to(embeddings))
    steps = list(steps_of(batch, encode or model.vq.encode))
    for slot, before, codes in steps:
        inputs = model.embed_codes(before[:, 1:][codes[:, 1:] >= 0])
        slots = (batch.ids == slot)[:, :, None]
        embeddings = embeddings.masked_scatter(slots, inputs.to(embeddings))
    states = model.language(embeddings, batch.positions, batch.mask())
    words = batch.targets >= 0
    of_words = weighted(
        model.text_logits(states[words]), batch.targets[words], batch.weights[words]
    )
    of_codes = torch.zeros_like(of_words)
    for slot, _, codes in steps:
        drawn = batch.targets == slot
        logits = model.image_logits(states[drawn])
        of_codes = of_codes + weighted(logits, codes[codes >= 0], batch.weights[drawn])
    return of_words, of_codes


def weighted(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropies (N,), each times its weight, as one sum."""
    entropies = F.cross_entropy(logits.float(), targets, reduction="none")
    return (entropies * weights).sum()


def features_of(model: Janus, pictures: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 pictures (N, S, S, 3) to what the vision tower makes of them (N, image tokens, D).

    Features are themselves, so that a frozen tower need not see a picture twice.
    """
    if pictures.dtype != torch.uint8:
        return pictures.to(model.dtype)
    return model.vision(pixels_of(pictures, preprocessing).to(model.dtype))


def steps_of(batch: Batch, encode: Encode) -> Iterator[tuple[int, Tensor, Tensor]]:
    """What is drawn: its slot in the batch, the code before each code (N, K), the codes (N, K)."""
    if len(batch.drawn):
        codes = codes_of(batch.drawn, encode)
        yield DRAWN, codes.roll(1, dims=1), codes
    if len(batch.coded):
        before, codes = batch.coded.long().unbind(1)
        yield CODED, before, codes


@torch.no_grad()
def codes_of(pictures: Tensor, encode: Encode) -> Tensor:
    """uint8 pictures (N, S, S, 3) to codes (N, image tokens), in fp32."""
    with torch.autocast(pictures.device.type, enabled=False):
        return encode(to_pixels(pictures)).flatten(1)


def pixels_of(pictures: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Framed uint8 pictures (N, S, S, 3) to normalised pixels (N, 3, S, S), as in reading."""
    mean, deviation = (
        torch.tensor(values, device=pictures.device)[:, None, None]
        for values in (preprocessing.mean, preprocessing.deviation)
    )
    return (pictures.movedim(-1, 1).float() / 255 - mean) / deviation
