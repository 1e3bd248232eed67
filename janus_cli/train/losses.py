"""The two losses of Janus: next word of an answer, next code of a picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.model import Janus
from ..engine.pixels import Preprocessing
from .data import to_pixels
from .packing import Batch
from .sequences import DRAWN, SEEN

Encode = Callable[[Tensor], Tensor]
"""Pixels (N, 3, S, S) in [-1, 1] to codes (N, ...), row by row."""


def loss_sums(
    model: Janus, batch: Batch, preprocessing: Preprocessing, encode: Encode | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropies of the words and of the codes of packed sequences, two sums.

    The weights of an answer, and of a picture, add up to 1 (see Sample), so a sum divided by their
    number is a mean. No gradient reaches the VQ tokenizer.

    Args:
        encode: pictures to the codes that are learned; the model's own tokenizer where absent.
    """
    embeddings = model.embed_text(batch.ids.clamp(min=0))  # (B, T, D)
    if len(batch.seen):
        features = model.aligner(features_of(model, batch.seen, preprocessing))
        slots = (batch.ids == SEEN)[:, :, None]
        embeddings = embeddings.masked_scatter(slots, features.to(embeddings))
    codes = torch.empty(0, dtype=torch.int64, device=embeddings.device)
    if len(batch.drawn):
        before, codes = steps_of(batch.drawn, encode or model.vq.encode)
        slots = (batch.ids == DRAWN)[:, :, None]
        inputs = model.embed_codes(before[:, 1:][codes[:, 1:] >= 0])
        embeddings = embeddings.masked_scatter(slots, inputs.to(embeddings))
    states = model.language(embeddings, batch.positions, batch.mask())
    words, drawn = batch.targets >= 0, batch.targets == DRAWN
    return (
        weighted(model.text_logits(states[words]), batch.targets[words], batch.weights[words]),
        weighted(model.image_logits(states[drawn]), codes[codes >= 0], batch.weights[drawn]),
    )


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


def steps_of(drawn: Tensor, encode: Encode) -> tuple[Tensor, Tensor]:
    """What `Batch.drawn` holds to the code before each code (N, K), and the codes (N, K)."""
    if drawn.dtype != torch.uint8:
        before, codes = drawn.long().unbind(1)
        return before, codes
    codes = codes_of(drawn, encode)
    return codes.roll(1, dims=1), codes


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
