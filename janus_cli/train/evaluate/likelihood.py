"""How well the codes of held-out pictures are foretold from the right, a wrong and no caption."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engine.load import Engine
from ...engine.model import Janus
from ..codes import codes_of_drawings
from ..data import to_pixels
from ..stamps import Stamps
from ..world.captions import caption
from ..world.render import render
from ..world.scene import sample_drawing
from ..world.style import DRAWN
from .progress import show
from .scores import Row, mean


@torch.inference_mode()
def measure_losses(engine: Engine, cases: int, stamps: Stamps | None = None) -> list[Row]:
    """Loss per code with each of the captions, and what a wrong one costs more than the right.

    The pictures are like those that were learned, of other seeds: drawing has no other style. Where
    a model draws with stamps, so are their codes.
    """
    model, writer = engine.model, engine.writer
    assert isinstance(model, Janus), "only codes have a loss of their own"
    encode = None if stamps else codes_of_drawings(model.vq)
    scenes = [sample_drawing(seed) for seed in range(cases)]
    captions = [caption(s, random.Random(f"caption {n}")) for n, s in enumerate(scenes)]
    right = [writer.drawing(words) for words in captions]
    wrong = right[1:] + right[:1]
    losses: dict[str, list[float]] = {"right": [], "wrong": [], "no": []}
    for number, scene in enumerate(scenes):
        show("losses", number, cases)
        if encode:
            picture = torch.from_numpy(render(scene, DRAWN))[None]
            codes = encode(to_pixels(picture).to(model.device, model.dtype))
        elif stamps:
            codes = torch.from_numpy(stamps.codes(scene))[None].to(model.device)
        ids = right[number], wrong[number], writer.unconditional(right[number])
        for name, row in zip(losses, ids, strict=True):
            losses[name].append(code_loss(model, row, codes).item())
    rows = [mean(f"loss per code, {name} caption", values) for name, values in losses.items()]
    # Pictures differ in loss far more than captions do, so the captions are compared picture by
    # picture.
    pairs = zip(losses["wrong"], losses["right"], strict=True)
    return [*rows, mean("loss per code, wrong less right", [w - r for w, r in pairs])]


def code_loss(model: Janus, ids: Sequence[int], codes: Tensor) -> Tensor:
    """Mean cross-entropy of the codes (1, image tokens) of a picture behind a prompt, a number."""
    words = model.embed_text(torch.tensor([ids], device=model.device))
    states = model.language(torch.cat((words, model.embed_codes(codes[:, :-1])), dim=1))
    logits = model.image_logits(states[0, len(ids) - 1 :])  # (image tokens, codes)
    return F.cross_entropy(logits.float(), codes[0])
