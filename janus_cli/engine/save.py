"""A model to a checkpoint folder in transformers' `janus` layout, which load.py reads back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..schema import CODE_GUIDANCE
from .config import Config, JanusConfig
from .layout import TRANSFORMERS
from .model import Janus
from .prompt import (
    BEGIN_OF_IMAGE,
    BEGIN_OF_SENTENCE,
    END_OF_IMAGE,
    END_OF_SENTENCE,
    PAD,
    PLACEHOLDER,
    PromptWriter,
)


def save_checkpoint(
    model: Janus,
    writer: PromptWriter,
    folder: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    guidance: float = CODE_GUIDANCE,
) -> None:
    """Write weights, config, tokenizer and preprocessor of a whole model.

    `guidance` is what it draws with where none is asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(dtype) for name, value in published_tensors(model).items()}
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors lets nobody else read what it writes
    writer.tokenizer.save(str(folder / "tokenizer.json"))
    dtype_name = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", config_json(model.config, writer, dtype_name))
    write_json(folder / "tokenizer_config.json", tokenizer_json(writer))
    write_json(folder / "preprocessor_config.json", preprocessor_json(model.config))
    write_json(folder / "generation_config.json", generation_json(writer, guidance))


def published_tensors(model: Janus) -> dict[str, Tensor]:
    """Our parameters under their published names, fused ones taken apart again."""
    tensors = {}
    language = model.config.language
    for name, parameter in model.named_parameters():
        parts = TRANSFORMERS.published(name)
        sizes = [len(parameter) // len(parts)] * len(parts)
        if len(parts) == 3 and name.startswith("language."):  # keys may have fewer heads
            kv_size = language.kv_heads * language.head_size
            sizes = [language.heads * language.head_size, kv_size, kv_size]
        for part, tensor in zip(parts, parameter.detach().split(sizes), strict=True):
            tensors[part] = tensor.contiguous()
    return tensors


def config_json(config: Config, writer: PromptWriter, dtype: str) -> dict[str, Any]:
    """config.json with every size written out; that of JanusFlow is of our own layout alone."""
    language, vision = config.language, config.vision
    drawing = (
        {"vq_config": vq_json(config)}
        if isinstance(config, JanusConfig)
        else {"flow_config": asdict(config.flow)}
    )
    return {
        "architectures": ["JanusForConditionalGeneration"],
        "model_type": "janus",
        "dtype": dtype,
        "image_token_id": writer.placeholder,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "llama",
            "hidden_size": language.hidden_size,
            "intermediate_size": language.intermediate_size,
            "num_hidden_layers": language.layers,
            "num_attention_heads": language.heads,
            "num_key_value_heads": language.kv_heads,
            "head_dim": language.head_size,
            "vocab_size": language.vocabulary,
            "max_position_embeddings": language.context,
            "rms_norm_eps": language.norm_eps,
            "rope_parameters": {"rope_type": "default", "rope_theta": language.rope_theta},
            "bos_token_id": writer.begin_of_sentence,
            "eos_token_id": writer.end_of_sentence,
            "pad_token_id": writer.pad,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "model_type": "janus_vision_model",
            "hidden_size": vision.hidden_size,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "mlp_ratio": vision.mlp_ratio,
            "layer_norm_eps": vision.norm_eps,
            "depth": vision.aligner_depth,
            "projection_dim": language.hidden_size,
            "num_image_tokens": config.image_tokens,
        },
        **drawing,
    }


def vq_json(config: JanusConfig) -> dict[str, Any]:
    vq, width = config.vq, config.language.hidden_size
    return {
        "model_type": "janus_vqgan",
        "num_embeddings": vq.codes,
        "embed_dim": vq.code_size,
        "latent_channels": vq.latent_channels,
        "base_channels": vq.base_channels,
        "channel_multiplier": list(vq.channel_multiplier),
        "num_res_blocks": vq.res_blocks,
        "num_groups": vq.groups,
        "num_hidden_layers": vq.aligner_depth,
        "projection_dim": width,
        "image_token_embed_dim": width,
    }


def tokenizer_json(writer: PromptWriter) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN_OF_SENTENCE,
        "eos_token": END_OF_SENTENCE,
        "pad_token": PAD,
        "additional_special_tokens": [BEGIN_OF_IMAGE, END_OF_IMAGE, PLACEHOLDER],
        "model_max_length": writer.context,
        "padding_side": "left",
    }


def preprocessor_json(config: Config) -> dict[str, Any]:
    half = [0.5, 0.5, 0.5]
    size = config.vision.image_size
    return {
        "image_processor_type": "JanusImageProcessor",
        "image_mean": half,
        "image_std": half,
        "min_size": 14,
        "size": {"height": size, "width": size},
        "do_pad": True,
        "background_color": [127, 127, 127],
    }


def generation_json(writer: PromptWriter, guidance: float = CODE_GUIDANCE) -> dict[str, Any]:
    return {
        "bos_token_id": writer.begin_of_sentence,
        "eos_token_id": writer.end_of_sentence,
        "pad_token_id": writer.pad,
        "guidance_scale": guidance,
        "temperature": 1.0,
        "generation_kwargs": {"boi_token_id": writer.begin_of_image},
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
