"""Tiny random checkpoints, saved by transformers itself, for tests that need any model."""

from pathlib import Path

import torch
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


def tiny_config(*, kv_heads: int = 2, understanding_patch: int = 16):
    """A JanusConfig of transformers with every size small and none equal to another by chance."""
    from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

    config = JanusConfig(
        text_config=LlamaConfig(
            hidden_size=48,
            intermediate_size=80,
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
            num_attention_heads=2,
            image_size=IMAGE_SIZE,
            patch_size=understanding_patch,
            projection_dim=48,
            num_image_tokens=(IMAGE_SIZE // 16) ** 2,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=96,
            latent_channels=24,
            base_channels=32,
            channel_multiplier=[1, 1, 2, 2, 1],
            num_res_blocks=1,
            projection_dim=48,
            image_token_embed_dim=48,
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
