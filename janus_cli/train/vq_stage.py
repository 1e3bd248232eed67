"""Stage 0a: train the VQ tokenizer from nothing on pictures of the world.

The papers take this tokenizer ready-made (LlamaGen's); a small one has to be trained first. It sees
random square crops, which cost less than whole pictures and show more edges, and at the end whole
pictures, since the statistics of a group norm are those of the whole picture.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.config import VQConfig
from ..engine.vq import VQTokenizer
from . import recipe
from .data import TRAINING_SEEDS, stream, to_pixels
from .world.render import render
from .world.scene import SIDE, Text, Thing, sample_crowd, sample_scene

COMMITMENT = 0.25  # weight of the commitment loss, as in VQ-VAE (arXiv 1711.00937)
FALL = 0.4  # share of the run in which the rate falls to nothing


def crop_of_world(seed: int, size: int) -> Tensor:
    """A square crop of a picture, uint8 (size, size, 3), mostly around something in it."""
    rng = random.Random(f"crop {seed}")
    scene = sample_crowd(seed) if rng.random() < 0.5 else sample_scene(seed)
    picture = render(scene)
    x, y = rng.randrange(SIDE), rng.randrange(SIDE)
    if rng.random() < 0.85:
        items: list[Thing | Text] = [*scene.things, *scene.texts]
        item = rng.choice(items)
        x, y = item.x + rng.randint(-40, 40), item.y + rng.randint(-24, 24)
    left, top = (min(max(center - size // 2, 0), SIDE - size) for center in (x, y))
    return torch.from_numpy(picture[top : top + size, left : left + size].copy())


def quantize(model: VQTokenizer, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Straight-through quantization: (entries to decode, codebook loss, codes)."""
    latents = F.normalize(latents, dim=1)
    codes = model.quantize.nearest(latents)
    entries = model.quantize.lookup(codes)
    codebook_loss = (entries - latents.detach()).square().mean()
    commitment = (entries.detach() - latents).square().mean()
    return latents + (entries - latents).detach(), codebook_loss + COMMITMENT * commitment, codes


def revive_dead_codes(model: VQTokenizer, latents: Tensor, used: Tensor) -> int:
    """Move codes that nothing used lately onto random latents of the batch; how many."""
    points = F.normalize(latents.detach().movedim(1, -1).flatten(0, -2), dim=-1)
    dead = (used == 0).nonzero().flatten()
    chosen = points[torch.randint(len(points), (len(dead),))]
    model.quantize.embedding.weight.data[dead] = chosen + 0.01 * torch.randn_like(chosen)
    return len(dead)


def reconstruction_loss(made: Tensor, pixels: Tensor) -> Tensor:
    """Absolute and squared error; a pixel counts up to nine times as much as plain background."""
    ground = pixels.flatten(2).median(-1).values[:, :, None, None]
    weights = 1 + 4 * (pixels - ground).abs().amax(1, keepdim=True)
    error = made - pixels
    return (weights * (error.abs() + 2 * error.square())).mean()


def open_tokenizer(arguments: argparse.Namespace, config: VQConfig) -> VQTokenizer:
    """One that knows nothing, or the one to go on from; what is not to be trained is frozen."""
    model = VQTokenizer(config)
    torch.nn.init.normal_(model.quantize.embedding.weight)
    if arguments.start:
        model.load_state_dict(recipe.restore(arguments.start)["model"])
    if arguments.decoder_only:
        for part in (model.encoder, model.quant_conv, model.quantize):
            part.requires_grad_(False)
    return model.to(  # type: ignore[call-overload]
        arguments.device, memory_format=torch.channels_last
    )


def train(arguments: argparse.Namespace, config: VQConfig) -> None:
    torch.manual_seed(0)
    model, device = open_tokenizer(arguments, config), arguments.device
    optimizers = recipe.optimizers(model, rate=arguments.rate)
    workers, of_whole = arguments.workers, max(1, arguments.batch * arguments.crop**2 // SIDE**2)
    crops = stream(
        CropOfWorld(arguments.crop),
        batch=arguments.batch,
        first=TRAINING_SEEDS,
        workers=workers,
    )
    whole = stream(CropOfWorld(SIDE), batch=of_whole, first=2 * TRAINING_SEEDS, workers=workers)
    used = torch.zeros(config.codes, device=device)
    started, done, quantized = time.monotonic(), 0.0, arguments.continuous == 0
    errors: list[Tensor] = []
    for step in itertools.count():
        pixels = to_pixels(next(crops if done < arguments.crops else whole).to(device))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        done = (time.monotonic() - started) / 60 / arguments.minutes
        if done >= 1:
            break
        latents = model.quant_conv(model.encoder(pixels))
        if not quantized and done > arguments.continuous:
            quantized = True  # the codebook starts on latents that already carry the picture
            revive_dead_codes(model, latents, torch.zeros_like(used))
        entries, loss_of_codes = F.normalize(latents, dim=1), torch.zeros((), device=device)
        if quantized:
            entries, loss_of_codes, codes = quantize(model, latents)
            used += torch.bincount(codes.flatten(), minlength=config.codes)
        made = model.decoder(model.post_quant_conv(entries))
        loss = reconstruction_loss(made, pixels) + loss_of_codes
        rate = arguments.rate * min(1, (1 - done) / FALL) * min(1, (step + 1) / 50)
        recipe.descend(optimizers, model, loss, rate)
        errors.append((made.detach() - pixels).square().mean())
        if step % 100 == 99:
            psnr = 10 * math.log10(4 / torch.stack(errors).mean().item())
            reviving = quantized and done < 0.7 and not arguments.decoder_only
            dead = revive_dead_codes(model, latents, used) if reviving else 0
            print(
                f"vq step {step} done {done:.2f} psnr {psnr:.2f} loss {loss.item():.4f}"
                f" codes {loss_of_codes.item():.4f} revived {dead}",
                flush=True,
            )
            errors.clear()
            used.zero_()
        if step % 200 == 199:
            recipe.save(arguments.out, model, config)
    recipe.save(arguments.out, model, config)


class CropOfWorld:
    """Picklable `crop_of_world` of one size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, seed: int) -> Tensor:
        return crop_of_world(seed, self.size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    folder = Path("weights/training")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--crops", type=float, default=0.5, help="share of the run with crops")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument(
        "--continuous", type=float, default=0.3, help="share of the run before codes are used"
    )
    parser.add_argument(
        "--decoder-only", action="store_true", help="keep the codes: a model already draws in them"
    )
    parser.add_argument("--out", type=Path, default=folder / "vq.pt")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    train(chosen, recipe.EMBEDDED.vq)
