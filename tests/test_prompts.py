"""Lists of prompts: plain lines and JSON lines, and what is wrong with a line."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pytest

from janus_cli import prompts
from janus_cli.errors import InputError, UsageError
from janus_cli.schema import MAX_SEED, Wish

USUAL = Wish("anything", count=2, seed=7, guidance=3.0, top_k=9, negative="blue")


def listed(data: bytes | str, folder, usual: Wish = USUAL) -> list[prompts.Order]:
    """The orders of a list with these contents."""
    (folder / "jobs.txt").write_bytes(data.encode() if isinstance(data, str) else data)
    return prompts.listed("jobs.txt", usual)


@pytest.fixture
def stdin(monkeypatch):
    """Puts bytes on standard input."""

    def put(data: bytes) -> None:
        stream = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stream)

    return put


def test_a_plain_line_is_a_prompt_drawn_as_usual(folder):
    first, second = listed("a corgi\n\n \n  two, {red}  \n", folder)
    assert first.wish == Wish("a corgi", count=2, seed=7, guidance=3.0, top_k=9, negative="blue")
    assert (first.stem, first.output, first.own_seed) == ("jobs", None, False)
    assert second.wish.prompt == "two, {red}"
    assert second.place == "--prompts jobs.txt, line 4"


@pytest.mark.parametrize(
    "data", ["\ufeffa\r\nb\r\n".encode(), b"\r\n\r\na\r\n  b", b'\xef\xbb\xbf{"prompt": "a"}\nb\n']
)
def test_marks_and_ends_of_lines_are_no_part_of_a_prompt(data, folder):
    assert [order.wish.prompt for order in listed(data, folder)] == ["a", "b"]


def test_a_json_line_says_what_is_different(folder):
    record = {"prompt": "Bär", "seed": 3, "n": 4, "guidance": 2, "temperature": 0.5, "top_k": 0}
    record |= {"top_p": 1, "negative": None, "output": "x-{i}.png"}
    (order,) = listed(json.dumps(record), folder)
    assert order.wish == Wish(
        "Bär", count=4, seed=3, guidance=2.0, temperature=0.5, top_k=0, top_p=1.0, negative=None
    )
    assert isinstance(order.wish.guidance, float)
    assert (order.output, order.own_seed, order.stem) == ("x-{i}.png", True, "jobs")
    (bare,) = listed('  {"prompt": "a"}', folder)
    assert bare.wish == Wish("a", count=2, seed=7, guidance=3.0, top_k=9, negative="blue")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "a", "sed": 1}', "'sed' is unknown; the keys are prompt, seed"),
        ('{"seed": 1}', 'has no "prompt"'),
        ('{"prompt": "a"', "begins like JSON but is none .*column"),
        ("{red|blue} cat", "begins like JSON"),
        ('{"prompt": "a"} x', "begins like JSON"),
        ("{" + '"a":[' * 100_000, "begins like JSON"),
        ('{"prompt": "a", "seed": %s}' % ("9" * 5000), "begins like JSON"),
        ('{"prompt": 1}', "prompt must be a text"),
        ('{"prompt": "a", "n": true}', "n must be a whole number"),
        ('{"prompt": "a", "n": 1.0}', "n must be a whole number"),
        ('{"prompt": "a", "seed": "7"}', "seed must be a whole number"),
        ('{"prompt": "a", "seed": null}', "seed must be a whole number"),
        ('{"prompt": "a", "guidance": false}', "guidance must be a number"),
        ('{"prompt": "a", "negative": 1}', "negative must be a text or null"),
        ('{"prompt": "a", "output": ["b"]}', "output must be a text or null"),
        ('{"prompt": " "}', "PROMPT: is empty"),
        ('{"prompt": "a", "n": 0}', "-n: must be at least 1"),
        (f'{{"prompt": "a", "seed": {MAX_SEED}}}', "--seed: must lie"),
        ('{"prompt": "a", "guidance": Infinity}', "--guidance: "),
        ('{"prompt": "a", "guidance": 1%s}' % ("0" * 400), "too large"),
        ('{"prompt": "a", "top_p": NaN}', "--top-p: "),
        ('{"prompt": "\\ud800"}', "PROMPT: is not valid UTF-8"),
        ('{"prompt": "a", "output": "\\ud800"}', "output: is not valid UTF-8"),
        (b"caf\xe9", "is not valid UTF-8; save"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(line, words, folder):
    data = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(UsageError, match=f"^--prompts jobs.txt, line 3: .*{words}") as caught:
        listed(b"fine\n\n" + data + b"\nfine\n", folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_an_empty_list_is_refused(data, folder):
    with pytest.raises(UsageError, match=r"--prompts jobs\.txt: holds no prompt"):
        listed(data, folder)


@pytest.mark.parametrize("name", ["none.txt", ".", "a\0b"])
def test_a_list_that_cannot_be_read(name, folder):
    with pytest.raises(InputError, match=r"--prompts .*: cannot be read: "):
        prompts.listed(name, USUAL)


def test_arguments_come_first_and_standard_input_in_its_place(folder, stdin):
    (folder / "jobs.txt").write_text("four")
    stdin(b"two\n{three}\n")
    orders = prompts.read(["one", "-", "last"], "jobs.txt", USUAL)
    told = [(order.wish.prompt, order.stem) for order in orders]
    assert told[:3] == [("one", None), ("two", "stdin"), ("{three}", "stdin")]
    assert told[3:] == [("last", None), ("four", "jobs")]


def test_the_list_may_come_on_standard_input(stdin):
    stdin(b'a\n{"prompt": "b", "seed": 1}\n')
    first, second = prompts.read([], "-", USUAL)
    assert (first.wish.seed, second.wish.seed) == (7, 1)
    assert first.stem == second.stem == "stdin"


def test_standard_input_is_read_once(stdin):
    stdin(b"a")
    for words, source in ((["-"], "-"), (["-", "-"], None)):
        with pytest.raises(UsageError, match="-: standard input is read once"):
            prompts.read(words, source, USUAL)


def test_a_terminal_is_no_list(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(InputError, match="--prompts -: standard input is no list"):
        prompts.read([], "-", USUAL)


def test_nothing_to_draw_is_refused():
    with pytest.raises(UsageError, match=r"PROMPT: nothing to draw; .*--prompts"):
        prompts.read([], None, USUAL)
