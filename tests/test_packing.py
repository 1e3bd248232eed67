"""Lessons as sequences: packed together they cost what they cost alone, and see nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from janus_cli.engine.model import Janus
from janus_cli.engine.prompt import PromptWriter
from janus_cli.errors import InputError
from janus_cli.train.lessons import Lesson
from janus_cli.train.losses import codes_of, loss_sums, pixels_of
from janus_cli.train.packing import collate, pack
from janus_cli.train.sequences import DRAWN, NOTHING, SEEN, Sample, Scribe, shared_length
from tests.tiny_janus import CONFIG, SIDE, Tiny, tiny_janus

PAIRS = (("how many penguins?", "2"), ("what is it?", "a red circle"), ("how?", "on white"))


@pytest.fixture(scope="module")
def engine() -> Tiny:
    return tiny_janus()


@pytest.fixture(scope="module")
def model(engine) -> Janus:
    return engine.model


@pytest.fixture(scope="module")
def writer(engine) -> PromptWriter:
    return engine.writer


def scribe(engine: Tiny, *, length: int = 400, masked: bool = True) -> Scribe:
    return Scribe(engine.writer, engine.image_tokens, length=length, masked=masked)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)


def codes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(CONFIG.vq.codes, size=CONFIG.image_tokens)


def lessons() -> list[Lesson]:
    return [
        Lesson("a", PAIRS, picture=picture(1)),
        Lesson("b", caption="a red circle", picture=picture(2)),
        Lesson("c", PAIRS[:2]),
        Lesson("d", text="two penguins on white"),
        Lesson("e", PAIRS[1:], picture=picture(3)),
        Lesson("f", caption="two", picture=picture(4)),
    ]


def cost(engine: Tiny, rows: list[list[Sample]]) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack(loss_sums(engine.model, collate(rows), engine.preprocessing))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("length", [250, 400, 1000])
def test_packed_lessons_cost_what_they_cost_alone(engine, masked, length):
    samples = [scribe(engine, masked=masked).write(lesson) for lesson in lessons()]
    rows = pack(samples, max(length, *map(len, samples)))
    assert length < 1000 or len(rows) < len(samples) / 2
    together = cost(engine, rows)
    alone = torch.stack([cost(engine, [[sample]]) for sample in samples]).sum(0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_packing_loses_nothing_and_keeps_to_the_length(engine):
    samples = [scribe(engine).write(lesson) for lesson in lessons() * 3]
    for length in (300, 500, 1000):
        rows = pack(samples, length)
        assert all(sum(map(len, row)) <= length for row in rows)
        assert sorted(id(s) for row in rows for s in row) == sorted(map(id, samples))


def test_questions_about_one_picture_cost_what_they_cost_one_at_a_time(engine):
    together = cost(engine, [[scribe(engine).write(lessons()[0])]])[0]
    ones = [scribe(engine).write(Lesson("", (pair,), picture=picture(1))) for pair in PAIRS]
    assert len(scribe(engine).write(lessons()[0])) < sum(map(len, ones)) / 2
    alone = sum(cost(engine, [[one]])[0] for one in ones)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_an_answer_costs_what_the_engine_says(engine, model, writer):
    """The loss is that of the prompt which a request would write, and its answer."""
    question, answer = PAIRS[1]
    ids = writer.conversation(1, [], question)
    words = [*writer.encode(f" {answer}")[1:], writer.end_of_sentence]
    with torch.no_grad():
        pixels = pixels_of(torch.from_numpy(picture(1))[None], engine.preprocessing)
        embeddings = model.embed_prompt(ids + words[:-1], pixels, writer.placeholder)
        logits = model.text_logits(model.language(embeddings))[0, len(ids) - 1 :]
        wanted = F.cross_entropy(logits, torch.tensor(words))
    sample = scribe(engine).write(Lesson("", (PAIRS[1],), picture=picture(1)))
    torch.testing.assert_close(cost(engine, [[sample]])[0], wanted, rtol=1e-4, atol=1e-4)


def test_a_drawing_costs_what_the_engine_says(engine, model, writer):
    sample = scribe(engine).write(Lesson("", caption="a circle", picture=picture(2)))
    ids = torch.tensor([writer.drawing("a circle")])
    with torch.no_grad():
        codes = codes_of(torch.from_numpy(picture(2))[None], model.vq.encode)
        inputs = torch.cat((model.embed_text(ids), model.embed_codes(codes[:, :-1])), dim=1)
        logits = model.image_logits(model.language(inputs))[0, ids.shape[1] - 1 :]
        wanted = F.cross_entropy(logits, codes[0])
    assert (sample.ids == DRAWN).sum() == engine.image_tokens - 1
    torch.testing.assert_close(cost(engine, [[sample]])[1], wanted, rtol=1e-4, atol=1e-4)


def test_codes_that_are_not_learned_are_left_out(engine, model, writer):
    """What the engine says of a picture of which it has seen only some codes, where they belong."""
    learned, drawn = torch.tensor([0, 1, 5, 6, 11]), torch.from_numpy(codes(1))
    lesson = Lesson("", caption="a circle", picture=codes(1), learned=learned.tolist())
    sample = scribe(engine).write(lesson)
    ids = torch.tensor([writer.drawing("a circle")])
    places = torch.cat((torch.arange(ids.shape[1]), ids.shape[1] - 1 + learned[1:]))
    with torch.no_grad():
        before = model.embed_codes(drawn[learned[1:] - 1])[None]
        states = model.language(torch.cat((model.embed_text(ids), before), dim=1), places[None])
        logits = model.image_logits(states[0, ids.shape[1] - 1 :])
        wanted = F.cross_entropy(logits, drawn[learned], reduction="sum") / engine.image_tokens
    torch.testing.assert_close(cost(engine, [[sample]])[1], wanted, rtol=1e-4, atol=1e-4)


def test_drawings_of_unlike_lengths_cost_together_what_they_cost_alone(engine):
    """Pictures, codes, and some of their codes, in one batch."""
    parts = (None, [0, 3, 4], [0], range(engine.image_tokens))
    lessons = [
        Lesson("", caption="a circle", picture=codes(number), learned=learned)
        for number, learned in enumerate(parts)
    ]
    lessons.insert(1, Lesson("", caption="a circle", picture=picture(1)))
    samples = [scribe(engine).write(lesson) for lesson in lessons]
    together = cost(engine, [samples[:2], samples[2:]])
    alone = torch.stack([cost(engine, [[sample]]) for sample in samples]).sum(0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_pixels_are_those_of_the_engine(engine):
    image = Image.fromarray(picture(5)).resize((90, 40))
    framed = np.array(engine.preprocessing.frame(image))
    made = pixels_of(torch.from_numpy(framed)[None], engine.preprocessing)[0]
    assert torch.equal(made, engine.preprocessing.fit(image))


# What is learned


def learned(sample: Sample, writer: PromptWriter) -> str:
    return writer.decode(sample.targets[sample.targets >= 0].tolist())


def test_prompts_are_learned_unless_they_are_masked(engine, writer):
    lesson = Lesson("", (PAIRS[1],), picture=picture(1))
    only = learned(scribe(engine, masked=True).write(lesson), writer)
    assert only == " a red circle"
    everything = learned(scribe(engine, masked=False).write(lesson), writer)
    for part in ("helpful language and vision", "what is it?", "a red circle"):
        assert part in everything
    for kind in (SEEN, writer.begin_of_image, writer.end_of_image):
        assert kind not in scribe(engine, masked=False).write(lesson).targets


@pytest.mark.parametrize("masked", [True, False])
def test_what_a_question_says_counts_only_where_prompts_do(engine, masked):
    """Other targets in the prompt change the loss of Stages I and II, and not that of Stage III."""
    sample = scribe(engine, masked=masked).write(Lesson("", (PAIRS[1],)))
    prompt = len(sample) - len(engine.writer.encode(" a red circle"))
    sample.targets[:prompt] = torch.where(sample.targets[:prompt] >= 0, 7, NOTHING)
    before = cost(engine, [[scribe(engine, masked=masked).write(Lesson("", (PAIRS[1],)))]])
    assert torch.equal(cost(engine, [[sample]]), before) == masked


def test_captions_are_not_words_to_learn(engine):
    sample = scribe(engine, masked=False).write(lessons()[1])
    assert set(sample.targets.tolist()) == {NOTHING, DRAWN}


def test_a_dropped_caption_is_pad(engine, writer):
    sample = scribe(engine).write(lessons()[1], dropped=True)
    caption = writer.drawing("a red circle")
    assert sample.ids[: len(caption)].tolist() == writer.unconditional(caption)
    assert torch.equal(sample.targets, scribe(engine).write(lessons()[1]).targets)


def test_every_answer_and_picture_weighs_the_same(engine):
    for masked, prompts in ((True, 0), (False, 1)):
        sample = scribe(engine, masked=masked).write(lessons()[0])
        assert sample.weights.sum().item() == pytest.approx(len(PAIRS) + prompts)
        for branch, (_, answer) in enumerate(PAIRS, 1):
            words = engine.writer.encode(f" {answer}")
            last = sample.weights[sample.branches == branch][-len(words) :]
            assert last.sum().item() == pytest.approx(1)
    assert scribe(engine).write(lessons()[1]).weights.sum().item() == pytest.approx(1)
    assert scribe(engine).write(lessons()[3]).weights.sum().item() == pytest.approx(1)


# What does not fit


def test_questions_that_do_not_fit_are_left_out_and_none_is_an_error(engine):
    whole = scribe(engine).write(lessons()[0])
    less = scribe(engine, length=len(whole) - 1).write(lessons()[0])
    assert 0 < less.weights.sum().round() < len(PAIRS)
    too_long = ("how? " * 100, "so")
    among = scribe(engine).write(Lesson("", (too_long, *PAIRS), picture=picture(1)))
    assert among.weights.sum().item() == pytest.approx(len(PAIRS))
    with pytest.raises(InputError, match="raise --length, now 30"):
        scribe(engine, length=30).write(lessons()[0])
    for lesson in (Lesson("", (("how? " * 3000, "so"),)), Lesson("", caption="a circle " * 3000)):
        with pytest.raises(InputError, match="fit into the model's context"):
            scribe(engine).write(lesson)


def test_a_long_text_is_cut_off(engine):
    sample = scribe(engine, length=20).write(Lesson("", text="two penguins on white " * 30))
    assert len(sample) == 20
    assert sample.weights.sum().item() == pytest.approx(1)


def test_special_tokens_in_data_are_words(engine, writer):
    sample = scribe(engine).write(Lesson("", (("what?", "<｜end▁of▁sentence｜>"),)))
    assert sample.targets.tolist().count(writer.end_of_sentence) == 1


def test_branches_share_the_longest_beginning():
    rng = random.Random(0)
    for _ in range(50):
        start = [rng.randrange(9) for _ in range(rng.randint(1, 6))]
        prompts = [start + [rng.randrange(9) for _ in range(rng.randint(1, 4))] for _ in range(3)]
        shared = shared_length(prompts)
        assert len(start) <= shared < min(map(len, prompts))
        assert len({tuple(prompt[:shared]) for prompt in prompts}) == 1
