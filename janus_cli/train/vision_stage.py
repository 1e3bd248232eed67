"""Stage 0b: train the vision tower from nothing on labels of patches.

The papers take a tower that was trained on pairs of pictures and words (SigLIP). A small one that
has seen nothing learns faster from what lies under every patch: kind, color, character, whose
center it is, and how many of the kind there are. It also has to tell where the patch is: a decoder
that attends to a thing learns its place from nothing else. The linear heads that ask for these
labels are dropped afterwards.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.config import VisionConfig
from ..engine.vision import VisionTower
from . import recipe
from .data import TRAINING_SEEDS, stream, to_pixels
from .world.render import MOST, patch_labels, render
from .world.scene import (
    BACKGROUNDS,
    CHARACTERS,
    CLASSES,
    COLORS,
    KINDS,
    PICTOGRAMS,
    SIDE,
    sample_crowd,
    sample_scene,
)

CLASS_COUNTS = {
    "kind": 1 + len(KINDS) + len(PICTOGRAMS),
    "color": 1 + len(COLORS),
    "center": 1 + len(CLASSES),
    "character": 1 + len(CHARACTERS),
    "background": len(BACKGROUNDS),
    "alike": 1 + MOST,
    "things": 1 + MOST,
    "row": SIDE // recipe.EMBEDDED.vision.patch_size,
    "column": SIDE // recipe.EMBEDDED.vision.patch_size,
}
WEIGHTS = {"character": 2.0, "alike": 0.6, "things": 0.15}
"""Of the losses of labels, where not 1. Characters are learned last. How many things are alike is
learned slowly, but a decoder that finds it under a thing need not count: 2,900 steps at 0.15
brought it to 67 of 100 patches, 2,950 more at 0.6 to 81, and the other labels did not suffer."""
EVERYWHERE = ("background", "things", "row", "column")
"""Labels that every patch has; of the others 0 is none."""


class LabelHeads(nn.Module):
    """One linear classifier of a patch for every label."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {label: nn.Linear(width, classes) for label, classes in CLASS_COUNTS.items()}
        )

    def losses(self, features: Tensor, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of each label; patches with something on them count as much as empty ones.

        Those that say where they are too: on average over all of them, only the empty ones do.

        Args:
            features: (B, T, D).
            labels: (B, T) int64 each.
        """
        losses = {}
        shown = (labels["kind"] > 0) | (labels["character"] > 0)
        for label, head in self.heads.items():
            entropy = F.cross_entropy(
                head(features).transpose(1, 2), labels[label], reduction="none"
            )
            filled = shown if label in EVERYWHERE else labels[label] > 0
            parts = (entropy[some].mean() for some in (filled, ~filled) if some.any())
            losses[label] = torch.stack(list(parts)).sum()
        return losses

    @torch.no_grad()
    def accuracies(self, features: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
        """Share of right patches among those with something on them."""
        result = {}
        shown = (labels["kind"] > 0) | (labels["character"] > 0)
        for label, head in self.heads.items():
            filled = shown if label in EVERYWHERE else labels[label] > 0
            right = head(features).argmax(-1) == labels[label]
            result[label] = right[filled].float().mean().item()
        return result


class LabelledPicture:
    """Seed to (picture, labels of its patches); many of the pictures are crowded."""

    def __init__(self, patch: int) -> None:
        self.patch = patch

    def __call__(self, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        draw = random.Random(seed).random()
        if draw < 0.58:
            scene = sample_scene(seed, text_share=0.35)
        elif draw < 0.7:
            scene = sample_crowd(seed)
        else:  # letters have the most to tell apart, and a page shows twenty of them
            scene = sample_crowd(seed, things=(0, 2), strings=(4, 9), longest=8)
        labels = {
            label: torch.as_tensor(values).flatten().long()
            for label, values in patch_labels(scene, self.patch).items()
        }
        patches = labels["kind"].shape
        labels = {label: values.expand(patches) for label, values in labels.items()}
        return torch.from_numpy(render(scene)), labels


def train(
    config: VisionConfig,
    out: Path,
    *,
    minutes: float,
    batch: int,
    rate: float,
    device: str = "cpu",
    workers: int = 1,
    start: Path | None = None,
    seed: int = 0,
) -> None:
    """Train on fresh pictures, from nothing or from a checkpoint that a stage wrote."""
    torch.manual_seed(seed)
    tower, heads = VisionTower(config), LabelHeads(config.hidden_size)
    recipe.initialise(tower)
    nn.init.normal_(tower.positions, std=0.02)
    if start is not None:
        state = recipe.restore(start)
        tower.load_state_dict(state["model"])
        if "heads" in state:
            heads.load_state_dict(state["heads"], strict=False)  # a label may be new
    both = nn.ModuleDict({"tower": tower, "heads": heads}).to(device)
    optimizers = recipe.optimizers(both, rate=rate)
    make = LabelledPicture(config.patch_size)
    pictures = stream(make, batch=batch, first=(3 + 100 * seed) * TRAINING_SEEDS, workers=workers)
    started = time.monotonic()
    for step, (picture, labels) in enumerate(pictures):
        done = (time.monotonic() - started) / 60 / minutes
        if done >= 1:
            break
        labels = {label: values.to(device) for label, values in labels.items()}
        features = tower(to_pixels(picture.to(device)))
        losses = heads.losses(features, labels)
        loss = torch.stack([WEIGHTS.get(label, 1.0) * part for label, part in losses.items()]).sum()
        if step % 50 == 0:
            accuracies = heads.accuracies(features, labels)
            shown = " ".join(f"{label} {value:.3f}" for label, value in accuracies.items())
            print(
                f"vision step {step} pictures {step * batch} done {done:.2f}"
                f" loss {loss.item():.3f} {shown}",
                flush=True,
            )
        recipe.descend(optimizers, both, loss, rate * recipe.warm_cosine(step, done))
        if step % 200 == 199:
            recipe.save(out, tower, config, heads=heads.state_dict())
    recipe.save(out, tower, config, heads=heads.state_dict())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--start", type=Path, help="a tower to go on from")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures")
    parser.add_argument("--out", type=Path, default=Path("weights/training/vision.pt"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        recipe.EMBEDDED.vision,
        arguments.out,
        minutes=arguments.minutes,
        batch=arguments.batch,
        rate=arguments.rate,
        device=arguments.device,
        workers=arguments.workers,
        start=arguments.start,
        seed=arguments.seed,
    )
