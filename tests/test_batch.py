"""Several answers at once are the answers one at a time, whatever comes or ends meanwhile."""

import pytest
import torch

from janus_cli.engine import batch, decode
from janus_cli.engine.batch import Prompt
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.graph import Repeated
from janus_cli.engine.load import open_engine
from janus_cli.schema import ModelChoice, Turn
from tests.checkpoints import IMAGE_SIZE, save_tiny_checkpoint
from tests.engines import answers, draw, embed

QUESTIONS = ("how many?", "a red circle on white", "two", "how many penguins are there", "three?")


@pytest.fixture(scope="module", params=[{"kv_heads": 2}, {"kv_heads": 4}], ids=["grouped", "full"])
def engine(request, tmp_path_factory):
    path = save_tiny_checkpoint(tmp_path_factory.mktemp("model"), **request.param)
    return open_engine(path, ModelChoice(device="cpu", precision="fp32"))


def picture(seed: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator) * 2 - 1


def prompts_about(engine, pixels, questions=QUESTIONS) -> list[Prompt]:
    """A prompt for each question, about the same pictures."""
    return [
        Prompt(engine.writer.conversation(len(pixels), [], question), pixels, seed)
        for seed, question in enumerate(questions)
    ]


def different_prompts(engine) -> list[Prompt]:
    """Other pictures, questions and lengths, and one prompt without a picture."""
    asked = [
        prompts_about(engine, picture(seed, count=1 + seed % 2), [question])[0]
        for seed, question in enumerate(QUESTIONS)
    ]
    return [*asked, Prompt(engine.writer.drawing("two circles"))]


def alone(engine, prompts, **options) -> list[list[int]]:
    """The answers one at a time, each as if it were the first."""
    said = []
    for prompt in prompts:
        engine.past = None
        said += answers(engine, [prompt], **options)
    return said


@pytest.fixture
def counted(engine, monkeypatch):
    """What is computed: pictures seen, positions of prompts, and the rows of every step."""
    seen = {"pictures": 0, "positions": 0, "steps": []}
    language, prefill, step = (
        engine.model.language,
        *(getattr(engine.model.language, name) for name in ("prefill", "step")),
    )

    def counting_prefill(x, cache, rows, lengths=None):
        seen["positions"] += x.shape[0] * x.shape[1]
        return prefill(x, cache, rows, lengths)

    def counting_step(x, cache):
        seen["steps"].append(len(x))
        return step(x, cache)

    def count_pictures(module, inputs):
        seen["pictures"] += len(inputs[0])

    monkeypatch.setattr(language, "prefill", counting_prefill)
    monkeypatch.setattr(language, "step", counting_step)
    hook = engine.model.vision.register_forward_pre_hook(count_pictures)
    yield seen
    hook.remove()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_together_as_alone(engine, temperature):
    prompts = different_prompts(engine)
    options = {"max_tokens": 12, "temperature": temperature}
    together = answers(engine, prompts, **options)
    assert together == alone(engine, prompts, **options)
    assert len({tuple(tokens) for tokens in together}) == len(prompts)


def test_a_prompt_is_asked_for_when_a_row_is_free(engine, counted, monkeypatch):
    monkeypatch.setattr(decode, "ANSWERS", 2)
    prompts = different_prompts(engine)
    pulled = []

    def one_by_one():
        for number, prompt in enumerate(prompts):
            pulled.append(number)
            yield prompt

    said: list[list[int]] = [[] for _ in prompts]
    for number, token in engine.write(one_by_one(), max_tokens=5):
        assert len(pulled) <= number + 4  # two under way, one that waits, one to tell groups apart
        if token is not None:
            said[number].append(token)
    assert max(counted["steps"]) == 2
    assert said == alone(engine, prompts, max_tokens=5)


