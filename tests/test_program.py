"""The whole program, engine included, on a tiny random checkpoint."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from janus_cli.png import read_settings


@pytest.fixture
def picture(folder) -> str:
    Image.linear_gradient("L").convert("RGB").save("a.png")
    return "a.png"


@pytest.fixture
def tiny(janus, tiny_checkpoint):
    """Runs janus on the tiny checkpoint."""

    def run(*args, **options):
        ended = janus(*args, "-m", tiny_checkpoint, "--device", "cpu", **options)
        assert "Traceback" not in ended.err
        return ended

    return run


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


@pytest.mark.parametrize("backend", ["janus", "transformers"])
def test_answers_to_good_and_bad_pictures(backend, picture, folder, tiny):
    (folder / "b.png").write_bytes(b"")
    args = ("a.png", "b.png", "a.png", "what is this?", "--max-tokens", "5", "--json")
    ended = tiny("ask", *args, "--backend", backend, "--precision", "fp32")
    first, failed, last = map(json.loads, ended.out.splitlines())
    assert ended.code == 4 and ended.err == "janus: 1 of 3 failed\n"
    assert (first["input"], first["precision"], first["tokens"]) == ("a.png", "fp32", 5)
    assert first["text"] == last["text"]
    assert (failed["input"], failed["error_type"]) == ("b.png", "InputError")


def test_many_pictures_are_answered_as_each_alone(folder, tiny):
    names = [f"{number}.png" for number in range(11)]  # more than are answered at once
    for number, name in enumerate(names):
        Image.effect_noise((70 + number, 64), 90).save(folder / name)
    args = ("--max-tokens", "6", "--json")
    asked = ("-q", "how many?", "-q", "what is this?")
    records = [json.loads(line) for line in tiny("ask", *names, *asked, *args).out.splitlines()]
    assert [record["input"] for record in records] == [n for n in names for _ in range(2)]
    assert [record["question"] for record in records] == ["how many?", "what is this?"] * 11
    for record in (records[0], records[13], records[-1]):
        alone = json.loads(tiny("ask", record["input"], record["question"], *args).out)
        assert alone["text"] == record["text"]
    assert len({record["text"] for record in records}) > 3


def test_describe_and_ocr_print_their_answer(picture, tiny):
    for command in ("describe", "ocr"):
        ended = tiny(command, picture, "--max-tokens", "5")
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.strip()


def test_a_conversation_goes_on(picture, tiny):
    args = ("ask", picture, "one?", "--chat", "--max-tokens", "3", "--json")
    first, second = map(json.loads, tiny(*args, stdin="two?\n").out.splitlines())
    assert (first["question"], second["question"]) == ("one?", "two?")
    assert second["prompt_tokens"] > first["prompt_tokens"]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_four_at_once_are_the_four_alone(threads, tiny):
    env = {"OMP_NUM_THREADS": threads}
    wish = ("imagine", "a red circle", "--seed")
    together = tiny(*wish, "7", "-n", "3", "-o", "{seed}.png", env=env)
    assert (together.out, together.err) == ("7.png\n8.png\n9.png\n", "")
    assert len({pixels(path) for path in together.out.split()}) == 3
    for seed in ("7", "9"):
        alone = tiny(*wish, seed, "-o", "alone-{seed}.png", env=env)
        assert pixels(alone.out.strip()) == pixels(f"{seed}.png")
    assert read_settings("9.png")["seed"] == 9


def test_a_prompt_past_the_context(picture, tiny):
    ended = tiny("imagine", "word " * 2000)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    ended = tiny("ask", picture, "word " * 2000)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


def test_a_damaged_checkpoint(picture, folder, janus):
    (folder / "m").mkdir()
    (folder / "m" / "config.json").write_text("{")
    ended = janus("ask", picture, "what?", "-m", "m")
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "config.json" in ended.err
