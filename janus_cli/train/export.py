"""The last step: a trained model, which is in fp32, to the folder that the program comes with."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..engine.save import save_checkpoint
from .pupil import open_pupil
from .stamps import Stamps

GUIDANCE = 1.25
"""With which the embedded model draws: of 60 pictures 36 are right with it, 35 with 1.5, 32 with 1,
and of 24 none with the 5 of Janus-Pro. Where codes are nearly certain, guidance amplifies noise."""


def export(checkpoint: Path, folder: Path) -> None:
    """Write the model of a checkpoint folder in bf16, and the stamps that it draws with."""
    pupil = open_pupil(checkpoint, torch.device("cpu"))
    save_checkpoint(pupil.model, pupil.writer, folder, guidance=GUIDANCE)
    stamps = Stamps.find(checkpoint)
    if stamps is not None:
        stamps.save(folder)


def draw_examples(folder: Path) -> None:
    """Pictures to try the program on, from seeds that no training run has seen."""
    from PIL import Image

    from .world.render import render
    from .world.scene import Scene, Text, Thing

    scenes = {
        "penguins": Scene(
            "white",
            (
                Thing("penguin", None, 91, 126, 63, -6.0),
                Thing("penguin", None, 290, 121, 65, 0.0),
                Thing("penguin", None, 181, 279, 61, 3.0),
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
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=Path("weights/embedded"))
    chosen = parser.parse_args()
    export(chosen.checkpoint, chosen.out)
    draw_examples(chosen.out / "examples")