def test_answers_of_different_lengths(engine, counted):
    """A row that ends is given up, and the others go on as they were."""
    prompts = different_prompts(engine)
    whole = alone(engine, prompts, max_tokens=12)
    end = engine.writer.end_of_sentence
    counted["steps"].clear()
    engine.writer.end_of_sentence = whole[1][3]
    try:
        together = answers(engine, prompts, max_tokens=12)
    finally:
        engine.writer.end_of_sentence = end
    ends = whole[1][3]
    assert together == [t[: t.index(ends)] if ends in t else t for t in whole]
    assert len({len(tokens) for tokens in together}) > 1
    assert counted["steps"][0] == len(prompts) and counted["steps"][-1] < len(prompts)


def test_a_cache_that_grows_keeps_what_it_holds(engine, monkeypatch):
    monkeypatch.setattr(batch, "GROWTH", 3)
    prompts = different_prompts(engine)[:3]
    small = answers(engine, prompts, max_tokens=40)
    monkeypatch.setattr(batch, "GROWTH", 100)
    assert answers(engine, prompts, max_tokens=40) == small


def test_little_memory_makes_small_batches(engine, counted, monkeypatch):
    prompts = [*different_prompts(engine), *prompts_about(engine, picture(1))]
    monkeypatch.setattr(decode, "free_memory", lambda device: 0)
    small = answers(engine, prompts, max_tokens=5)
    assert set(counted["steps"]) == {1}
    assert counted["pictures"] == 8  # of the first five 7, and one for all questions about the last
    monkeypatch.undo()
    assert answers(engine, prompts, max_tokens=5) == small


def test_what_questions_share_is_computed_once(engine, counted):
    prompts = prompts_about(engine, picture(1), QUESTIONS[:4])
    expected = alone(engine, prompts, max_tokens=8)
    apart = dict(counted)
    counted.update(pictures=0, positions=0)
    assert answers(engine, prompts, max_tokens=8) == expected
    assert (apart["pictures"], counted["pictures"]) == (4, 1)
    longest = max(len(prompt.ids) for prompt in prompts)
    assert counted["positions"] < 2 * longest < apart["positions"] / 1.5


def test_questions_that_share_their_beginning(engine):
    """One that is a part of another, the same twice, and one that follows a conversation."""
    pixels = picture(2)
    prompts = prompts_about(engine, pixels, ("two", "two", "two three", "how"))
    history = [Turn("how many?", "two")]
    prompts.append(Prompt(engine.writer.conversation(1, history, "two three"), pixels))
    expected = alone(engine, prompts, max_tokens=8)
    assert answers(engine, prompts, max_tokens=8) == expected
    assert expected[0] == expected[1]


def test_more_questions_than_rows(engine, counted, monkeypatch):
    monkeypatch.setattr(decode, "ANSWERS", 2)
    prompts = prompts_about(engine, picture(3))
    assert answers(engine, prompts, max_tokens=4) == alone(engine, prompts, max_tokens=4)
    assert max(counted["steps"]) == 2


def test_pictures_that_look_alike_are_not_taken_for_one(engine, counted):
    """Only the same tensor is the same picture: another one may have other numbers of pictures."""
    prompts = [
        prompts_about(engine, picture(4), ["two"])[0],
        prompts_about(engine, picture(4, count=2), ["two"])[0],
    ]
    assert answers(engine, prompts, max_tokens=4) == alone(engine, prompts, max_tokens=4)


def test_a_conversation_goes_on_from_its_past(engine, counted):
    """The second question of a conversation computes what is new to it, and nothing else."""
    pixels = picture(6)
    first = Prompt(engine.writer.conversation(1, [], "how many penguins are there"), pixels)
    said = engine.writer.decode(answers(engine, [first], max_tokens=6)[0])
    turns = [Turn("how many penguins are there", said)]
    second = Prompt(engine.writer.conversation(1, turns, "a red circle?"), pixels.clone())
    counted.update(pictures=0, positions=0)
    gone_on = answers(engine, [second], max_tokens=6)
    assert counted["pictures"] == 0
    assert counted["positions"] <= len(second.ids) - len(first.ids) + 1
    assert alone(engine, [second], max_tokens=6) == [gone_on[0]]
    assert counted["pictures"] == 1


