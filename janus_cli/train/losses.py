"""The two losses of Janus: next word of an answer, next code of a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.model import Janus
from .data import to_pixels
from .samples import IGNORED, Conversations, Drawings


def answer_loss(model: Janus, batch: Conversations, placeholder: int) -> Tensor:
    """Cross-entropy of the answers: averaged over the words of each, then over the questions.

    Averaged over all words at once, a number would weigh a twentieth of a description.
    """
    features = model.embed_images(to_pixels(batch.pictures))  # (B, image tokens, D)
    embeddings = model.embed_text(batch.ids)
    slots = (batch.ids == placeholder)[:, :, None]
    embeddings = embeddings.masked_scatter(slots, features.to(embeddings))
    states = model.language(embeddings, batch.positions, batch.mask())
    asked = batch.targets != IGNORED
    entropies = F.cross_entropy(
        model.text_logits(states[asked]), batch.targets[asked], reduction="none"
    )
    rows, _ = asked.nonzero(as_tuple=True)
    questions = rows * (batch.segments.max() + 1) + batch.segments[asked]
    weights = 1 / questions.bincount()[questions]
    return (entropies * weights).sum() / weights.sum()


def drawing_loss(model: Janus, codes: Tensor, batch: Drawings, *, length: int) -> Tensor:
    """Cross-entropy of the codes (B, image tokens) of every picture, (B,).

    Args:
        length: sequences are padded to this length, so that one compiled graph serves all.
    """
    words = model.embed_text(batch.ids)
    inputs = model.embed_codes(codes[:, :-1])
    rows = []
    for row, words_used in enumerate(batch.lengths.tolist()):
        joined = torch.cat((words[row, :words_used], inputs[row]))
        rows.append(F.pad(joined, (0, 0, 0, length - len(joined))))
    states = model.language(torch.stack(rows))  # (B, length, D)
    starts = batch.lengths[:, None] - 1 + torch.arange(codes.shape[1])  # (B, image tokens)
    states = states.gather(1, starts[:, :, None].expand(-1, -1, states.shape[-1]))
    logits = model.image_logits(states)
    return F.cross_entropy(logits.transpose(1, 2), codes, reduction="none").mean(1)
