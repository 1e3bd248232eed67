"""The last step: a training checkpoint to a folder that the program loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engine.model import Janus
from ..engine.save import save_checkpoint
from . import recipe
from .joint_stage import open_writer


def export(checkpoint: Path, folder: Path, *, vq: Path | None = None) -> None:
    """Write the model of a checkpoint in bf16; `vq` may bring a decoder that went on training.

    The codes that the model was trained on have to stay what they were, so only the way from codes
    to pixels is taken from `vq`.
    """
    model = Janus(recipe.EMBEDDED)
    model.load_state_dict(recipe.restore(checkpoint)["model"])
    if vq:
        newer = recipe.restore(vq)["model"]
        painting = {k: v for k, v in newer.items() if k.startswith(("decoder.", "post_quant"))}
        model.vq.load_state_dict(painting, strict=False)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, open_writer(checkpoint.parent), folder)


def draw_examples(folder: Path) -> None:
    """Pictures to try the program on, from seeds that no training run has seen."""
    from PIL import Image

    from .render import render
    from .scene import Scene, Text, Thing

    scenes = {
        "penguins": Scene(
            "white",
            (
                Thing("penguin", None, 91, 114, 52, 3.0),
                Thing("penguin", None, 294, 117, 62, -5.0),
                Thing("penguin", None, 184, 276, 61, 1.0),
            ),
            (),
            5,
        ),
        "shapes": Scene(
            "gray",
            (
                Thing("square", "blue", 110, 115, 62, 6.0),
                Thing("star", "yellow", 278, 99, 73, -4.0),
                Thing("heart", "red", 198, 287, 68, 4.0),
            ),
            (),
            4,
        ),
        "corgi": Scene("nebula", (Thing("corgi", None, 196, 190, 112, 0.0),), (), 3),
        "hello": Scene("white", (), (Text("HELLO", "blue", 190, 180, 52, 0),), 4),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, scene in scenes.items():
        Image.fromarray(render(scene)).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", type=Path, default=Path("weights/training/joint-final.pt"))
    parser.add_argument("--vq", type=Path, help="a VQ tokenizer whose decoder went on training")
    parser.add_argument("--out", type=Path, default=Path("weights/embedded"))
    chosen = parser.parse_args()
    export(chosen.checkpoint, chosen.out, vq=chosen.vq)
    draw_examples(chosen.out / "examples")
