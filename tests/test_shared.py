"""One engine for many callers: each gets what it would get alone, whatever the others do."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch

from janus_cli.engine import decode
from janus_cli.engine.batch import Prompt
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.load import open_engine
from janus_cli.engine.shared import WAITING, Load, Shared
from janus_cli.errors import ModelError
from janus_cli.schema import ModelChoice, Turn
from tests.checkpoints import IMAGE_SIZE, save_tiny_checkpoint
from tests.engines import answers

PATIENCE = 60  # seconds until a hanging thread fails its test
WORDS = ("how", "many", "penguins", "are", "there", "on", "a", "red", "circle", "of", "two")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = save_tiny_checkpoint(tmp_path_factory.mktemp("model"), kv_heads=2)
    return open_engine(path, ModelChoice(device="cpu", precision="fp32"))


@pytest.fixture
def shared(engine):
    engine.past = None
    shared = Shared(engine)
    yield shared
    shared.close()


class Gate:
    """Where the thread of the work waits before each step, and what it has done.

    The gate is open until `shut`.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        """What each step was of, and of how many rows."""
        self.prompts: list[int] = []
        """The lengths of the prompts, in the order in which they were taken up."""
        self._open = threading.Event()
        self._open.set()
        self._arrived, self._passes = threading.Semaphore(0), threading.Semaphore(0)

    def shut(self) -> None:
        self._open.clear()

    def wait(self) -> None:
        """Wait until the thread stands at the gate."""
        assert self._arrived.acquire(timeout=PATIENCE)

    def step(self) -> None:
        """Let one step through, and wait for the next to arrive."""
        self._passes.release()
        self.wait()

    def open(self) -> None:
        self._open.set()
        self._passes.release()

    def arrive(self, kind: str, rows: int) -> None:
        if not self._open.is_set():
            self._arrived.release()
            assert self._passes.acquire(timeout=PATIENCE)
        self.steps.append((kind, rows))


@pytest.fixture
def gate(engine, monkeypatch):
    gate, model = Gate(), engine.model
    embed_text, embed_codes, embed_prompt = model.embed_text, model.embed_codes, model.embed_prompt

    def text(ids):
        if ids.ndim == 1:
            gate.arrive("text", len(ids))
        return embed_text(ids)

    def codes(numbers):
        gate.arrive("codes", len(numbers))
        return embed_codes(numbers)

    def prompt(ids, pixels, placeholder):
        gate.prompts.append(len(ids))
        return embed_prompt(ids, pixels, placeholder)

    monkeypatch.setattr(model, "embed_text", text)
    monkeypatch.setattr(model, "embed_codes", codes)
    monkeypatch.setattr(model, "embed_prompt", prompt)
    return gate


@pytest.fixture
def asking(shared, monkeypatch):
    """A semaphore that counts what callers have asked for."""
    asked, ask = threading.Semaphore(0), shared.ask

    def counted(strand, action):
        ask(strand, action)
        asked.release()

    monkeypatch.setattr(shared, "ask", counted)
    return asked


@pytest.fixture
def threads():
    with ThreadPoolExecutor(40) as pool:
        yield pool


@pytest.fixture
def batches(engine, monkeypatch):
    """How many pictures are drawn at once; more than `most` have no room in the last cells."""
    counts, draw = Batches(), engine.draw

    def counted(wanted, sampling):
        counts.append(len(wanted))
        for cell, column in enumerate(draw(wanted, sampling)):
            if len(wanted) > counts.most and cell == engine.image_tokens - 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield column

    monkeypatch.setattr(engine, "draw", counted)
    return counts


class Batches(list[int]):
    most = 99


def picture(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator) * 2 - 1


def question(engine, words: int, **options) -> Prompt:
    """A prompt of so many words about a picture of its own."""
    asked = " ".join(WORDS[number % len(WORDS)] for number in range(words))
    ids = engine.writer.conversation(1, [], asked)
    return Prompt(ids, picture(words), **{"seed": words, "max_tokens": 12, **options})


def alone(engine, *prompts: Prompt) -> list[list[int]]:
    """The answers one at a time, each as if it were the first."""
    said = []
    for prompt in prompts:
        engine.past = None
        said += answers(engine, [prompt])
    engine.past = None
    return said


