"""The embedded model before its first stage, as a checkpoint that `janus train` begins with.

Its two encoders are those of vision_stage and vq_stage; the decoder and all that is between them
know nothing yet. In fp32, since three stages follow.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..engine.model import Janus
from ..engine.prompt import JANUS_PRO, PromptWriter, read_tokenizer
from ..engine.save import save_checkpoint
from ..weights import EMBEDDED, find_model
from . import recipe
from .stamps import make_stamps


def write_start(vision: Path, vq: Path, folder: Path, *, seed: int = 0) -> None:
    """Write the networks with these encoders, and the words of the embedded model.

    Args:
        vision: what vision_stage wrote.
        vq: what vq_stage wrote.
    """
    torch.manual_seed(seed)
    config = recipe.EMBEDDED
    model = Janus(config)
    recipe.initialise(model)
    model.vision.load_state_dict(recipe.restore(vision)["model"])
    model.vq.load_state_dict(recipe.restore(vq)["model"])
    # The decoder reads codes by what they look like from the start.
    entries = model.vq.quantize.entries().detach()
    model.generation_embed.weight.data.copy_(entries * entries.shape[1] ** 0.5)
    words = read_tokenizer(find_model(EMBEDDED))
    writer = PromptWriter(words, JANUS_PRO, config.vision.tokens, config.language.context)
    make_stamps(model.vq).save(folder)
    save_checkpoint(model, writer, folder, dtype=torch.float32)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--vision", type=Path, default=Path("weights/training/vision.pt"))
    parser.add_argument("--vq", type=Path, default=Path("weights/training/vq.pt"))
    parser.add_argument("--out", type=Path, default=Path("weights/training/start"))
    chosen = parser.parse_args()
    write_start(chosen.vision, chosen.vq, chosen.out)
