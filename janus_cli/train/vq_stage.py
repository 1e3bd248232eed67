"""Stage 0a: train the VQ tokenizer from nothing on pictures of the world.

The papers take this tokenizer ready-made (LlamaGen's); a small one has to be trained first. It sees
random square crops, which cost less than whole pictures and show more edges, and at the end whole
pictures, since the statistics of a group norm are those of the whole picture.
"""

from __future__ import annotations

import argparse
import itertools
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
from .render import render
from .scene import SIDE, sample_crowd, sample_scene

COMMITMENT = 0.25  # weight of the commitment loss, as in VQ-VAE (arXiv 1711.00937)
WHOLE_FROM = 0.6  # share of the time after which whole pictures take the place of crops


def crop_of_world(seed: int, size: int) -> Tensor:
    """A square crop of a picture, uint8 (size, size, 3); half of the pictures are crowded."""
    rng = random.Random(seed)
    scene = sample_crowd(seed) if rng.random() < 0.4 else sample_scene(seed)
    picture = render(scene)
    top, left = (rng.randrange(0, picture.shape[0] - size + 1, 16) for _ in range(2))
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


def train(
    config: VQConfig, out: Path, *, minutes: float, batch: int, crop: int, rate: float
) -> None:
    torch.manual_seed(0)
    model = VQTokenizer(config)
    model.quantize.embedding.weight.data.normal_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0)
    crops = stream(CropOfWorld(crop), batch=batch, first=TRAINING_SEEDS)
    whole = stream(
        CropOfWorld(SIDE), batch=max(1, batch * crop**2 // SIDE**2), first=2 * TRAINING_SEEDS
    )
    used = torch.zeros(config.codes)
    started = time.monotonic()
    done = 0.0
    for step in itertools.count():
        picture = next(crops if done < WHOLE_FROM else whole)
        done = (time.monotonic() - started) / 60 / minutes
        if done >= 1:
            break
        recipe.set_rate(optimizer, rate * recipe.warm_cosine(step, done))
        pixels = to_pixels(picture)
        latents = model.quant_conv(model.encoder(pixels))
        if step < 150:  # a plain autoencoder first, so that the codebook starts on real latents
            entries, loss_of_codes = F.normalize(latents, dim=1), torch.zeros(())
        else:
            if step == 150:
                revive_dead_codes(model, latents, torch.zeros(config.codes))
            entries, loss_of_codes, codes = quantize(model, latents)
            used += torch.bincount(codes.flatten(), minlength=config.codes)
        error = model.decoder(model.post_quant_conv(entries)) - pixels
        loss = error.abs().mean() + 2 * error.square().mean() + loss_of_codes
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            psnr = 10 * torch.log10(4 / error.square().mean()).item()
            dead = revive_dead_codes(model, latents, used) if step > 150 and done < 0.7 else 0
            used.zero_()
            print(
                f"vq step {step} done {done:.2f} psnr {psnr:.2f} loss {loss.item():.4f}"
                f" codes {loss_of_codes.item():.4f} revived {dead}",
                flush=True,
            )
        if step % 500 == 499:
            recipe.save(out, model, config)
    recipe.save(out, model, config)


class CropOfWorld:
    """Picklable `crop_of_world` of one size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, seed: int) -> Tensor:
        return crop_of_world(seed, self.size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("weights/training/vq.pt"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        recipe.EMBEDDED.vq,
        arguments.out,
        minutes=arguments.minutes,
        batch=arguments.batch,
        crop=arguments.crop,
        rate=arguments.rate,
    )
