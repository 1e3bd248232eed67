"""The authors' layout (`multi_modality`): its config, and the sizes that it leaves to the tensors.

The published config names the vision tower and the VQ tokenizer ("siglip_large_patch16_384",
"VQ-16") where it could give their sizes; those are read off the tensors, and JanusFlow's as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ModelError
from .config import (
    Config,
    FlowConfig,
    JanusConfig,
    JanusFlowConfig,
    LanguageConfig,
    VisionConfig,
    VQConfig,
)
from .layout import AUTHORS, AUTHORS_FLOW, FLOW_DECODER, FLOW_ENCODER, FLOW_TOWER, TOWER, Layout
from .tensors import Stored

VQ = "gen_vision_model."
FLOW = "vision_gen_enc_config"  # the key that only JanusFlow's config has
HEAD_SIZE = 64  # of every SigLIP tower


Shapes = Mapping[str, tuple[int, ...]]


def parse(raw: Mapping[str, Any], tensors: Mapping[str, Stored]) -> tuple[Config, Layout]:
    """The config of a Janus, Janus-Pro or JanusFlow checkpoint, and what its tensors are called.

    Raises:
        ModelError: another model that shares the model_type, or a tensor that gives the sizes is
            missing.
    """
    if FLOW not in raw and "gen_head_config" not in raw:
        raise ModelError("config.json has no gen_head_config; it is not that of a Janus model")
    shapes = {name: stored.shape for name, stored in tensors.items()}
    language = LanguageConfig.parse(raw.get("language_config") or {})
    try:
        if FLOW in raw:
            reads, draws = vision(shapes, FLOW_TOWER, aligner_depth=1), flow(raw, shapes)
            return JanusFlowConfig(language, reads, draws), AUTHORS_FLOW
        depth = count(shapes, r"aligner\.layers\.(\d+)\.")
        reads = vision(shapes, TOWER, aligner_depth=depth)
        return JanusConfig(language, reads, vq(shapes)), AUTHORS
    except KeyError as error:
        raise ModelError(f"the checkpoint lacks tensor {error.args[0]}") from None


def vision(shapes: Shapes, tower: str, *, aligner_depth: int) -> VisionConfig:
    _, tokens, width = shapes[f"{tower}pos_embed"]
    patch = shapes[f"{tower}patch_embed.proj.weight"][-1]
    return VisionConfig(
        hidden_size=width,
        layers=count(shapes, rf"{tower}blocks\.(\d+)\."),
        heads=max(1, width // HEAD_SIZE),
        image_size=math.isqrt(tokens) * patch,
        patch_size=patch,
        mlp_ratio=shapes[f"{tower}blocks.0.mlp.fc1.weight"][0] / width,
        aligner_depth=aligner_depth,
    )


def flow(raw: Mapping[str, Any], shapes: Shapes) -> FlowConfig:
    width, channels, patch, _ = shapes[f"{FLOW_ENCODER}in_conv.weight"]
    params = (raw[FLOW] or {}).get("params") or {}
    if params.get("stride", patch) != patch:
        raise ModelError("config.json asks for patches that overlap, which JanusFlow has not")
    return FlowConfig(
        latent_channels=channels,
        patch_size=patch,
        width=width,
        encoder_blocks=count(shapes, rf"{FLOW_ENCODER}mid_block\.res_blocks\.(\d+)\."),
        decoder_blocks=count(shapes, rf"{FLOW_DECODER}mid_block\.res_blocks\.(\d+)\."),
        norm_eps=params.get("norm_eps", FlowConfig.norm_eps),
    )


def vq(shapes: Shapes) -> VQConfig:
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


def count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand in the names that the pattern matches."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})
