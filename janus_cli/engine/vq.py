"""The VQ tokenizer: pixels to a grid of codes and back. It knows nothing of words.

The VQ-16 of LlamaGen (arXiv 2406.06525), which is the VQGAN autoencoder (arXiv 2012.09841) with a
small, l2-normalised codebook. Letters: B pictures, C channels, H and W rows and columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import VQConfig
from .linear import blank_embedding

NORM_EPS = 1e-6


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x
        x = self.conv1(F.silu(self.norm1(x)))
        x = self.conv2(F.silu(self.norm2(x)))
        return residual + x


class AttentionBlock(nn.Module):
    """Single-head attention over all positions of the grid."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (
            layer(normed).flatten(2).transpose(1, 2).unsqueeze(1)  # (B, 1, HW, C)
            for layer in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2)
        return x + self.proj_out(mixed.reshape(x.shape))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class MiddleBlock(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = AttentionBlock(channels, groups)
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention if it is the lowest."""

    def __init__(
        self, channels_in: int, channels_out: int, blocks: int, groups: int, attention: bool
    ) -> None:
        super().__init__()
        inputs = [channels_in] + [channels_out] * (blocks - 1)
        self.block = nn.ModuleList(ResidualBlock(c, channels_out, groups) for c in inputs)
        attention_blocks = blocks if attention else 0
        self.attn = nn.ModuleList(
            AttentionBlock(channels_out, groups) for _ in range(attention_blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        return self.upsample(x) if hasattr(self, "upsample") else x


class Encoder(nn.Module):
    """Pixels (B, 3, H, W) in [-1, 1] to latents (B, latent channels, H / factor, W / factor)."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        widths = [config.base_channels * m for m in config.channel_multiplier]
        lowest = len(widths) - 1
        self.conv_in = nn.Conv2d(3, config.base_channels, 3, padding=1)
        self.down = nn.ModuleList()
        channels = config.base_channels
        for index, width in enumerate(widths):
            level = Level(channels, width, config.res_blocks, config.groups, index == lowest)
            if index != lowest:
                level.downsample = Downsample(width)
            self.down.append(level)
            channels = width
        self.mid = MiddleBlock(channels, config.groups)
        self.norm_out = nn.GroupNorm(config.groups, channels, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(channels, config.latent_channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv_in(pixels)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents (B, latent channels, H, W) to pixels (B, 3, H * factor, W * factor)."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        widths = [config.base_channels * m for m in reversed(config.channel_multiplier)]
        last = len(widths) - 1
        channels = widths[0]
        self.conv_in = nn.Conv2d(config.latent_channels, channels, 3, padding=1)
        self.mid = MiddleBlock(channels, config.groups)
        self.up = nn.ModuleList()  # lowest resolution first
        for index, width in enumerate(widths):
            level = Level(channels, width, config.res_blocks + 1, config.groups, index == 0)
            if index != last:
                level.upsample = Upsample(width)
            self.up.append(level)
            channels = width
        self.norm_out = nn.GroupNorm(config.groups, channels, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.mid(self.conv_in(latents))
        for level in self.up:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Codebook(nn.Module):
    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.embedding = blank_embedding(config.codes, config.code_size)

    def nearest(self, latents: Tensor) -> Tensor:
        """Codes (B, H, W) nearest to latents (B, code size, H, W), both on the unit sphere.

        On the sphere the nearest entry is the one with the largest product. transformers compares
        without normalising, so its encoder gives other codes than the authors' does.
        """
        points = F.normalize(latents.movedim(1, -1), dim=-1)
        return (points @ self.entries().T).argmax(-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (B, H, W) to their entries (B, code size, H, W), of length 1."""
        return F.embedding(codes, self.entries()).movedim(-1, 1)

    def entries(self) -> Tensor:
        return F.normalize(self.embedding.weight, dim=-1)


class VQTokenizer(nn.Module):
    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Codebook(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_size, 1)
        self.post_quant_conv = nn.Conv2d(config.code_size, config.latent_channels, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] to codes (B, H / factor, W / factor), int64."""
        return self.quantize.nearest(self.quant_conv(self.encoder(pixels)))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, H, W) to pixels (B, 3, H * factor, W * factor), about [-1, 1]."""
        return self.decoder(self.post_quant_conv(self.quantize.lookup(codes)))


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) about [-1, 1] to uint8 (B, H, W, 3), truncated as the authors do."""
    scaled = (pixels.float() + 1) / 2 * 255
    return scaled.clamp(0, 255).to(torch.uint8).movedim(1, -1)
