"""Pictures to the codes that a decoder is taught to draw."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.vq import VQTokenizer
from .data import TRAINING_SEEDS, to_pixels
from .world.render import render
from .world.scene import sample_drawing
from .world.style import DRAWN

TYPICAL = 80  # drawings in which the frequencies of codes are counted
PATIENCE = 0.01  # squared distance on the unit sphere that one nat is worth
ROUNDS = 12


class FrequentCodes:
    """The nearest code, or a more frequent one that is nearly as near.

    Several codes look alike, and which of them is the nearest hangs on noise that no caption tells:
    a decoder would spend most of its loss on it. Entropy-constrained quantization (Chou, Lookabaugh
    and Gray 1989) picks the code that minimises distance - patience * log(frequency).
    The pictures that the codes are decoded to stay what they were; tests hold it to both.
    """

    def __init__(self, vq: VQTokenizer, pixels: Tensor, patience: float = PATIENCE) -> None:
        """Count how often codes are chosen.

        Args:
            pixels: (B, 3, H, W) in [-1, 1], some hundred typical pictures.
            patience: 0 is the plain tokenizer.
        """
        self.vq, self.patience = vq, patience
        self.log_frequency = torch.zeros(vq.quantize.entries().shape[0], device=pixels.device)
        distances = torch.cat([self._distances(picture[None]) for picture in pixels])
        for _ in range(ROUNDS):
            codes = self._choose(distances)
            counts = torch.bincount(codes.flatten(), minlength=len(self.log_frequency)) + 0.5
            self.log_frequency = (counts / counts.sum()).log()

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to codes (B, image tokens), row by row, int64."""
        return self._choose(self._distances(pixels)).flatten(1)

    @torch.no_grad()
    def _distances(self, pixels: Tensor) -> Tensor:
        """Squared distances (B, H, W, codes) of the latents to all entries of the codebook."""
        latents = self.vq.quant_conv(self.vq.encoder(pixels)).movedim(1, -1)
        points = torch.nn.functional.normalize(latents, dim=-1)
        return 2 - 2 * points @ self.vq.quantize.entries().T

    def _choose(self, distances: Tensor) -> Tensor:
        return (distances - self.patience * self.log_frequency).argmin(-1)


def codes_of_drawings(vq: VQTokenizer) -> FrequentCodes:
    """The codes that the embedded model learns to draw with: those frequent in its world."""
    scenes = (sample_drawing(TRAINING_SEEDS + number) for number in range(TYPICAL))
    pictures = torch.stack([torch.from_numpy(render(scene, DRAWN)) for scene in scenes])
    return FrequentCodes(vq, to_pixels(pictures).to(vq.quantize.entries()))
