"""Tiny random checkpoints, saved by transformers itself, for tests that need any model."""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = [
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<begin_of_image>",
    "<end_of_image>",
    "<image_placeholder>",
]
WORDS = ["how many penguins are there", "a red circle on white", "User Assistant", "two three"]
VOCABULARY = 400
IMAGE_SIZE = 64


def tiny_tokenizer() -> Tokenizer:
    """A byte-level tokenizer with Janus's special tokens; it can spell any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS * 20, trainer)
    return tokenizer


def tiny_config(
    *, kv_heads: int = 2, understanding_patch: int = 16, vision_heads: int = 2, width: int = 48
):
    """A JanusConfig of transformers with every size small and none equal to another by chance."""
    from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

    config = JanusConfig(
        text_config=LlamaConfig(
            hidden_size=width,
            intermediate_size=width * 5 // 3,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            vocab_size=VOCABULARY,
            max_position_embeddings=512,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
        ),
        vision_config=JanusVisionConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=vision_heads,
            image_size=IMAGE_SIZE,
            patch_size=understanding_patch,
            projection_dim=width,
            num_image_tokens=(IMAGE_SIZE // 16) ** 2,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=96,
            latent_channels=24,
            base_channels=32,
            channel_multiplier=[1, 1, 2, 2, 1],
            num_res_blocks=1,
            projection_dim=width,
            image_token_embed_dim=width,
        ),
        tie_word_embeddings=False,
    )
    config.image_token_id = SPECIAL_TOKENS.index("<image_placeholder>")
    return config


def save_tiny_checkpoint(folder: Path, *, seed: int = 0, **sizes: int) -> Path:
    """Write a random checkpoint with `save_pretrained`, spread out so that no answer is a tie."""
    from transformers import JanusForConditionalGeneration

    torch.manual_seed(seed)
    model = JanusForConditionalGeneration(tiny_config(**sizes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif "norm" not in name:
                parameter.normal_(std=0.1)
        # Leave the end of the sentence out of reach, so that greedy answers run to their limit.
        model.lm_head.weight[SPECIAL_TOKENS.index("<｜end▁of▁sentence｜>")] = 0
    model.save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


# What the authors call what transformers calls otherwise, after the table of transformers' own
# convert_janus_weights_to_hf.py, read backwards.
AUTHORS_NAMES = (
    (r"model\.vision_model\.embeddings\.position_embedding\.weight", "VT.pos_embed"),
    (r"model\.vision_model\.embeddings\.patch_embedding\.", "VT.patch_embed.proj."),
    (r"model\.vision_model\.post_layernorm\.", "VT.norm."),
    (r"model\.vision_model\.encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"VT.blocks.\1.norm\2."),
    (r"model\.vision_model\.encoder\.layers\.(\d+)\.mlp\.", r"VT.blocks.\1.mlp."),
    (
        r"model\.vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection_layer\.",
        r"VT.blocks.\1.attn.proj.",
    ),
    (r"VT\.", "vision_model.vision_tower."),
    (r"model\.aligner\.fc1\.", "aligner.layers.0."),
    (r"model\.aligner\.hidden_layers\.0\.", "aligner.layers.2."),
    (r"model\.generation_aligner\.fc1\.", "gen_aligner.layers.0."),
    (r"model\.generation_aligner\.hidden_layers\.0\.", "gen_aligner.layers.2."),
    (r"model\.generation_embeddings\.", "gen_embed."),
    (r"model\.generation_head\.proj_out\.", "gen_head.output_mlp_projector."),
    (r"model\.generation_head\.vision_head\.", "gen_head.vision_head."),
    (
        r"model\.vqmodel\.(en|de)coder\.(?:down|up)\.(\d+)\.block\.",
        r"VQ.\1coder.conv_blocks.\2.res.",
    ),
    (r"model\.vqmodel\.(en|de)coder\.(?:down|up)\.(\d+)\.", r"VQ.\1coder.conv_blocks.\2."),
    (r"model\.vqmodel\.(en|de)coder\.mid\.block_1\.", r"VQ.\1coder.mid.0."),
    (r"model\.vqmodel\.(en|de)coder\.mid\.attn_1\.", r"VQ.\1coder.mid.1."),
    (r"model\.vqmodel\.(en|de)coder\.mid\.block_2\.", r"VQ.\1coder.mid.2."),
    (r"model\.vqmodel\.", "VQ."),
    (r"VQ\.", "gen_vision_model."),
    (r"model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
)


def authors_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint in transformers' layout, as the authors would have saved them."""
    tensors: dict[str, torch.Tensor] = {}
    queries: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        part = re.match(
            r"model\.vision_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", name
        )
        if part:
            layer, letter, kind = part.groups()
            fused = f"vision_model.vision_tower.blocks.{layer}.attn.qkv.{kind}"
            queries.setdefault(fused, {})[letter] = tensor
            continue
        for pattern, replacement in AUTHORS_NAMES:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor[None] if name.endswith("pos_embed") else tensor
    for fused, parts in queries.items():
        tensors[fused] = torch.cat([parts[letter] for letter in "qkv"])
    # What the published files hold and nobody reads.
    tensors["vision_model.vision_tower.attn_pool.latent"] = torch.randn(1, 1, 32)
    tensors["gen_vision_model.quantize.codebook_used"] = torch.zeros(64)
    return tensors


def save_authors_twin(original: Path, folder: Path, *, files: str = "bin") -> Path:
    """The same model in the authors' layout; `files` is "bin", "shards" or "safetensors"."""
    tensors = authors_tensors(original)
    raw = json.loads((original / "config.json").read_text())
    config = {
        "model_type": "multi_modality",
        "architectures": ["MultiModalityCausalLM"],
        "language_config": raw["text_config"],
        "vision_config": {
            "cls": "CLIPVisionTower",
            "params": {"model_name": "siglip_large_patch16_384", "select_layer": -1},
        },
        "gen_head_config": {"cls": "vision_head", "params": {}},
        "gen_vision_config": {"cls": "VQ-16", "params": {}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(original / "tokenizer.json", folder)
    if files == "safetensors":
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    elif files == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        names = sorted(tensors)
        shards = {
            f"pytorch_model-0000{number}-of-00002.bin": names[number - 1 :: 2] for number in (1, 2)
        }
        for file, part in shards.items():
            torch.save({name: tensors[name] for name in part}, folder / file)
        weight_map = {name: file for file, part in shards.items() for name in part}
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder
