"""A tiny random Janus of the engine's own, for tests that train it: quick to make, quick to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from janus_cli.engine.config import JanusConfig, LanguageConfig, VisionConfig, VQConfig
from janus_cli.engine.model import Janus
from janus_cli.engine.pixels import Preprocessing
from janus_cli.engine.prompt import JANUS_PRO, PromptWriter
from janus_cli.engine.save import save_checkpoint
from tests.checkpoints import VOCABULARY, tiny_tokenizer

SIDE = 64
CONFIG = JanusConfig(
    LanguageConfig(48, 80, layers=2, heads=4, kv_heads=2, head_size=12, vocabulary=VOCABULARY),
    VisionConfig(32, layers=2, heads=2, image_size=SIDE, patch_size=16),
    VQConfig(96, latent_channels=12, base_channels=8, res_blocks=1, groups=4),
)


@dataclass(frozen=True)
class Tiny:
    """A model with what stands around it in an engine."""

    model: Janus
    writer: PromptWriter
    preprocessing: Preprocessing
    image_tokens: int


def tiny_janus(seed: int = 0) -> Tiny:
    """Spread out, so that no two answers cost the same by chance."""
    torch.manual_seed(seed)
    model = Janus(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    writer = PromptWriter(
        tiny_tokenizer(), JANUS_PRO, CONFIG.vision.tokens, CONFIG.language.context
    )
    return Tiny(model, writer, Preprocessing(SIDE), CONFIG.image_tokens)


def save_tiny_janus(folder: Path, seed: int = 0) -> Path:
    """The same as a checkpoint folder."""
    tiny = tiny_janus(seed)
    save_checkpoint(tiny.model, tiny.writer, folder, dtype=torch.float32)
    return folder