def drawings(engine, text: str, *seeds: int) -> list[Drawing]:
    ids = engine.writer.drawing(text)
    return [Drawing(ids, engine.writer.unconditional(ids), seed) for seed in seeds]


def codes(engine, wanted, sampling=None) -> torch.Tensor:
    """Of the wanted pictures, (pictures, image tokens)."""
    return torch.stack(list(engine.draw(wanted, sampling or Sampling())), dim=1)


def all_asked(asking, count: int) -> None:
    for _ in range(count):
        assert asking.acquire(timeout=PATIENCE)


def heard(future: Future):
    return future.result(timeout=PATIENCE)


# Text


def test_many_callers_get_what_they_get_alone(engine, shared, gate, asking, threads):
    prompts = [
        question(engine, 1 + n, temperature=(0.0, 0.5, 1.0)[n % 3], max_tokens=14 + n % 9)
        for n in range(32)
    ]
    expected = alone(engine, *prompts)
    gate.steps.clear()
    gate.shut()
    asked = [threads.submit(answers, shared, [prompt]) for prompt in prompts]
    all_asked(asking, 32)
    gate.open()
    assert [heard(answer)[0] for answer in asked] == expected
    rows = [count for _, count in gate.steps]
    assert max(rows) == decode.ANSWERS and rows.count(decode.ANSWERS) > 10


def test_a_caller_joins_while_another_is_answered(engine, shared, gate, asking, threads):
    prompts = question(engine, 2), question(engine, 3)
    expected = alone(engine, *prompts)
    gate.steps.clear()
    gate.shut()
    first = threads.submit(answers, shared, prompts[:1])
    gate.wait()
    gate.step(), gate.step(), gate.step()
    all_asked(asking, 1)
    second = threads.submit(answers, shared, prompts[1:])
    all_asked(asking, 1)
    gate.step()
    assert shared.load() == Load(answers=2, drawings=0)
    gate.open()
    assert [*heard(first), *heard(second)] == expected
    rows = [count for _, count in gate.steps]
    assert rows == [1] * 4 + [2] * 7 + [1] * 4


def test_questions_about_one_picture_share_it(engine, shared, gate):
    pixels = picture(1)
    prompts = [
        Prompt(engine.writer.conversation(1, [], word), pixels, max_tokens=6) for word in WORDS[:4]
    ]
    expected = alone(engine, *prompts)
    gate.prompts.clear()
    assert answers(shared, prompts) == expected
    assert len(gate.prompts) == 1


def test_a_caller_that_goes_away_gives_up_its_row(engine, shared, gate):
    prompts = question(engine, 2, max_tokens=40), question(engine, 3)
    expected = alone(engine, prompts[1])
    gate.steps.clear()
    gate.shut()
    leaving = shared.write(prompts[:1])
    next(leaving)
    gate.wait()
    leaving.close()
    gate.open()
    assert answers(shared, prompts[1:]) == expected
    assert gate.steps == [("text", 1)] * (1 + 11)


def test_a_caller_that_goes_away_takes_its_prompts_along(
    engine, shared, gate, asking, threads, monkeypatch
):
    monkeypatch.setattr(decode, "ANSWERS", 2)
    stays = question(engine, 20, max_tokens=30)
    expected = alone(engine, stays)
    many = [question(engine, words) for words in range(1, 10)]
    gate.prompts.clear()
    gate.shut()
    other = threads.submit(answers, shared, [stays])
    gate.wait()
    all_asked(asking, 1)

    def leave():
        for _ in shared.write(many):
            break

    leaving = threads.submit(leave)
    all_asked(asking, WAITING)
    gate.step()
    assert shared.load().answers == 2
    heard(leaving)
    all_asked(asking, 1)
    gate.step()
    assert shared.load().answers == 1
    gate.steps.clear()
    gate.open()
    assert heard(other) == expected
    assert {count for _, count in gate.steps} == {1}
    assert len(gate.prompts) == 2