def test_the_same_question_again_is_no_work(engine, counted):
    prompt = prompts_about(engine, picture(7), ["two"])[0]
    expected = answers(engine, [prompt], max_tokens=6)
    counted.update(pictures=0, positions=0)
    assert answers(engine, [prompt], max_tokens=6) == expected
    assert (counted["pictures"], counted["positions"]) == (0, 1)


@pytest.mark.parametrize("other", ["picture", "two pictures", "no picture"])
def test_the_past_of_another_picture_is_of_no_use(engine, other):
    ids = engine.writer.conversation(1, [], "two")
    before = answers(engine, [Prompt(ids, picture(8))], max_tokens=6)
    changed = {
        "picture": Prompt(ids, picture(9)),
        "two pictures": Prompt(engine.writer.conversation(2, [], "two"), picture(8, count=2)),
        "no picture": Prompt(engine.writer.drawing("two")),
    }[other]
    after = answers(engine, [changed], max_tokens=6)
    assert alone(engine, [changed], max_tokens=6) == after != before


def test_nothing_to_answer(engine):
    assert list(engine.write(iter(()), max_tokens=4)) == []


def test_an_answer_ends_where_the_context_does(engine):
    context = engine.writer.context
    ids = (engine.writer.drawing("two circles") * context)[: context - 3]
    said = answers(engine, [Prompt(ids), *different_prompts(engine)[:1]], max_tokens=6)
    assert [len(tokens) for tokens in said] == [3, 6]


# Drawing


@torch.inference_mode()
def test_a_static_cache_sees_what_the_other_sees(engine):
    """Whose lengths lie on the device, as a captured graph needs them."""
    model = engine.model
    prompts = [engine.writer.drawing(text) for text in ("two", "a red circle on white")]
    caches = [engine.new_cache(rows=2, capacity=60, static=static) for static in (False, True)]
    codes = torch.randint(96, (20, 2), generator=torch.Generator().manual_seed(0))
    found = []
    for cache in caches:
        states = [engine.prefill(prompts, cache)]
        states += [model.language.step(model.embed_codes(pair), cache) for pair in codes]
        found.append(torch.stack(states))
    torch.testing.assert_close(*found, rtol=1e-4, atol=2e-5)
    assert caches[1].slots.tolist() == caches[0].lengths == [len(ids) + 20 for ids in prompts]


@torch.inference_mode()
def test_a_prompt_in_two_parts_is_the_prompt(engine):
    ids = engine.writer.conversation(1, [], "how many penguins are there")
    x = embed(engine, ids, picture(5))
    caches = [engine.new_cache(rows=2, capacity=len(ids) + 2) for _ in range(2)]
    language = engine.model.language
    whole = language.prefill(x, caches[0], [0, 1])
    language.prefill(x[:, :-7], caches[1], [0, 1])
    padded = torch.nn.functional.pad(x[:, -7:].expand(2, -1, -1), (0, 0, 0, 2))
    parts = language.prefill(padded, caches[1], [0, 1], [7, 7])
    torch.testing.assert_close(parts, whole.expand(2, -1), rtol=1e-4, atol=2e-5)
    assert caches[0].lengths == caches[1].lengths == [len(ids)] * 2


def test_pictures_of_different_prompts_are_drawn_together(engine):
    writer = engine.writer
    prompts = [writer.drawing(text) for text in ("two", "a red circle on white", "two")]
    drawings = [Drawing(ids, writer.unconditional(ids), seed) for seed, ids in enumerate(prompts)]
    together = torch.stack(list(engine.draw(drawings, Sampling())), dim=1)
    for row, (ids, seed) in enumerate(zip(prompts, range(3), strict=True)):
        assert torch.equal(draw(engine, ids, [seed])[0], together[row])


def test_off_a_gpu_a_repeated_function_is_just_called():
    calls = []

    def double(x):
        calls.append(x)
        return 2 * x

    repeated = Repeated(double, torch.device("cpu"), calls=1000)
    assert [repeated(torch.tensor(n)).item() for n in range(100)] == list(range(0, 200, 2))
    assert len(calls) == 100
