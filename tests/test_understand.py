"""The order of what is told: pictures are answered side by side, and told one after the other."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from janus_cli import understand
from janus_cli.schema import Answer, Failure, Piece, Progress, UnderstandRequest


class ScriptedEngine:
    """Answers with letters: `script` says whose turn it is, `None` after a number ends it."""

    name, precision = "scripted", "fp32"

    def __init__(self, script):
        self.script = script
        self.asked = []
        self.preprocessing = SimpleNamespace(
            frame=lambda picture: picture, normalise=lambda frame: torch.zeros(3, 2, 2)
        )
        self.writer = SimpleNamespace(
            context=8,
            image_tokens=2,
            conversation=lambda pictures, history, question: [pictures, len(question)],
            decode=lambda tokens: "".join(map(chr, tokens)),
        )

    def write(self, prompts):
        self.asked = list(prompts)
        for number, said in self.script:
            if said is None:
                yield number, None
            else:
                for letter in said:
                    yield number, ord(letter)


@pytest.fixture(autouse=True)
def pictures(folder):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    (folder / "bad.png").write_bytes(b"")


def told(script, *images, questions=("what?",)):
    request = UnderstandRequest(images=images, questions=questions)
    return list(understand.run(request, ScriptedEngine(script)))


def short(events):
    """Pieces as (index, text), answers as index, failures as input."""
    names = []
    for event in events:
        if isinstance(event, Piece):
            names.append((event.index, event.text))
        elif isinstance(event, Answer):
            names.append(event.index)
        elif isinstance(event, Failure):
            names.append(event.input)
    return names


def test_one_answer_comes_piece_by_piece():
    events = told([(0, "two"), (0, None)], "a.png")
    assert short(events) == [(0, "t"), (0, "w"), (0, "o"), 0]
    assert (events[-1].text, events[-1].tokens, events[-1].question) == ("two", 3, "what?")
    assert {e.total for e in events if isinstance(e, Progress)} == {0}


def test_the_first_answer_is_told_first_whichever_ends_first():
    script = [(1, "x"), (0, "a"), (1, "y"), (1, None), (0, "b"), (0, None)]
    assert short(told(script, "a.png", "b.png")) == [(0, "a"), (0, "b"), 0, 1]


def test_an_answer_whose_turn_comes_begins_with_all_of_it_until_then():
    script = [(1, "x"), (1, "y"), (0, "a"), (0, None), (1, "z"), (1, None)]
    assert short(told(script, "a.png", "b.png")) == [(0, "a"), 0, (1, "xy"), (1, "z"), 1]


def test_failures_keep_their_place():
    script = [(1, "x"), (1, None), (0, "a"), (0, None)]
    found = short(told(script, "bad.png", "a.png", "none.png", "b.png", "bad.png"))
    assert found == ["bad.png", (1, "a"), 1, "none.png", 3, "bad.png"]


def test_every_question_about_each_picture():
    script = [(n, letter) for n in range(4) for letter in ("abcd"[n], None)]
    events = told(script, "a.png", "bad.png", "b.png", questions=("one?", "two?"))
    answers = [(e.index, e.input, e.question) for e in events if isinstance(e, Answer)]
    assert answers == [
        (0, "a.png", "one?"),
        (0, "a.png", "two?"),
        (2, "b.png", "one?"),
        (2, "b.png", "two?"),
    ]
    assert [e.index for e in events if isinstance(e, Failure)] == [1]


def test_a_document_is_answered_page_by_page(folder):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    frames[0].save(folder / "scan.tiff", save_all=True, append_images=frames[1:])
    script = [(n, letter) for n in (0, 2, 1, 3, 4) for letter in ("vwxyz"[n], None)]
    events = told(script, "scan.tiff", "a.png", "b.png")
    answers = [(e.index, e.page, e.text) for e in events if isinstance(e, Answer)]
    told_pages = [(0, 1, "v"), (0, 2, "w"), (0, 3, "x")]
    assert answers == [*told_pages, (1, None, "y"), (2, None, "z")]
    counts = [e.done for e in events if isinstance(e, Progress)]
    assert max(counts) == 2 and counts == sorted(counts)


def test_pages_that_were_answered_are_left_out(folder):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    frames[0].save(folder / "scan.tiff", save_all=True, append_images=frames[1:])
    request = UnderstandRequest(
        images=("a.png", "scan.tiff"), questions=("what?",), answered=((1, 1), (1, 3))
    )
    engine = ScriptedEngine([(0, None), (1, None)])
    answers = [e for e in understand.run(request, engine) if isinstance(e, Answer)]
    assert [(e.input, e.page) for e in answers] == [("a.png", None), ("scan.tiff", 2)]


def test_pages_belong_together_where_pictures_do(folder):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green")]
    frames[0].save(folder / "scan.tiff", save_all=True, append_images=frames[1:])
    request = UnderstandRequest(images=("a.png", "scan.tiff"), questions=("what?",), together=True)
    engine = ScriptedEngine([(0, None)])
    (answer,) = (e for e in understand.run(request, engine) if isinstance(e, Answer))
    assert (answer.input, answer.page) == ("a.png\nscan.tiff", None)
    assert [len(prompt.pixels) for prompt in engine.asked] == [3]


def test_no_more_pages_are_read_than_can_be_asked_about(folder):
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(50)]
    frames[0].save(folder / "scan.tiff", save_all=True, append_images=frames[1:])
    request = UnderstandRequest(images=("scan.tiff",), questions=("what?",), together=True)
    engine = ScriptedEngine([(0, None)])
    list(understand.run(request, engine))
    assert [len(prompt.pixels) for prompt in engine.asked] == [5]  # too many, but no more


def test_questions_about_one_picture_share_its_pixels():
    engine = ScriptedEngine([(n, None) for n in range(4)])
    request = UnderstandRequest(images=("a.png", "b.png"), questions=("one?", "two?"))
    list(understand.run(request, engine))
    first, second, third, fourth = (prompt.pixels for prompt in engine.asked)
    assert first is second and third is fourth and first is not third


def test_progress_counts_pictures():
    script = [(n, letter) for n in range(4) for letter in ("x", None)]
    events = told(script, "a.png", "bad.png", "b.png", questions=("one?", "two?"))
    counts = [(e.label, e.done, e.total) for e in events if isinstance(e, Progress)]
    assert counts[0] == ("pictures", 0, 3) and counts[-1] == ("pictures", 2, 3)
    assert [done for _, done, _ in counts] == sorted(done for _, done, _ in counts)


def test_half_of_a_character_waits_for_the_other_half():
    engine = ScriptedEngine([(0, "a"), (0, "bc"), (0, None)])
    shown = {1: "a", 2: "a\ufffd", 3: "a\u00e9"}
    engine.writer.decode = lambda tokens: shown[len(tokens)]
    request = UnderstandRequest(images=("a.png",), questions=("what?",))
    assert short(understand.run(request, engine)) == [(0, "a"), (0, "\u00e9"), 0]