def test_a_prompt_does_not_wait_for_all_of_another_caller(
    engine, shared, gate, asking, threads, monkeypatch
):
    monkeypatch.setattr(decode, "ANSWERS", 1)
    many = [question(engine, words, max_tokens=3) for words in (2, 2, 2, 2, 2, 2, 2, 2)]
    gate.shut()
    first = threads.submit(answers, shared, many)
    gate.wait()
    all_asked(asking, 1 + WAITING)
    other = question(engine, 9, max_tokens=3)
    second = threads.submit(answers, shared, [other])
    all_asked(asking, 1)
    gate.open()
    assert heard(second) and heard(first)
    assert gate.prompts.index(len(other.ids)) <= 2
    assert len(gate.prompts) == len(many) + 1


def test_prompts_are_asked_for_as_room_comes(engine, shared, monkeypatch):
    monkeypatch.setattr(decode, "ANSWERS", 2)
    prompts = [question(engine, words) for words in range(1, 16)]
    pulled, ended = [], 0

    def one_by_one():
        for prompt in prompts:
            pulled.append(threading.current_thread())
            yield prompt

    for _, token in shared.write(one_by_one()):
        ended += token is None
        # What is under way and what waits, one to tell groups apart, and those that have ended
        # but have not been heard of yet.
        assert len(pulled) <= ended + 2 + WAITING + 1 + 2
    assert set(pulled) == {threading.current_thread()}
    assert ended == len(prompts)


def test_a_slow_reader_of_pictures_keeps_nobody_waiting(engine, shared, threads):
    read = threading.Event()
    prompts = question(engine, 2), question(engine, 3), question(engine, 4)
    expected = alone(engine, *prompts)

    def slow():
        yield prompts[0]
        assert read.wait(PATIENCE)
        yield prompts[1]

    first = threads.submit(lambda: [said for said in shared.write(slow()) if said[1] is not None])
    assert answers(shared, prompts[2:]) == expected[2:]
    read.set()
    assert sorted(heard(first), key=lambda said: said[0]) == [
        (number, token) for number in (0, 1) for token in expected[number]
    ]


def test_a_slow_listener_keeps_nobody_waiting(engine, shared):
    prompts = question(engine, 2), question(engine, 3)
    expected = alone(engine, *prompts)
    slow = shared.write(prompts[:1])
    begun = [next(slow), next(slow)]
    assert answers(shared, prompts[1:]) == expected[1:]
    assert [token for _, token in [*begun, *slow]] == [*expected[0], None]


def test_a_conversation_goes_on_from_its_past(engine, shared, gate):
    first = question(engine, 4)
    said = engine.writer.decode(answers(shared, [first])[0])
    history = [Turn("how many penguins are", said)]
    ids = engine.writer.conversation(1, history, "two?")
    second = Prompt(ids, first.pixels.clone(), max_tokens=6)
    gate.prompts.clear()
    gone_on = answers(shared, [second])
    assert gate.prompts[0] <= len(second.ids) - len(first.ids) + 1
    assert alone(engine, second) == gone_on


# Drawing


def test_drawings_that_wait_together_are_drawn_together(
    engine, shared, gate, asking, threads, batches
):
    wanted = [
        (drawings(engine, "two", 1), Sampling()),
        (drawings(engine, "a red circle", 7, 8), Sampling()),
        (drawings(engine, "three", 1), Sampling(guidance=2.0)),
        (drawings(engine, "two", 2, 3, 4), Sampling()),
    ]
    expected = [codes(engine, *each) for each in wanted]
    batches.clear()
    gate.shut()
    drawn = [threads.submit(codes, shared, *wanted[0])]
    gate.wait()
    for each in wanted[1:]:
        drawn.append(threads.submit(codes, shared, *each))
    all_asked(asking, 4)
    assert shared.load() == Load(answers=0, drawings=1)
    gate.open()
    for found, right in zip(drawn, expected, strict=True):
        assert torch.equal(heard(found), right)
    assert sorted(batches) == [1, 1, 5]


def test_a_batch_of_drawings_has_its_bounds(
    engine, shared, gate, asking, threads, batches, monkeypatch
):
    monkeypatch.setattr(decode, "PICTURES", 4)
    wanted = [drawings(engine, "two", *range(count)) for count in (1, 3, 2, 1, 6)]
    expected = [codes(engine, each) for each in wanted]
    batches.clear()
    gate.shut()
    drawn = [threads.submit(codes, shared, wanted[0])]
    gate.wait()
    all_asked(asking, 1)
    for each in wanted[1:]:
        drawn.append(threads.submit(codes, shared, each))
        all_asked(asking, 1)
    gate.open()
    for found, right in zip(drawn, expected, strict=True):
        assert torch.equal(heard(found), right)
    assert batches == [1, 3 + 1, 2, 4, 2]  # the last order in two parts


