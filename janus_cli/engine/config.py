"""The sizes of a model, read from its config.json; no size stands anywhere else in the engine.

Keys are those of transformers' `janus` layout. A key that is absent takes the default that
transformers gives it, because the published files leave defaults out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import ModelError


@dataclass(frozen=True)
class LanguageConfig:
    """The Llama decoder; defaults of transformers' LlamaConfig."""

    hidden_size: int = 4096
    intermediate_size: int = 11008
    layers: int = 32
    heads: int = 32
    kv_heads: int = 32
    head_size: int = 128
    vocabulary: int = 32000
    context: int = 2048
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> LanguageConfig:
        hidden = raw.get("hidden_size", cls.hidden_size)
        heads = raw.get("num_attention_heads", cls.heads)
        rope = raw.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default" or raw.get("rope_scaling"):
            raise ModelError("config.json asks for scaled RoPE, which no Janus model uses")
        return cls(
            hidden_size=hidden,
            intermediate_size=raw.get("intermediate_size", cls.intermediate_size),
            layers=raw.get("num_hidden_layers", cls.layers),
            heads=heads,
            kv_heads=raw.get("num_key_value_heads") or heads,
            head_size=raw.get("head_dim") or hidden // heads,
            vocabulary=raw.get("vocab_size", cls.vocabulary),
            context=raw.get("max_position_embeddings", cls.context),
            rope_theta=rope.get("rope_theta", raw.get("rope_theta", cls.rope_theta)),
            norm_eps=raw.get("rms_norm_eps", cls.norm_eps),
        )


@dataclass(frozen=True)
class VisionConfig:
    """The SigLIP tower; defaults of transformers' JanusVisionConfig (siglip_large_patch16_384)."""

    hidden_size: int = 1024
    layers: int = 24
    heads: int = 16
    image_size: int = 384
    patch_size: int = 16
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    aligner_depth: int = 2

    @property
    def tokens(self) -> int:
        """Image tokens that one picture takes in a prompt."""
        return (self.image_size // self.patch_size) ** 2

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> VisionConfig:
        return cls(
            hidden_size=raw.get("hidden_size", cls.hidden_size),
            layers=raw.get("num_hidden_layers", cls.layers),
            heads=raw.get("num_attention_heads", cls.heads),
            image_size=raw.get("image_size", cls.image_size),
            patch_size=raw.get("patch_size", cls.patch_size),
            mlp_ratio=raw.get("mlp_ratio", cls.mlp_ratio),
            norm_eps=raw.get("layer_norm_eps", cls.norm_eps),
            aligner_depth=raw.get("depth", cls.aligner_depth),
        )


@dataclass(frozen=True)
class VQConfig:
    """The VQ-16 image tokenizer of LlamaGen; defaults of transformers' JanusVQVAEConfig."""

    codes: int = 16384
    code_size: int = 8
    latent_channels: int = 256
    base_channels: int = 128
    channel_multiplier: tuple[int, ...] = (1, 1, 2, 2, 4)
    res_blocks: int = 2
    groups: int = 32
    """Groups of each group norm: 32 in every released model; ours to choose in a small one."""
    aligner_depth: int = 2

    @property
    def factor(self) -> int:
        """Pixels along one side of the square that a code stands for."""
        return 2 ** (len(self.channel_multiplier) - 1)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> VQConfig:
        return cls(
            codes=raw.get("num_embeddings", cls.codes),
            code_size=raw.get("embed_dim", cls.code_size),
            latent_channels=raw.get("latent_channels", cls.latent_channels),
            base_channels=raw.get("base_channels", cls.base_channels),
            channel_multiplier=tuple(raw.get("channel_multiplier", cls.channel_multiplier)),
            res_blocks=raw.get("num_res_blocks", cls.res_blocks),
            groups=raw.get("num_groups", cls.groups),
            aligner_depth=raw.get("num_hidden_layers", cls.aligner_depth),
        )


@dataclass(frozen=True)
class JanusConfig:
    language: LanguageConfig
    vision: VisionConfig
    vq: VQConfig

    @property
    def grid(self) -> int:
        """Codes along one side of a drawn picture."""
        return self.vision.image_size // self.vq.factor

    @property
    def image_tokens(self) -> int:
        """Codes of one drawn picture."""
        return self.grid**2


@dataclass(frozen=True)
class FlowConfig:
    """The shallow U-ViT that JanusFlow draws with; defaults of the published model."""

    latent_channels: int = 4
    latent_factor: int = 8
    """Pixels along one side of the square that a number of a latent stands for: the VAE's."""
    patch_size: int = 2
    width: int = 768
    encoder_blocks: int = 2
    decoder_blocks: int = 2
    norm_eps: float = 1e-6

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> FlowConfig:
        return cls(**{field.name: raw.get(field.name, field.default) for field in fields(cls)})


@dataclass(frozen=True)
class JanusFlowConfig:
    language: LanguageConfig
    vision: VisionConfig
    flow: FlowConfig

    @property
    def latent_side(self) -> int:
        """Numbers along one side of a channel of a latent."""
        return self.vision.image_size // self.flow.latent_factor

    @property
    def grid(self) -> int:
        """Patches along one side of a latent."""
        return self.latent_side // self.flow.patch_size

    @property
    def image_tokens(self) -> int:
        """Patches of one drawn picture, each a position of the decoder."""
        return self.grid**2


Config = JanusConfig | JanusFlowConfig


def parse(raw: Mapping[str, Any]) -> Config:
    """The config of a checkpoint in transformers' layout, or in ours, which has the same keys.

    Raises:
        ModelError: the config is not one of a Janus model.
    """
    kind = raw.get("model_type")
    if kind not in ("janus", "janus_cli"):
        raise ModelError(f"config.json is of model_type {kind!r}, not 'janus'")
    language = LanguageConfig.parse(raw.get("text_config") or {})
    vision = VisionConfig.parse(raw.get("vision_config") or {})
    if "flow_config" in raw:  # of ours alone: transformers has no JanusFlow
        return JanusFlowConfig(language, vision, FlowConfig.parse(raw["flow_config"]))
    return JanusConfig(language, vision, VQConfig.parse(raw.get("vq_config") or {}))
