"""Our networks and loops against transformers' JanusForConditionalGeneration, in fp32."""

import pytest
import torch

from janus_cli.engine.checkpoint import read_object
from janus_cli.engine.config import parse
from janus_cli.engine.decode import Sampling
from janus_cli.engine.load import open_engine
from janus_cli.engine.prompt import END_OF_SENTENCE
from janus_cli.schema import ModelChoice, Turn
from tests.checkpoints import IMAGE_SIZE, save_tiny_checkpoint
from tests.engines import answer, draw, embed

CHOICE = {"device": "cpu", "precision": "fp32"}
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(
    scope="module", params=[{"kv_heads": 2}, {"kv_heads": 4, "understanding_patch": 32, "seed": 2}]
)
def engines(request, tmp_path_factory):
    """(ours, transformers') on one checkpoint: with grouped keys, and with two grids."""
    path = save_tiny_checkpoint(tmp_path_factory.mktemp("model"), **request.param)
    return (
        open_engine(path, ModelChoice(**CHOICE)),
        open_engine(path, ModelChoice(**CHOICE, backend="transformers")),
    )


def some_pixels(pictures: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(pictures, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator) * 2 - 1


def test_image_features(engines):
    ours, reference = engines
    with torch.no_grad():
        expected = reference.model.model.get_image_features(some_pixels(2)).pooler_output
        torch.testing.assert_close(ours.model.embed_images(some_pixels(2)), expected, **CLOSE)


def test_logits_of_a_conversation(engines):
    ours, reference = engines
    ids = ours.writer.conversation(1, [Turn("how many?", "two")], "a red circle?")
    tokens, pixels = torch.tensor([ids]), some_pixels()
    with torch.no_grad():
        expected = reference.model(input_ids=tokens, pixel_values=pixels).logits
        states = ours.model.language(embed(ours, ids, pixels))
        torch.testing.assert_close(ours.model.text_logits(states), expected, **CLOSE)


def test_cached_steps_equal_the_whole_sequence(engines):
    ours, _ = engines
    embeddings = torch.randn(1, 20, ours.model.config.language.hidden_size)
    with torch.no_grad():
        expected = ours.model.language(embeddings)[0]
        cache = ours.new_cache(rows=3, capacity=20)
        states = [ours.model.language.prefill(embeddings[:, :9], cache, [0, 1, 2])[0]]
        for position in range(9, 20):
            states.append(ours.model.language.step(embeddings[:, position].expand(3, -1), cache)[1])
    torch.testing.assert_close(torch.stack(states), expected[8:], **CLOSE)


def test_rows_of_different_lengths_do_not_see_each_other(engines):
    ours, _ = engines
    long, short, later = torch.randn(3, 1, 12, ours.model.config.language.hidden_size)
    with torch.no_grad():
        expected = ours.model.language(torch.cat((short[:, :5], later[:, :4]), dim=1))[0, 5:]
        cache = ours.new_cache(rows=2, capacity=20)
        ours.model.language.prefill(long, cache, [0])
        ours.model.language.prefill(short[:, :5], cache, [1])
        states = [ours.model.language.step(later[:, i].expand(2, -1), cache)[1] for i in range(4)]
    torch.testing.assert_close(torch.stack(states), expected, **CLOSE)


def test_greedy_text(engines):
    ours, reference = engines
    ids = ours.writer.conversation(2, [], "how many penguins are there?")
    answers = [answer(e, ids, some_pixels(2), max_tokens=32) for e in (ours, reference)]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 32
    assert len(set(answers[0])) > 5


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_greedy_guided_codes_over_the_whole_grid(engines, guidance):
    ours, reference = engines
    ids = ours.writer.drawing("a red circle on white")
    sampling = Sampling(guidance=guidance, temperature=0)
    grids = [draw(engine, ids, sampling=sampling) for engine in (ours, reference)]
    assert torch.equal(*grids)
    assert grids[0].shape == (1, (IMAGE_SIZE // 16) ** 2)
    assert grids[0].unique().numel() > 3


def test_guidance_changes_the_codes(engines):
    ours, _ = engines
    ids = ours.writer.drawing("a red circle on white")
    first, second = (draw(ours, ids, sampling=Sampling(g, 0)) for g in (1.0, 5.0))
    assert not torch.equal(first, second)


def test_pixels_of_codes(engines):
    ours, reference = engines
    codes = torch.randint(
        96, (2, (IMAGE_SIZE // 16) ** 2), generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        expected = reference.model.decode_image_tokens(codes).movedim(-1, 1)
        torch.testing.assert_close(ours.model.decode_pixels(codes), expected, **CLOSE)
    assert (ours.paint(codes).int() - reference.paint(codes).int()).abs().max() <= 1


def test_latents_of_the_vq_encoder(engines):
    """The encoder's network is transformers'; its nearest codes follow the authors' rule."""
    ours, reference = engines
    with torch.no_grad():
        latents = ours.model.vq.quant_conv(ours.model.vq.encoder(some_pixels()))
        vq = reference.model.model.vqmodel
        expected = vq.quant_conv(vq.encoder(some_pixels()))
        torch.testing.assert_close(latents, expected, **CLOSE)
        points = latents.movedim(1, -1)
        points = points / points.norm(dim=-1, keepdim=True)
        entries = vq.quantize.embedding.weight
        entries = entries / entries.norm(dim=-1, keepdim=True)
        nearest = torch.cdist(points.reshape(-1, 8), entries).argmin(-1)
        assert torch.equal(ours.model.vq.encode(some_pixels()).flatten(), nearest)


def test_a_written_checkpoint_reads_back_the_same(engines, tmp_path):
    from janus_cli.engine.save import save_checkpoint

    ours, _ = engines
    save_checkpoint(ours.model, ours.writer, tmp_path, dtype=torch.float32)
    again = open_engine(tmp_path, ModelChoice(**CHOICE))
    for (name, one), two in zip(
        ours.model.named_parameters(), again.model.parameters(), strict=True
    ):
        assert torch.equal(one, two), name
    assert parse(read_object(tmp_path / "config.json")) == ours.model.config
    reference = open_engine(tmp_path, ModelChoice(**CHOICE, backend="transformers"))
    ids = ours.writer.conversation(1, [], "two")
    expected = answer(ours, ids, some_pixels(), max_tokens=8)
    assert answer(reference, ids, some_pixels(), max_tokens=8) == expected


def test_the_end_of_the_sentence_ends_the_answer(engines):
    ours, _ = engines
    ids = ours.writer.conversation(1, [], "two")
    whole = answer(ours, ids, some_pixels(), max_tokens=6)
    end = ours.writer.end_of_sentence
    assert ours.writer.tokenizer.token_to_id(END_OF_SENTENCE) == end
    ours.writer.end_of_sentence = whole[3]
    try:
        first = whole.index(whole[3])
        assert answer(ours, ids, some_pixels(), max_tokens=6) == whole[:first]
    finally:
        ours.writer.end_of_sentence = end