@pytest.mark.parametrize(
    ("most", "tried"), [(1, [1, 5, 2, 1, 1, 1, 1, 1]), (2, [1, 5, 2, 1, 2]), (3, [1, 5, 2, 1, 2])]
)
def test_fewer_pictures_at_once_where_memory_runs_out(
    engine, shared, gate, asking, threads, batches, most, tried
):
    wanted = [drawings(engine, text, *range(count)) for text, count in (("two", 3), ("three", 2))]
    expected = [codes(engine, each) for each in wanted]
    first = drawings(engine, "a red circle", 0)
    batches.clear()
    gate.shut()
    drawn = [threads.submit(codes, shared, first)]
    gate.wait()
    all_asked(asking, 1)
    for each in wanted:
        drawn.append(threads.submit(codes, shared, each))
        all_asked(asking, 1)
    batches.most = most
    gate.open()
    for found, right in zip(drawn[1:], expected, strict=True):
        assert torch.equal(heard(found), right)
    assert batches == tried


def test_a_picture_that_has_no_room_even_alone(engine, shared, batches):
    batches.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        codes(shared, drawings(engine, "two", 1, 2))
    assert batches == [2, 1, 1]
    batches.most = 99
    found = codes(shared, drawings(engine, "two", 1, 2))
    assert torch.equal(found, codes(engine, drawings(engine, "two", 1, 2)))


def test_one_of_two_who_want_pictures_goes_away(engine, shared, gate, asking, threads):
    expected = codes(engine, drawings(engine, "three", 1))
    gate.shut()
    first = threads.submit(codes, shared, drawings(engine, "two", 1))
    gate.wait()
    seen = threading.Event()

    def leave():
        columns = shared.draw(drawings(engine, "two", 2, 3), Sampling())
        next(columns)
        assert seen.wait(PATIENCE)
        columns.close()

    leaving = threads.submit(leave)
    stays = threads.submit(codes, shared, drawings(engine, "three", 1))
    all_asked(asking, 3)
    for _ in range(engine.image_tokens - 1):  # of the first picture
        gate.step()
    assert shared.load().drawings == 3
    seen.set()
    heard(leaving)
    all_asked(asking, 2)  # the first caller has left, too
    gate.step()
    assert shared.load().drawings == 1
    gate.open()
    heard(first)
    assert torch.equal(heard(stays), expected)


def test_a_batch_that_nobody_waits_for_is_given_up(engine, shared, gate):
    gate.shut()
    columns = shared.draw(drawings(engine, "two", 1, 2), Sampling())
    next(columns)
    gate.wait()
    gate.step()
    columns.close()
    gate.open()
    said = question(engine, 2)
    assert answers(shared, [said]) == alone(engine, said)
    assert [kind for kind, _ in gate.steps].count("codes") == 2
    assert shared.load() == Load(0, 0)


def test_pictures_are_painted_in_turns(engine, shared, asking, threads, monkeypatch):
    wanted = [codes(engine, drawings(engine, text, 1, 2, 3)) for text in ("two", "three")]
    expected = [engine.paint(each) for each in wanted]
    begun, go_on, painted = threading.Event(), threading.Event(), []
    paint = engine.paint

    def waiting(rows):
        painted.append(rows[0])
        begun.set()
        assert go_on.wait(PATIENCE)
        return paint(rows)

    monkeypatch.setattr(engine, "paint", waiting)
    seen = [threads.submit(shared.paint, wanted[0])]
    assert begun.wait(PATIENCE)
    seen.append(threads.submit(shared.paint, wanted[1]))
    all_asked(asking, 2)
    go_on.set()
    for found, right in zip(seen, expected, strict=True):
        assert torch.equal(heard(found), right)
    order = [next(n for n in (0, 1) if (wanted[n] == row).all(1).any()) for row in painted]
    assert order == [0, 0, 1, 0, 1, 1]


# Both


