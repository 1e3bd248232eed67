"""The authors' layout (`multi_modality`): its config, and the sizes that it leaves to the tensors.

The published config names the vision tower and the VQ tokenizer ("siglip_large_patch16_384",
"VQ-16") where it could give their sizes; those are read off the tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ModelError
from .config import JanusConfig, LanguageConfig, VisionConfig, VQConfig
from .tensors import Stored

TOWER = "vision_model.vision_tower."
VQ = "gen_vision_model."
HEAD_SIZE = 64  # of every SigLIP tower


def parse(raw: Mapping[str, Any], tensors: Mapping[str, Stored]) -> JanusConfig:
    """The config of a Janus or Janus-Pro checkpoint.

    Raises:
        ModelError: another model that shares the model_type, or a tensor that gives the sizes is
            missing.
    """
    if "vision_gen_enc_config" in raw:
        raise ModelError("config.json is that of JanusFlow, which this version cannot run")
    if "gen_head_config" not in raw:
        raise ModelError("config.json has no gen_head_config; it is not that of a Janus model")
    shapes = {name: stored.shape for name, stored in tensors.items()}
    try:
        return JanusConfig(
            LanguageConfig.parse(raw.get("language_config") or {}), vision(shapes), vq(shapes)
        )
    except KeyError as error:
        raise ModelError(f"the checkpoint lacks tensor {error.args[0]}") from None


def vision(shapes: Mapping[str, tuple[int, ...]]) -> VisionConfig:
    _, tokens, width = shapes[f"{TOWER}pos_embed"]
    patch = shapes[f"{TOWER}patch_embed.proj.weight"][-1]
    return VisionConfig(
        hidden_size=width,
        layers=count(shapes, rf"{TOWER}blocks\.(\d+)\."),
        heads=max(1, width // HEAD_SIZE),
        image_size=math.isqrt(tokens) * patch,
        patch_size=patch,
        mlp_ratio=shapes[f"{TOWER}blocks.0.mlp.fc1.weight"][0] / width,
        aligner_depth=count(shapes, r"aligner\.layers\.(\d+)\."),
    )


def vq(shapes: Mapping[str, tuple[int, ...]]) -> VQConfig:
    codes, code_size = shapes[f"{VQ}quantize.embedding.weight"]
    base = shapes[f"{VQ}encoder.conv_in.weight"][0]
    levels = count(shapes, rf"{VQ}encoder\.conv_blocks\.(\d+)\.")
    blocks = f"{VQ}encoder.conv_blocks."
    widths = [shapes[f"{blocks}{level}.res.0.conv1.weight"][0] for level in range(levels)]
    return VQConfig(
        codes=codes,
        code_size=code_size,
        latent_channels=shapes[f"{VQ}encoder.conv_out.weight"][0],
        base_channels=base,
        channel_multiplier=tuple(width // base for width in widths),
        res_blocks=count(shapes, rf"{VQ}encoder\.conv_blocks\.0\.res\.(\d+)\."),
        aligner_depth=count(shapes, r"gen_aligner\.layers\.(\d+)\."),
    )


def count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    """How many different numbers stand in the names that the pattern matches."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})
