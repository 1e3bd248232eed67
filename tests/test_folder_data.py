"""Own data: what a line may say, what is named when it is broken, and how pictures are cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from janus_cli.engine.pixels import Preprocessing
from janus_cli.errors import InputError
from janus_cli.train.folder import Folder, find_files
from tests.lessons import write_picture
from tests.tiny_janus import SIDE

LINES = (
    {"image": "a.png", "question": "what color?", "answer": "red"},
    {"image": "b.png", "caption": "a blue picture"},
    {"question": "what is red?", "answer": "a color"},
    {"text": "red is a color"},
    {"image": "a.png", "question": "is it blue?", "answer": "no"},
)


def read(*lines, name: str = "data.jsonl", seed: int = 0) -> tuple[Folder, list[str]]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    Path(name).write_text("\n".join(texts), encoding="utf-8")
    for picture in ("a", "b"):
        write_picture(Path(f"{picture}.png"), {"a": "red", "b": "blue"}[picture])
    source, complaints = Folder(Path(name), Preprocessing(SIDE), seed=seed), []
    source.read(complaints.append)
    return source, complaints


def test_every_kind_of_line_is_a_lesson():
    source, complaints = read(*LINES)
    assert complaints == []
    assert [source.count(k) for k in ("understanding", "text", "generation")] == [1, 2, 1]
    seen = source.lesson("understanding", 0)
    assert sorted(seen.pairs) == [("is it blue?", "no"), ("what color?", "red")]
    assert seen.picture[SIDE // 2, SIDE // 2].tolist() == [255, 0, 0]
    drawn = source.lesson("generation", 0)
    assert drawn.caption == "a blue picture" and drawn.pairs == ()
    texts = [source.lesson("text", number) for number in range(2)]
    assert {(lesson.pairs, lesson.text) for lesson in texts} == {
        ((("what is red?", "a color"),), None),
        ((), "red is a color"),
    }


def test_a_question_and_a_text_on_one_line_are_both_learned():
    source, complaints = read({"question": "who?", "answer": "I", "text": "it is I"})
    lessons = [source.lesson("text", number) for number in range(2)]
    assert not complaints and {(one.pairs, one.text) for one in lessons} == {
        ((("who?", "I"),), None),
        ((), "it is I"),
    }


def test_a_picture_to_read_is_framed_and_one_to_draw_is_cropped():
    source, _ = read(*LINES)
    with Image.open("a.png") as image:
        framed = np.array(Preprocessing(SIDE).frame(image))
    assert (source.lesson("understanding", 0).picture == framed).all()
    assert framed[0, 0].tolist() == [127, 127, 127]  # wider than high: there is a margin
    drawn = source.lesson("generation", 0).picture
    assert drawn.shape == (SIDE, SIDE, 3)
    assert (drawn.reshape(-1, 3) == [0, 0, 255]).all()  # and none here


def test_every_lesson_comes_once_a_turn_in_an_order_of_its_own():
    source, _ = read(*({"text": f"text {number}"} for number in range(20)))
    turns = [[source.lesson("text", 20 * t + n).text for n in range(20)] for t in range(2)]
    assert sorted(turns[0]) == sorted(turns[1]) == sorted(f"text {n}" for n in range(20))
    assert turns[0] != turns[1]
    other, _ = read(*({"text": f"text {number}"} for number in range(20)), seed=1)
    assert [other.lesson("text", n).text for n in range(20)] != turns[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "is no JSON"),
        ("[1, 2]", "is no JSON object"),
        ({"image": "a.png"}, "an image lacks its question and answer, or its caption"),
        ({"image": "a.png", "text": "a cat"}, "an image lacks its question"),
        ({"image": "a.png", "question": "what?"}, "a question and its answer go together"),
        ({"answer": "yes"}, "a question and its answer go together"),
        ({"caption": "a cat"}, "a caption lacks its 'image'"),
        ({"image": 3, "caption": "a cat"}, "'image' is no string"),
        ({"text": "  "}, "has neither"),
        ({"text": "\ud800"}, "'text' holds half of a character"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_a_broken_line_is_named_and_left_out(line, reason):
    source, complaints = read(LINES[3], "", line, LINES[3])
    (complaint,) = complaints
    assert complaint.startswith(f"data.jsonl:3: {reason}")
    assert source.count("text") == 2
    with pytest.raises(InputError, match=r"data\.jsonl: holds nothing to learn from"):
        read(line)


@pytest.mark.parametrize("content", ["missing", "truncated", "text"])
def test_a_broken_picture_is_named_with_its_line(content):
    source, complaints = read(LINES[3], {"image": "broken.png", "caption": "a cat"})
    if content == "truncated":
        Path("broken.png").write_bytes(Path("a.png").read_bytes()[:60])
    elif content == "text":
        Path("broken.png").write_text("hello")
    with pytest.raises(InputError, match=r"^data\.jsonl:2: .*broken\.png"):
        source.lesson("generation", 0)
    assert complaints == []


def test_pictures_lie_beside_the_file_that_names_them(tmp_path):
    write_picture(tmp_path / "far" / "pictures" / "c.png", "green")
    line = {"image": "pictures/c.png", "question": "what color?", "answer": "green"}
    (tmp_path / "far" / "data.jsonl").write_text(json.dumps(line))
    (file,) = find_files(tmp_path / "far")
    source = Folder(file, Preprocessing(SIDE), seed=0)
    source.read(print)
    assert source.lesson("understanding", 5).picture[SIDE // 2, SIDE // 2].tolist() == [0, 128, 0]


def test_an_empty_folder_or_file_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.jsonl file"):
        find_files(tmp_path / "empty")
    with pytest.raises(InputError, match="holds nothing to learn from"):
        read("")
    with pytest.raises(InputError, match=r"nowhere\.jsonl: cannot be read"):
        Folder(Path("nowhere.jsonl"), Preprocessing(SIDE), seed=0).read(print)
