"""Several answers at once are the answers one at a time, whatever comes or ends meanwhile."""

import weakref
from dataclasses import replace

import pytest
import torch

from janus_cli.engine import batch, decode, writing
from janus_cli.engine.batch import Prompt
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.graph import Repeated
from janus_cli.engine.load import open_engine
from janus_cli.engine.machine import is_out_of_memory
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


def test_every_prompt_has_its_own_temperature_and_length(engine):
    """A greedy answer stays greedy beside one that is not, and neither sees the other."""
    prompts = [
        replace(prompt, temperature=temperature, max_tokens=max_tokens)
        for prompt, temperature, max_tokens in zip(
            different_prompts(engine), (0, 0.7, 0, 1.0, 3.0, 0), (12, 5, 1, 12, 9, 3), strict=True
        )
    ]
    together = answers(engine, prompts)
    assert together == alone(engine, prompts)
    assert [len(tokens) for tokens in together] == [12, 5, 1, 12, 9, 3]
    greedy = alone(engine, [replace(prompt, temperature=0.0) for prompt in prompts])
    same = [a == b for a, b in zip(together, greedy, strict=True)]
    assert same == [True, False, True, False, False, True]


def test_a_prompt_is_asked_for_when_a_row_is_free(engine, counted, monkeypatch):
    monkeypatch.setattr(decode, "ANSWERS", 2)
    prompts = different_prompts(engine)
    pulled = []

    def one_by_one():
        for number, prompt in enumerate(prompts):
            pulled.append(number)
            yield replace(prompt, max_tokens=5)

    said: list[list[int]] = [[] for _ in prompts]
    for number, token in engine.write(one_by_one()):
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
    assert list(engine.write(iter(()))) == []


def test_an_answer_ends_where_the_context_does(engine):
    context = engine.writer.context
    ids = (engine.writer.drawing("two circles") * context)[: context - 3]
    said = answers(engine, [Prompt(ids), *different_prompts(engine)[:1]], max_tokens=6)
    assert [len(tokens) for tokens in said] == [3, 6]


# Where memory runs out


@pytest.fixture
def scarce(engine, monkeypatch):
    """Memory for a few rows of a batch only: `step` of them in a step, `prefill` in the cache."""
    language, step, prefill = (
        engine.model.language,
        *(getattr(engine.model.language, name) for name in ("step", "prefill")),
    )
    room = {"step": 99, "prefill": 99, "failed": 0, "steps": []}

    def check(kind, rows):
        if rows > room[kind]:
            room["failed"] += 1
            raise torch.OutOfMemoryError("CUDA out of memory")

    def scarce_step(x, cache):
        check("step", len(x))
        room["steps"].append(len(x))
        return step(x, cache)

    def scarce_prefill(x, cache, rows, lengths=None):
        check("prefill", max(rows) + 1)
        return prefill(x, cache, rows, lengths)

    monkeypatch.setattr(language, "step", scarce_step)
    monkeypatch.setattr(language, "prefill", scarce_prefill)
    return room


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["step", "prefill"])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_fewer_at_once_where_memory_runs_out(engine, scarce, kind, rows, temperature):
    prompts = [*different_prompts(engine), *prompts_about(engine, picture(1))]
    options = {"max_tokens": 6, "temperature": temperature}
    expected = alone(engine, prompts, **options)
    scarce.update({kind: rows})
    scarce["steps"].clear()
    assert answers(engine, prompts, **options) == expected
    assert scarce["failed"] and max(scarce["steps"]) <= rows


def test_answers_go_on_from_where_they_were(engine, scarce):
    """Memory that runs out midway: nothing is said twice, and little is computed again."""
    prompts = [replace(p, max_tokens=20, temperature=1.0) for p in different_prompts(engine)]
    expected = alone(engine, prompts)
    scarce["steps"].clear()
    said: list[list[int]] = [[] for _ in prompts]
    for number, token in engine.write(prompts):
        if token is not None:
            said[number].append(token)
        if len(scarce["steps"]) == 10:
            scarce["step"] = 3
    assert said == expected
    assert scarce["failed"] == 1
    assert scarce["steps"][10:] == [3] * 8 * 2  # 11 tokens are known, the twelfth begins anew


def test_the_limit_holds_until_the_end_of_the_call(engine, scarce):
    prompts = different_prompts(engine)
    scarce["step"] = 3
    written = engine.write([replace(prompt, max_tokens=4) for prompt in prompts])
    while not scarce["failed"]:
        next(written)
    scarce["step"] = 99
    for _ in written:
        pass
    assert max(scarce["steps"]) == 3
    answers(engine, prompts, max_tokens=4)
    assert max(scarce["steps"]) == len(prompts)


def test_a_lone_answer_is_tried_again_with_a_new_cache(engine, scarce, monkeypatch):
    prompt = different_prompts(engine)[0]
    expected = alone(engine, [prompt], max_tokens=6)
    scarce["step"] = 0

    def enough(device):
        scarce["step"] = 99

    monkeypatch.setattr(writing, "give_back_memory", enough)
    engine.past = None
    assert answers(engine, [prompt], max_tokens=6) == expected
    assert scarce["failed"] == 1


@pytest.mark.parametrize(
    ("kind", "tries"),
    [("step", 4), ("prefill", 2)],  # six at once, three, one and that again; or the first one twice
)
def test_what_has_no_room_even_alone_is_an_error(engine, scarce, kind, tries):
    scarce[kind] = 0
    with pytest.raises(torch.OutOfMemoryError):
        answers(engine, different_prompts(engine), max_tokens=9)
    assert scarce["failed"] == tries
    scarce[kind] = 99
    assert answers(engine, different_prompts(engine)[:1], max_tokens=4)


def test_another_error_is_no_reason_to_try_again(engine, monkeypatch):
    def broken(x, cache):
        raise ValueError("a defect")

    monkeypatch.setattr(engine.model.language, "step", broken)
    with pytest.raises(ValueError, match="a defect"):
        answers(engine, different_prompts(engine), max_tokens=4)


def test_nothing_of_the_batch_is_held_when_another_is_begun(engine, monkeypatch):
    """Nor by the error, whose traceback has seen it."""
    held, freed = [], []

    def full(x, cache):
        held.append(weakref.ref(cache))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.model.language, "step", full)
    monkeypatch.setattr(
        writing, "give_back_memory", lambda device: freed.append(held[-1]() is None)
    )
    with pytest.raises(torch.OutOfMemoryError):
        answers(engine, different_prompts(engine), max_tokens=9)
    assert freed == [True] * 4


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as on_the_cpu:
        torch.empty(1 << 50, dtype=torch.uint8)
    for error in (
        on_the_cpu.value,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to"),
    ):
        assert is_out_of_memory(error)
    for other in (RuntimeError("mat1 and mat2 cannot be multiplied"), ValueError("out of memory")):
        assert not is_out_of_memory(other)


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