def test_text_and_drawings_take_turns(engine, shared, gate, asking, threads):
    prompt, wanted = question(engine, 2, max_tokens=8), drawings(engine, "two", 1, 2)
    said, drawn = alone(engine, prompt), codes(engine, wanted)
    gate.steps.clear()
    gate.shut()
    picture = threads.submit(codes, shared, wanted)
    gate.wait()
    all_asked(asking, 1)
    answer = threads.submit(answers, shared, [prompt])
    all_asked(asking, 1)
    gate.open()
    assert torch.equal(heard(picture), drawn) and heard(answer) == said
    kinds = [kind for kind, _ in gate.steps]
    assert kinds[:15] == ["codes", *["text", "codes"] * 7]
    assert kinds[15:] == ["codes"] * (engine.image_tokens - 1 - 8)


# Trouble


def test_fewer_answers_at_once_where_memory_runs_out(
    engine, shared, gate, asking, threads, monkeypatch
):
    prompts = [question(engine, words, temperature=1.0) for words in range(1, 7)]
    expected = alone(engine, *prompts)
    step, tried = engine.model.language.step, []

    def scarce(x, cache):
        tried.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(x, cache)

    monkeypatch.setattr(engine.model.language, "step", scarce)
    gate.shut()
    asked = [threads.submit(answers, shared, [prompt]) for prompt in prompts]
    gate.wait()
    all_asked(asking, len(prompts))
    gate.open()
    assert [heard(answer)[0] for answer in asked] == expected
    assert max(tried) == 3


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), ValueError("a defect")]
)
def test_an_error_at_one_prompt_reaches_its_caller_alone(
    engine, shared, gate, asking, threads, monkeypatch, error
):
    prompts = [question(engine, words) for words in (2, 3, 4)]
    expected = alone(engine, prompts[0], prompts[2])
    prefill, bad = engine.model.language.prefill, len(prompts[1].ids)

    def failing(x, cache, rows, lengths=None):
        if x.shape[1] == bad:
            raise error
        return prefill(x, cache, rows, lengths)

    monkeypatch.setattr(engine.model.language, "prefill", failing)
    gate.shut()
    asked = [threads.submit(answers, shared, prompts[:1])]
    gate.wait()
    all_asked(asking, 1)
    for prompt in prompts[1:]:
        asked.append(threads.submit(answers, shared, [prompt]))
        all_asked(asking, 1)
    gate.open()
    with pytest.raises(type(error), match=str(error)):
        heard(asked[1])
    assert [heard(asked[0])[0], heard(asked[2])[0]] == expected


def test_a_defect_reaches_those_under_way_and_nobody_else(
    engine, shared, gate, asking, threads, monkeypatch
):
    monkeypatch.setattr(decode, "ANSWERS", 2)
    prompts = [question(engine, words) for words in (2, 3, 4)]
    expected = alone(engine, prompts[2])
    step = engine.model.language.step

    def failing(x, cache):
        if len(x) == 2:
            monkeypatch.setattr(engine.model.language, "step", step)
            raise ValueError("a defect")
        return step(x, cache)

    monkeypatch.setattr(engine.model.language, "step", failing)
    gate.shut()
    asked = [threads.submit(answers, shared, prompts[:1])]
    gate.wait()
    all_asked(asking, 1)
    for prompt in prompts[1:]:
        asked.append(threads.submit(answers, shared, [prompt]))
        all_asked(asking, 1)
    gate.open()
    for concerned in asked[:2]:
        with pytest.raises(ValueError, match="a defect"):
            heard(concerned)
    assert heard(asked[2]) == expected


def test_a_caller_that_waits_is_sent_away(engine, shared, gate, asking, threads):
    """From another thread, wherever it waits: under way, for room, for its turn."""
    prompts = question(engine, 2, max_tokens=40), question(engine, 3)
    expected = alone(engine, prompts[1])
    gate.steps.clear()
    gate.shut()
    session = shared.session()
    waiting = [
        threads.submit(answers, session, prompts[:1]),
        threads.submit(codes, session, drawings(engine, "two", 1, 2)),
    ]
    gate.wait()
    all_asked(asking, 2)
    stays = threads.submit(answers, shared, prompts[1:])
    all_asked(asking, 1)
    session.cancel()
    for caller in waiting:  # while the thread of the work still stands at the gate
        with pytest.raises(ModelError, match="the request was cancelled"):
            heard(caller)
    gate.open()
    assert heard(stays) == expected
    assert len(gate.steps) <= 2 + 11  # of what was cancelled, a step of each at the most
    with pytest.raises(ModelError, match="the request was cancelled"):
        session.paint(torch.zeros(1, engine.image_tokens, dtype=torch.long))


