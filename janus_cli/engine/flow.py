"""JanusFlow's networks: the decoder between SigLIP features to read and a U-ViT to draw.

What is drawn is the latent of a picture, moved from noise to data by a velocity (arXiv 2411.07975);
it knows neither steps nor pixels. Letters: B rows, T positions, D the decoder's width, C channels,
S the side of a latent, G the side of its grid of patches, P positions of a prefix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import FlowConfig, JanusFlowConfig
from .language import KeysValues
from .model import Reader

LONGEST_PERIOD = 10000  # of the sinusoids that a time becomes
GROWTH = 4  # times as many channels inside a block


class TimeEmbedding(nn.Module):
    """A time (B,) of 0 to 1000 to an embedding (B, D)."""

    def __init__(self, waves: int, width: int) -> None:
        super().__init__()
        self.waves = waves
        self.linear_1 = nn.Linear(waves, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, time: Tensor) -> Tensor:
        waves = sinusoids(time, self.waves).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))


def sinusoids(time: Tensor, count: int) -> Tensor:
    """Times (B,) as (B, count) fp32: cosines, then sines, from the shortest period on."""
    half = count // 2
    exponents = torch.arange(half, device=time.device, dtype=torch.float32) / half
    angles = time.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * exponents)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class ResponseNorm(nn.Module):
    """Global response normalisation (arXiv 2301.00808) over the grid of x (B, G, G, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        response = x.norm(dim=(1, 2), keepdim=True)  # (B, 1, 1, C)
        share = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
        return x * (1 + self.weight * share) + self.bias


class ConvNeXtBlock(nn.Module):
    """A ConvNeXt V2 block over x (B, C, G, G), whose sum with x the time scales and shifts."""

    def __init__(self, channels: int, width: int, eps: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.RMSNorm(channels, eps=eps)
        self.up = nn.Linear(channels, GROWTH * channels)
        self.response_norm = ResponseNorm(GROWTH * channels)
        self.down = nn.Linear(GROWTH * channels, channels)
        self.modulation = nn.Linear(width, 2 * channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        mixed = self.norm(self.depthwise(x).movedim(1, -1))  # (B, G, G, C)
        mixed = self.down(self.response_norm(F.gelu(self.up(mixed))))
        scale, shift = self.modulation(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        return (x + mixed.movedim(-1, 1)) * (1 + scale) + shift


class UViTEncoder(nn.Module):
    """Latents (B, C, S, S) at times (B,) to features (B, C, G, G) and time embeddings (B, D)."""

    def __init__(self, config: FlowConfig, width: int) -> None:
        super().__init__()
        channels, patch = config.width, config.patch_size
        self.patchify = nn.Conv2d(config.latent_channels, channels, patch, stride=patch)
        self.time = TimeEmbedding(channels, width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, width, config.norm_eps) for _ in range(config.encoder_blocks)
        )

    def forward(self, latents: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.time(time)
        x = self.patchify(latents.to(self.patchify.weight.dtype))
        for block in self.blocks:
            x = block(x, embedded)
        return x, embedded


class UViTDecoder(nn.Module):
    """What the language decoder made of the features, beside these, to velocities (B, C, S, S)."""

    def __init__(self, config: FlowConfig, width: int) -> None:
        super().__init__()
        channels, patch, eps = 2 * config.width, config.patch_size, config.norm_eps
        self.input_norm = nn.RMSNorm(config.width, eps=eps)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, width, eps) for _ in range(config.decoder_blocks)
        )
        self.output_norm = nn.RMSNorm(channels, eps=eps)
        self.unpatchify = nn.Conv2d(channels, config.latent_channels * patch**2, 1)
        self.patch = patch

    def forward(self, x: Tensor, features: Tensor, time: Tensor) -> Tensor:
        """x (B, G, G, C), features (B, C, G, G) and time embeddings (B, D)."""
        x = torch.cat((self.input_norm(x).movedim(-1, 1), features), dim=1)
        for block in self.blocks:
            x = block(x, time)
        x = self.unpatchify(self.output_norm(x.movedim(1, -1)).movedim(-1, 1))
        return F.pixel_shuffle(x, self.patch)


@dataclass(frozen=True)
class Prefix:
    """The words before a picture in each of B rows, computed once for all its steps."""

    layers: Sequence[KeysValues]
    """Keys and values (B, K, P, E) of each layer of the decoder."""
    positions: Tensor
    """(B, T) int64 of what follows."""
    seen: Tensor
    """(B, 1, T, P + T) bool: what each following position looks at."""


class JanusFlow(Reader):
    """One decoder between SigLIP features to read and the latents of a flow to draw."""

    reads = (*Reader.reads, "picture_begin")
    draws = ("encoder", "encoder_aligner", "decoder_norm", "decoder_aligner", "decoder")
    beside = 83_653_863  # of the VAE of SDXL, which is a model of its own
    config: JanusFlowConfig

    def __init__(self, config: JanusFlowConfig) -> None:
        super().__init__(config)
        width, flow = config.language.hidden_size, config.flow
        self.picture_begin = nn.Parameter(torch.zeros(width))
        self.encoder = UViTEncoder(flow, width)
        self.encoder_aligner = nn.Linear(flow.width, width)
        self.decoder_norm = nn.RMSNorm(width, eps=config.language.norm_eps)
        self.decoder_aligner = nn.Linear(width, flow.width)
        self.decoder = UViTDecoder(flow, width)

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, image size, image size) to embeddings (B, 1 + tokens, D).

        The first is the same for every picture, in the place of begin-of-image.
        """
        first = self.picture_begin.expand(len(pixels), 1, -1)
        return torch.cat((first, super().embed_images(pixels)), dim=1)

    def velocity(self, latent: Tensor, time: Tensor, prefix: Prefix) -> Tensor:
        """The velocities (B, C, S, S) at which a latent (1, C, S, S) moves at a time (1,).

        One for each row of the prefix.
        """
        features, embedded = self.encoder(latent, time)
        x = self.embed_latent(features, embedded).expand(len(prefix.positions), -1, -1)
        states = self.language.follow(x, prefix.layers, prefix.positions, prefix.seen)
        return self.velocity_of(states[:, 1:], features, embedded)

    def embed_latent(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Features (B, C, G, G) and time embeddings (B, D) to embeddings (B, 1 + G * G, D)."""
        patches = self.encoder_aligner(features.flatten(2).mT.to(self.dtype))
        return torch.cat((embedded[:, None].to(self.dtype), patches), dim=1)

    def velocity_of(self, states: Tensor, features: Tensor, embedded: Tensor) -> Tensor:
        """States of the patches (B, G * G, D) and what they began as to velocities (B, C, S, S)."""
        drawn = self.decoder_aligner(self.decoder_norm(states)).to(features.dtype)
        drawn = drawn.unflatten(1, features.shape[2:])
        rows = len(states)
        return self.decoder(drawn, features.expand(rows, -1, -1, -1), embedded.expand(rows, -1))
