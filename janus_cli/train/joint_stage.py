"""The joint stage: one decoder learns to answer and to draw, on ready-made encoders.

Each step takes a batch of conversations and a batch of drawings. The rate is constant and falls
only at the end of the time that a run is given, so a later run can take the checkpoint of the
constant part (`--resume`) and go on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from ..engine.model import Janus
from ..engine.prompt import JANUS_PRO, PromptWriter, read_tokenizer
from . import recipe
from .data import TRAINING_SEEDS, stream, to_pixels
from .losses import answer_loss, drawing_loss
from .samples import ConversationMaker, DrawingMaker, Drawings
from .vocabulary import build_tokenizer

QUESTIONS = 12
CONVERSATION_LENGTH = 400
DRAWING_LENGTH = 576 + 40
HELD_OUT = 48  # drawings that are scored now and then with the right, a wrong and no caption


def open_writer(folder: Path) -> PromptWriter:
    """The prompts of the embedded model; its tokenizer is built once and then kept."""
    config = recipe.EMBEDDED
    if not (folder / "tokenizer.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        build_tokenizer(config.language.vocabulary).save(str(folder / "tokenizer.json"))
    tokenizer = read_tokenizer(folder)
    return PromptWriter(tokenizer, JANUS_PRO, config.vision.tokens, config.language.context)


def new_model(vision: Path) -> Janus:
    """Fresh decoder, aligners and heads around the vision tower of the stage before."""
    model = Janus(recipe.EMBEDDED)
    recipe.initialise(model)
    model.vision.load_state_dict(recipe.restore(vision)["model"])
    return model


def give_tokenizer(model: Janus, vq: Path) -> None:
    """Put in the VQ tokenizer; the decoder reads codes by what they look like from the start."""
    model.vq.load_state_dict(recipe.restore(vq)["model"])
    entries = model.vq.quantize.entries()
    model.generation_embed.weight.data.copy_(entries * entries.shape[1] ** 0.5)


@torch.no_grad()
def encode(model: Janus, pictures: Tensor) -> Tensor:
    return model.vq.encode(to_pixels(pictures)).flatten(1)


class HeldOut:
    """Drawings that no run trains on: what one loss with three captions says about guidance."""

    def __init__(self, model: Janus, writer: PromptWriter) -> None:
        maker = DrawingMaker(writer, simple=0.3)
        self.batch = maker.collate([maker(seed) for seed in range(HELD_OUT)])
        self.codes = encode(model, self.batch.pictures)
        empty = [
            writer.unconditional(row[:length].tolist()) + row[length:].tolist()
            for row, length in zip(self.batch.ids, self.batch.lengths.tolist(), strict=True)
        ]
        self.empty = Drawings(self.batch.pictures, torch.tensor(empty), self.batch.lengths)
        self.wrong = Drawings(
            self.batch.pictures, self.batch.ids.roll(1, 0), self.batch.lengths.roll(1, 0)
        )

    @torch.no_grad()
    def losses(self, model: Janus) -> dict[str, float]:
        """Loss per code with the right, a wrong and no caption."""
        kinds = {"right": self.batch, "wrong": self.wrong, "none": self.empty}
        return {
            name: drawing_loss(model, self.codes, batch, length=DRAWING_LENGTH).mean().item()
            for name, batch in kinds.items()
        }


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    writer = open_writer(arguments.out.parent)
    model = new_model(arguments.vision)
    model.vq.requires_grad_(False)
    optimizers = recipe.optimizers(model, rate=arguments.rate)
    step, spent = 0, 0.0
    if arguments.resume:
        state = recipe.restore(arguments.resume)
        model.load_state_dict(state["model"])
        step, spent = state["step"], state["spent"]
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    if arguments.vq:
        give_tokenizer(model, arguments.vq)
    if arguments.compile:
        model.language.compile()
    first = (10 + step) * TRAINING_SEEDS
    talk = ConversationMaker(writer, count=QUESTIONS, length=CONVERSATION_LENGTH)
    conversations = stream(talk, batch=arguments.conversations, first=first, collate=talk.collate)
    if arguments.drawings:
        held_out = HeldOut(model, writer)
        sketch = DrawingMaker(writer, simple=arguments.simple)
        drawings = stream(
            sketch,
            batch=arguments.drawings,
            first=first + TRAINING_SEEDS // 2,
            collate=sketch.collate,
        )
    started, losses = time.monotonic(), {"words": 0.0, "codes": 0.0}
    while True:
        minutes = (time.monotonic() - started) / 60
        done = minutes / arguments.minutes
        if done >= 1:
            break
        model.vision.requires_grad_(spent + minutes >= arguments.frozen)
        words = answer_loss(model, next(conversations), writer.placeholder)
        words.backward()
        losses["words"] += words.item()
        if arguments.drawings:
            batch = next(drawings)
            rows = drawing_loss(model, encode(model, batch.pictures), batch, length=DRAWING_LENGTH)
            rows.mean().backward()
            losses["codes"] += rows.mean().item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = arguments.rate * min(1, (step + 1) / 100) * min(1, (1 - done) / arguments.fall)
        for optimizer in optimizers:
            recipe.set_rate(optimizer, rate)
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if step % 25 == 0:
            shown = " ".join(f"{name} {value / 25:.4f}" for name, value in losses.items())
            print(f"joint step {step} minutes {spent + minutes:.1f} {shown}", flush=True)
            losses = dict.fromkeys(losses, 0.0)
        if arguments.drawings and step % 250 == 0:
            shown = " ".join(f"{k} {v:.4f}" for k, v in held_out.losses(model).items())
            print(f"joint step {step} held out {shown}", flush=True)
        if step % 100 == 0 and done < 1 - arguments.fall:
            save(arguments.out, model, step, spent + minutes, optimizers)
    save(
        arguments.out.with_stem(f"{arguments.out.stem}-final"),
        model,
        step,
        spent + arguments.minutes,
        optimizers,
    )


def save(
    path: Path,
    model: Janus,
    step: int,
    spent: float,
    optimizers: list[torch.optim.Optimizer],
) -> None:
    states = [optimizer.state_dict() for optimizer in optimizers]
    recipe.save(path, model, recipe.EMBEDDED, step=step, spent=spent, optimizers=states)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    folder = Path("weights/training")
    parser.add_argument("--vq", type=Path, help="a VQ tokenizer to put in")
    parser.add_argument("--vision", type=Path, default=folder / "vision.pt")
    parser.add_argument("--resume", type=Path, help="a checkpoint of this stage to go on from")
    parser.add_argument("--out", type=Path, default=folder / "joint.pt")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--fall", type=float, default=0.2, help="share of it with a falling rate")
    parser.add_argument("--frozen", type=float, default=20, help="minutes without vision training")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--conversations", type=int, default=12)
    parser.add_argument("--drawings", type=int, default=8, help="0 for conversations alone")
    parser.add_argument("--simple", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    train(chosen)
