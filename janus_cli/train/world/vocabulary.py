"""The embedded model's tokenizer: a byte-level BPE trained on the sentences of the world.

Capital letters and digits are never merged, so that reading a picture is spelling it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ...engine.prompt import (
    BEGIN_OF_IMAGE,
    BEGIN_OF_SENTENCE,
    END_OF_IMAGE,
    END_OF_SENTENCE,
    JANUS_PRO,
    PAD,
    PLACEHOLDER,
    SYSTEM,
)
from .questions import corpus

SPECIAL_TOKENS = (
    BEGIN_OF_SENTENCE,
    END_OF_SENTENCE,
    PAD,
    BEGIN_OF_IMAGE,
    END_OF_IMAGE,
    PLACEHOLDER,
    JANUS_PRO.user,
    JANUS_PRO.assistant,
)
# A word with the space before it, a single capital or digit, or a run of anything else.
PIECES = Regex(r" ?[a-z]+| ?[A-Z][a-z]+| ?[A-Z0-9]|\s+|[^\sA-Za-z0-9]+")
SYSTEM_REPEATS = 200  # the system prompt stands in every conversation


def build_tokenizer(vocabulary: int, *, scenes: int = 4000) -> Tokenizer:
    """A tokenizer of exactly `vocabulary` entries, special tokens first; it can spell any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PIECES, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(scenes), trainer)
    return tokenizer


def sentences(scenes: int) -> Iterator[str]:
    yield from [SYSTEM] * SYSTEM_REPEATS
    for sentence in corpus(0, scenes):
        yield f" {sentence}"
        yield sentence
