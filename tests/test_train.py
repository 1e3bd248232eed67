"""What the stages of the embedded model share: its words, optimizer, codes and streams."""

import math

import pytest
import torch

from janus_cli.engine.prompt import JANUS_PRO, SYSTEM, PromptWriter
from janus_cli.engine.vq import VQTokenizer
from janus_cli.train import recipe
from janus_cli.train.data import TRAINING_SEEDS, stream
from janus_cli.train.vision_stage import CLASS_COUNTS, LabelHeads, LabelledPicture
from janus_cli.train.vq_stage import quantize, revive_dead_codes
from janus_cli.train.world.scene import sample_crowd
from janus_cli.train.world.vocabulary import SPECIAL_TOKENS, build_tokenizer

SCENES = 300  # of the tokenizer's corpus; training takes more


@pytest.fixture(scope="module")
def writer() -> PromptWriter:
    config = recipe.EMBEDDED
    tokenizer = build_tokenizer(config.language.vocabulary, scenes=SCENES)
    return PromptWriter(tokenizer, JANUS_PRO, config.vision.tokens, config.language.context)


def test_the_tokenizer_spells_capitals_and_digits_one_by_one(writer):
    for text in ("HELLO42", "A1B2", "two red circles on white", SYSTEM, "naïve 🐧\n"):
        tokens = writer.tokenizer.encode(text).tokens
        assert writer.tokenizer.decode(writer.tokenizer.encode(text).ids) == text
        assert not [
            t for t in tokens if sum(c.isupper() or c.isdigit() for c in t) > 1 and t.isascii()
        ]
    assert writer.tokenizer.get_vocab_size() == recipe.EMBEDDED.language.vocabulary
    assert [writer.tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == list(range(8))


def test_what_is_seldom_there_counts_as_much_as_what_is_everywhere():
    """A tower that tells the places of empty patches alone has learned half of it."""
    labels = {name: torch.zeros(1, 144, dtype=torch.int64) for name in CLASS_COUNTS}
    labels["row"] = torch.arange(144)[None] // 12
    labels["kind"][0, 70:73] = 1
    heads = LabelHeads(12)
    torch.nn.init.eye_(heads.heads["row"].weight)
    torch.nn.init.zeros_(heads.heads["row"].bias)
    features = 50 * torch.nn.functional.one_hot(labels["row"], 12).float()
    features[labels["kind"] > 0] = 0
    loss = heads.losses(features, labels)["row"]
    assert loss.item() == pytest.approx(math.log(12), rel=1e-4)
    assert heads.accuracies(features, labels)["row"] < 0.5


def test_an_orthogonalised_update_has_singular_values_near_one():
    for shape in ((64, 192), (192, 64), (128, 128)):
        values = torch.linalg.svdvals(recipe.orthogonalise(torch.randn(shape)))
        assert values.max() < 1.3
        assert values.median() > 0.6


def test_rate_warms_up_and_falls():
    rates = [recipe.warm_cosine(step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == max(rates[90:110])
    assert rates[-1] == pytest.approx(0.05)


def test_quantization_passes_the_gradient_straight_through():
    vq = VQTokenizer(recipe.EMBEDDED.vq)
    torch.nn.init.normal_(vq.quantize.embedding.weight)
    latents = torch.randn(1, 8, 3, 3, requires_grad=True)
    entries, loss, codes = quantize(vq, latents)
    torch.testing.assert_close(entries, vq.quantize.lookup(codes))
    entries.sum().backward(retain_graph=True)
    assert latents.grad is not None and latents.grad.abs().sum() > 0
    loss.backward()
    assert vq.quantize.embedding.weight.grad is not None


def test_only_dead_codes_are_revived():
    vq = VQTokenizer(recipe.EMBEDDED.vq)
    torch.nn.init.normal_(vq.quantize.embedding.weight)
    before = vq.quantize.embedding.weight.detach().clone()
    used = torch.ones(recipe.EMBEDDED.vq.codes)
    used[[3, 7]] = 0
    assert revive_dead_codes(vq, torch.randn(1, 8, 4, 4), used) == 2
    moved = (vq.quantize.embedding.weight != before).any(1).nonzero().flatten()
    assert moved.tolist() == [3, 7]


def test_streams_deal_every_seed_once():
    for workers in (0, 2):
        batches = stream(seed_itself, batch=5, first=TRAINING_SEEDS, workers=workers)
        seen = sorted(int(n) for _ in range(4) for n in next(batches))
        assert seen == list(range(TRAINING_SEEDS, TRAINING_SEEDS + 20))


def seed_itself(seed: int) -> int:
    return seed


def test_the_tower_is_told_what_lies_under_a_patch_and_where_it_is():
    seed = 5  # one of the crowded pictures
    scene = sample_crowd(seed)
    labels = LabelledPicture(32)(seed)[1]
    assert set(labels) == set(CLASS_COUNTS)
    for label, values in labels.items():
        assert values.shape == (144,)
        assert set(values.tolist()) <= set(range(CLASS_COUNTS[label]))
    centers = {(thing.y // 32, thing.x // 32) for thing in scene.things}
    told = labels["center"] > 0
    places = torch.stack((labels["row"], labels["column"]), dim=1)
    assert {tuple(place) for place in places[told].tolist()} == centers
