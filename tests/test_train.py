"""Training: packed sequences cost what lone ones do, and every stage's parts do what they say."""

import random

import pytest
import torch
import torch.nn.functional as F

from janus_cli.engine.kv_cache import Cache
from janus_cli.engine.model import Janus
from janus_cli.engine.prompt import JANUS_PRO, SYSTEM, PromptWriter
from janus_cli.engine.vq import VQTokenizer
from janus_cli.train import recipe
from janus_cli.train.data import TRAINING_SEEDS, stream, to_pixels
from janus_cli.train.losses import answer_loss, drawing_loss
from janus_cli.train.questions import questions
from janus_cli.train.samples import IGNORED, ConversationMaker, DrawingMaker
from janus_cli.train.scene import sample_scene
from janus_cli.train.vocabulary import SPECIAL_TOKENS, build_tokenizer
from janus_cli.train.vq_stage import quantize, revive_dead_codes

SCENES = 300  # of the tokenizer's corpus; training takes more


@pytest.fixture(scope="module")
def writer() -> PromptWriter:
    config = recipe.EMBEDDED
    tokenizer = build_tokenizer(config.language.vocabulary, scenes=SCENES)
    return PromptWriter(tokenizer, JANUS_PRO, config.vision.tokens, config.language.context)


@pytest.fixture(scope="module")
def model() -> Janus:
    torch.manual_seed(0)
    model = Janus(recipe.EMBEDDED)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model.eval()


def test_the_tokenizer_spells_capitals_and_digits_one_by_one(writer):
    for text in ("HELLO42", "A1B2", "two red circles on white", SYSTEM, "naïve 🐧\n"):
        tokens = writer.tokenizer.encode(text).tokens
        assert writer.tokenizer.decode(writer.tokenizer.encode(text).ids) == text
        assert not [
            t for t in tokens if sum(c.isupper() or c.isdigit() for c in t) > 1 and t.isascii()
        ]
    assert writer.tokenizer.get_vocab_size() == recipe.EMBEDDED.language.vocabulary
    assert [writer.tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == list(range(8))


def test_packed_answers_are_the_answers_to_the_questions(writer):
    maker = ConversationMaker(writer, count=6, length=400)
    scene = sample_scene(3)
    ids, targets, positions, segments = maker.pack(scene, random.Random(1))
    asked = questions(scene, random.Random(1), 6)
    assert segments.max() == 6
    for number, pair in enumerate(asked, 1):
        inside = segments == number
        answer = targets[inside][targets[inside] != IGNORED].tolist()
        assert answer.pop() == writer.end_of_sentence
        assert writer.decode(answer).strip() == pair.answer
        assert pair.question in writer.decode(ids[inside].tolist())
        first = (segments == 0).sum()
        assert positions[inside].tolist() == list(range(first, first + inside.sum()))


def test_packed_questions_cost_what_they_cost_alone(writer, model):
    """Questions of one picture do not see each other, whatever the padding and the batch."""
    packed = ConversationMaker(writer, count=4, length=400)
    scenes = [sample_scene(seed) for seed in (5, 6)]
    makes = [packed.pack(scene, random.Random(scene.seed)) for scene in scenes]
    picture = torch.randint(256, (384, 384, 3), dtype=torch.uint8)
    batch = packed.collate([(picture, columns) for columns in makes])
    with torch.no_grad():
        together = answer_loss(model, batch, writer.placeholder)
        alone = []
        for scene in scenes:
            for pair in questions(scene, random.Random(scene.seed), 4):
                ids = writer.conversation(1, [], pair.question)
                answer = [*packed.answer_ids(pair.answer), writer.end_of_sentence]
                tokens = torch.tensor([ids + answer[:-1]])
                embeddings = model.embed_text(tokens)
                features = model.embed_images(to_pixels(picture[None]))
                embeddings[tokens == writer.placeholder] = features.flatten(0, 1)
                states = model.language(embeddings)[0, len(ids) - 1 :]
                alone.append(F.cross_entropy(model.text_logits(states), torch.tensor(answer)))
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-4, atol=1e-4)


def test_a_drawing_costs_what_its_steps_say(writer, model):
    """The loss over a whole sequence is that of the engine's own prefill and steps."""
    maker = DrawingMaker(writer, simple=0)
    batch = maker.collate([maker(seed) for seed in (1, 2)])
    grid = recipe.EMBEDDED.image_tokens
    codes = torch.randint(recipe.EMBEDDED.vq.codes, (2, grid))
    with torch.no_grad():
        losses = drawing_loss(model, codes, batch, length=grid + 60)
        words = int(batch.lengths[1])
        cache = Cache(model.config.language, 1, words + 40, dtype=model.dtype, device=model.device)
        state = model.language.prefill(model.embed_text(batch.ids[1:, :words]), cache, [0])
        first = []
        for position in range(40):
            logits = model.image_logits(state)
            first.append(F.cross_entropy(logits, codes[1:, position]))
            state = model.language.step(model.embed_codes(codes[1:, position]), cache)
        # The first forty codes decide nothing about the others, so compare them alone.
        half = drawing_loss(model, codes[:, :40], batch, length=grid + 60)
    torch.testing.assert_close(half[1], torch.stack(first).mean(), rtol=1e-4, atol=1e-4)
    assert losses.shape == (2,)


def test_a_tenth_of_the_captions_is_dropped(writer):
    maker = DrawingMaker(writer, simple=1.0)
    drawn = [maker(seed)[1] for seed in range(400)]
    dropped = [ids for ids in drawn if set(ids[1:-1]) == {writer.pad}]
    assert 20 <= len(dropped) <= 60
    assert {ids[0] for ids in drawn} == {writer.begin_of_sentence}
    assert {ids[-1] for ids in drawn} == {writer.begin_of_image}


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
