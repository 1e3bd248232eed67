"""How well the codes of held-out pictures are foretold from the right, a wrong and no caption."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engine.load import Engine
from ...engine.model import Janus
from ..data import to_pixels
from ..world.captions import caption
from ..world.render import render
from ..world.scene import sample_scene
from ..world.style import EVALUATION
from .progress import show
from .scores import Row, mean


@torch.inference_mode()
def measure_losses(engine: Engine, cases: int) -> list[Row]:
    """Loss per code with each of the captions, and what a wrong one costs more than the right."""
    model, writer = engine.model, engine.writer
    assert isinstance(model, Janus), "only codes have a loss of their own"
    scenes = [sample_scene(seed, text_share=0.06) for seed in range(cases)]
    right = [writer.drawing(caption(s, random.Random(f"caption {s.seed}"))) for s in scenes]
    wrong = right[1:] + right[:1]
    losses: dict[str, list[float]] = {"right": [], "wrong": [], "no": []}
    for number, scene in enumerate(scenes):
        show("losses", number, cases)
        picture = torch.from_numpy(render(scene, EVALUATION))[None]
        codes = model.vq.encode(to_pixels(picture).to(model.device, model.dtype)).flatten(1)
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
