"""What the tensors of a checkpoint are called: our names to those of transformers' `janus` layout.

Ours are fused where one product serves several; the parts are joined along the first dimension.
"""

from __future__ import annotations

import re

# Our name, then the published names whose tensors are joined to make it.
RENAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"language\.embed\.", ("model.language_model.embed_tokens.",)),
    (r"language\.norm\.", ("model.language_model.norm.",)),
    (
        r"language\.layers\.(\d+)\.attention\.qkv\.",
        tuple(rf"model.language_model.layers.\1.self_attn.{part}_proj." for part in "qkv"),
    ),
    (
        r"language\.layers\.(\d+)\.attention\.out\.",
        (r"model.language_model.layers.\1.self_attn.o_proj.",),
    ),
    (
        r"language\.layers\.(\d+)\.mlp\.gate_up\.",
        tuple(rf"model.language_model.layers.\1.mlp.{part}_proj." for part in ("gate", "up")),
    ),
    (
        r"language\.layers\.(\d+)\.mlp\.down\.",
        (r"model.language_model.layers.\1.mlp.down_proj.",),
    ),
    (
        r"language\.layers\.(\d+)\.attention_norm\.",
        (r"model.language_model.layers.\1.input_layernorm.",),
    ),
    (
        r"language\.layers\.(\d+)\.mlp_norm\.",
        (r"model.language_model.layers.\1.post_attention_layernorm.",),
    ),
    (r"text_head\.", ("lm_head.",)),
    (r"vision\.patch_embed\.", ("model.vision_model.embeddings.patch_embedding.",)),
    (r"vision\.positions$", ("model.vision_model.embeddings.position_embedding.weight",)),
    (r"vision\.norm\.", ("model.vision_model.post_layernorm.",)),
    (
        r"vision\.layers\.(\d+)\.attention\.qkv\.",
        tuple(rf"model.vision_model.encoder.layers.\1.self_attn.{part}_proj." for part in "qkv"),
    ),
    (
        r"vision\.layers\.(\d+)\.attention\.out\.",
        (r"model.vision_model.encoder.layers.\1.self_attn.projection_layer.",),
    ),
    (r"vision\.layers\.(\d+)\.mlp\.up\.", (r"model.vision_model.encoder.layers.\1.mlp.fc1.",)),
    (r"vision\.layers\.(\d+)\.mlp\.down\.", (r"model.vision_model.encoder.layers.\1.mlp.fc2.",)),
    (
        r"vision\.layers\.(\d+)\.attention_norm\.",
        (r"model.vision_model.encoder.layers.\1.layer_norm1.",),
    ),
    (
        r"vision\.layers\.(\d+)\.mlp_norm\.",
        (r"model.vision_model.encoder.layers.\1.layer_norm2.",),
    ),
    (r"vq\.", ("model.vqmodel.",)),
    (r"generation_embed\.", ("model.generation_embeddings.",)),
    (r"generation_head\.project\.", ("model.generation_head.proj_out.",)),
    (r"generation_head\.classify\.", ("model.generation_head.vision_head.",)),
)
ALIGNER = re.compile(r"((?:generation_)?aligner)\.layers\.(\d+)\.(.*)")


def published_names(name: str) -> tuple[str, ...]:
    """The tensors of a checkpoint that make up our parameter `name`, in the order of joining."""
    aligner = ALIGNER.fullmatch(name)
    if aligner:
        module, index, rest = aligner.groups()
        layer = "fc1" if index == "0" else f"hidden_layers.{int(index) - 1}"
        return (f"model.{module}.{layer}.{rest}",)
    for pattern, replacements in RENAMES:
        if re.match(pattern, name):
            return tuple(re.sub(f"^{pattern}", new, name, count=1) for new in replacements)
    raise AssertionError(f"no published name for {name}")
