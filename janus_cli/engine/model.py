"""Janus as verbs: words and pictures to embeddings, states to logits, codes to pixels.

It holds the networks and nothing else: no tokenizer, no loop, no files. What reads is the same in
JanusFlow; what that draws with is in flow.py. Letters: B rows, T positions, D the decoder's width,
V words, C codes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config, JanusConfig
from .language import Decoder
from .linear import blank_embedding
from .tile import row_tile
from .vision import VisionTower
from .vq import VQTokenizer


class Aligner(nn.Module):
    """Linear layers with GELU between them: an encoder's features to the decoder's width."""

    def __init__(self, width_in: int, width_out: int, depth: int) -> None:
        super().__init__()
        inputs = [width_in] + [width_out] * (depth - 1)
        self.layers = nn.ModuleList(nn.Linear(width, width_out) for width in inputs)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = layer(F.gelu(x))
        return x


class GenerationHead(nn.Module):
    """Hidden states (B, D) to logits over codes (B, C)."""

    def __init__(self, width: int, codes: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.classify = nn.Linear(width, codes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(F.gelu(self.project(x)))


class Reader(nn.Module):
    """The decoder, and what every Janus reads with: SigLIP features and words in, words out."""

    reads: ClassVar[tuple[str, ...]] = ("vision", "aligner", "text_head")
    draws: ClassVar[tuple[str, ...]]
    """The parts that only reading, and only drawing, needs."""
    beside: ClassVar[int] = 0
    """How many numbers drawing takes that are not the model's own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.language.hidden_size
        self.language = Decoder(config.language)
        self.vision = VisionTower(config.vision)
        self.aligner = Aligner(config.vision.hidden_size, width, config.vision.aligner_depth)
        self.text_head = nn.Linear(width, config.language.vocabulary, bias=False)

    def keep(self, *, vision: bool, drawing: bool) -> None:
        """Leave out what a request does not need: what reads pictures, or what draws them."""
        parts = (() if vision else self.reads) + (() if drawing else self.draws)
        for name in parts:
            delattr(self, name)

    @property
    def device(self) -> torch.device:
        return self.language.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in; some weights may be held in less."""
        return self.language.norm.weight.dtype

    @property
    def cache_dtype(self) -> torch.dtype:
        """What keys and values are held in: the kernel's step takes them in bf16 alone."""
        return self.dtype if self.language.kernel_step is None else torch.bfloat16

    def embed_text(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to embeddings (B, T, D)."""
        return self.language.embed(ids).to(self.dtype)

    def embed_prompt(self, ids: Sequence[int], pixels: Tensor | None, placeholder: int) -> Tensor:
        """Embeddings (1, T, D) of a prompt, with the pictures in place of their placeholders."""
        tokens = torch.tensor([ids], device=self.device)
        embeddings = self.embed_text(tokens)
        if pixels is not None:
            features = self.embed_images(pixels.to(self.device))
            embeddings[tokens == placeholder] = features.flatten(0, 1)
        return embeddings

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, image size, image size) to embeddings (B, image tokens, D)."""
        return self.aligner(self.vision(pixels.to(self.dtype)))

    def text_logits(self, states: Tensor) -> Tensor:
        """Hidden states (..., D) to logits over words (..., V)."""
        return self.text_head(states)


class Janus(Reader):
    """One decoder between two ways of seeing: SigLIP features to read, VQ codes to draw."""

    draws = ("vq", "generation_embed", "generation_aligner", "generation_head")
    config: JanusConfig

    def __init__(self, config: JanusConfig) -> None:
        super().__init__(config)
        width = config.language.hidden_size
        self.vq = VQTokenizer(config.vq)
        self.generation_embed = blank_embedding(config.vq.codes, config.vq.code_size)
        self.generation_aligner = Aligner(config.vq.code_size, width, config.vq.aligner_depth)
        self.generation_head = GenerationHead(width, config.vq.codes)

    @functools.cached_property
    def drawing_rows(self) -> int:
        """Rows of a drawing batch come in multiples of this, so that none depends on the others."""
        layer = self.language.layers[0]
        parts = (layer, self.generation_aligner, self.generation_head)
        return row_tile(parts, dtype=self.dtype, device=self.device)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Codes (B, ...) to embeddings (B, ..., D)."""
        return self.generation_aligner(self.generation_embed(codes))

    def image_logits(self, states: Tensor) -> Tensor:
        """Hidden states (..., D) to logits over codes (..., C)."""
        return self.generation_head(states)

    def decode_pixels(self, codes: Tensor) -> Tensor:
        """Codes (B, image tokens), row by row, to pixels (B, 3, image size, image size)."""
        grid = self.config.grid
        return self.vq.decode(codes.view(-1, grid, grid))