def test_a_cancelled_reader_of_pictures_frees_its_rows_at_once(engine, shared, gate, threads):
    reading, go_on = threading.Event(), threading.Event()

    def prompts():
        yield question(engine, 2, max_tokens=40)
        yield question(engine, 3, max_tokens=40)
        reading.set()
        assert go_on.wait(PATIENCE)

    gate.shut()
    with shared.session() as session:
        caller = threads.submit(lambda: list(session.write(prompts())))
        gate.wait()
        assert reading.wait(PATIENCE)
    gate.open()
    assert answers(shared, [question(engine, 4)]) == alone(engine, question(engine, 4))
    assert shared.load() == Load(0, 0)
    go_on.set()
    with pytest.raises(ModelError, match="the request was cancelled"):
        heard(caller)


@pytest.mark.parametrize("part", ["draw", "paint", "most_pictures", "begin_writing"])
def test_a_defect_of_any_part_is_survived(engine, shared, monkeypatch, part):
    wanted, prompt = drawings(engine, "two", 1), question(engine, 2)

    def everything(engine):
        drawn = codes(engine, wanted)
        return drawn.tolist(), engine.paint(drawn).tolist(), answers(engine, [prompt])

    def failing(*args):
        monkeypatch.undo()
        raise ValueError("a defect")

    expected = everything(engine)
    monkeypatch.setattr(engine, part, failing)
    with pytest.raises(ValueError, match="a defect"):
        everything(shared)
    assert everything(shared) == expected


def test_an_error_of_a_caller_is_its_own(engine, shared):
    def prompts():
        yield question(engine, 2)
        raise OSError("no such picture")

    with pytest.raises(OSError, match="no such picture"):
        list(shared.write(prompts()))
    assert not shared.busy()
    prompt = question(engine, 2)
    assert answers(shared, [prompt]) == alone(engine, prompt)


def test_closing_ends_every_caller(engine, shared, gate, asking, threads, monkeypatch):
    gate.shut()
    asked = [
        threads.submit(answers, shared, [question(engine, 2, max_tokens=40)]),
        threads.submit(codes, shared, drawings(engine, "two", 1)),
        threads.submit(answers, shared, [question(engine, 3)]),
    ]
    gate.wait()
    all_asked(asking, 3)
    waits, join = threading.Event(), shared.thread.join
    monkeypatch.setattr(shared.thread, "join", lambda: (waits.set(), join()))
    closing = threads.submit(shared.close)
    assert waits.wait(PATIENCE)
    gate.open()
    heard(closing)
    for caller in asked:
        with pytest.raises(ModelError, match="was closed before it was done; ask again"):
            heard(caller)
    for late in (
        lambda: answers(shared, [question(engine, 2)]),
        lambda: codes(shared, drawings(engine, "two", 1)),
        lambda: shared.paint(torch.zeros(1, engine.image_tokens, dtype=torch.long)),
    ):
        with pytest.raises(ModelError, match="was closed"):
            late()
    assert not shared.thread.is_alive()


# What a server asks


def test_since_when_nobody_waits(engine, shared):
    assert not shared.busy()
    begun = shared.idle_since()
    assert begun is not None and begun <= time.monotonic()
    said = shared.write([question(engine, 2)])
    other = shared.draw(drawings(engine, "two", 1), Sampling())
    next(said), next(other)
    assert shared.busy() and shared.idle_since() is None
    said.close()
    assert shared.busy() and shared.idle_since() is None
    ending = time.monotonic()
    other.close()
    assert not shared.busy()
    assert ending <= shared.idle_since() <= time.monotonic()


def test_it_is_called_what_its_engine_is_called(engine, shared):
    for name in ("name", "precision", "notes", "writer", "preprocessing", "image_tokens"):
        assert getattr(shared, name) is getattr(engine, name)
        assert getattr(shared.session(), name) is getattr(engine, name)
    assert shared.most_pictures() == shared.session().most_pictures() == engine.most_pictures()
