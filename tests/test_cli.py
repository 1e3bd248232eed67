"""Flags, questions, exit codes and errors, seen from outside: the program in its own process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from janus_cli.errors import ExitCode

COMMANDS = (
    *("describe", "ask", "ocr", "imagine", "info"),
    *("models", "pull", "quantize", "rm", "serve", "ps", "stop", "doctor"),
)


@pytest.fixture
def picture(folder) -> str:
    Image.new("RGB", (8, 6), "red").save("a.png")
    return "a.png"


def assert_one_line(ended, code: int, *words: str) -> None:
    """One line on standard error with these words, this exit code, and nothing else."""
    assert ended.out == ""
    assert ended.code == code, ended.err
    assert ended.err.startswith("janus: ")
    assert ended.err.count("\n") == 1 and ended.err.endswith("\n")
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


# Help


def test_help_is_complete_and_ordered(janus):
    help_text = janus("--help").out
    places = [help_text.index(f"\n  {command} ") for command in COMMANDS]
    assert places == sorted(places)
    for code in ExitCode:
        assert re.search(rf"^    {code.value} +\S", help_text, re.MULTILINE)
    for variable in ("JANUS_MODEL", "JANUS_DEVICE", "JANUS_DEBUG"):
        assert variable in help_text
    for command in COMMANDS:
        assert re.search(rf"^    janus {command}\b", help_text, re.MULTILINE)
    assert janus().out == help_text
    assert janus("-h").out == help_text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_an_example(command, janus):
    ended = janus(command, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: janus {command} [OPTIONS]")
    assert f"Example: janus {command}" in ended.out


def test_version(janus):
    from janus_cli import __version__

    assert janus("--version").out == f"janus {__version__}\n"


def test_completion_script_can_be_shown(janus):
    ended = janus("--show-completion", "bash", env={"SHELL": "/bin/bash"})
    assert "_JANUS_COMPLETE=complete_bash" in ended.out or ended.code == 2


# Wrong use


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nonsense"], ["no such command 'nonsense'", "janus --help"]),
        (["--nonsense"], ["no such option: --nonsense"]),
        (["describe"], ["IMAGE: no picture; name a file, a folder"]),
        (["ocr", "-0", "a.png"], ["-0", "--files-from"]),
        (["ocr", "--files-from", "-", "-"], ["standard input", "once"]),
        (["ocr", "--files-from", "-"], ["--files-from -: names no picture"]),
        (["ask", "--files-from", "list"], ["QUESTION: no question", "--files-from"]),
        (["ask"], ["IMAGE"]),
        (["ask", "a.png"], ["QUESTION: no question"]),
        (["ask", "a.png", "a.png"], ["QUESTION: no question"]),
        (["ask", "-q", "what?"], ["IMAGE: no picture"]),
        (["ask", "a.png", "-q", " "], ["QUESTION: is empty"]),
        (["ask", "a.png", "how many?", "-q", "what?"], ["how many?: is no picture; with -q"]),
        (["ask", "a.png", "--chat", "-q", "what?"], ["-q: --chat"]),
        (["ask", "a.png", ""], ["QUESTION"]),
        (["ask", "a.png", "  "], ["QUESTION"]),
        (["ask", "-", "-", "what?"], ["standard input", "once"]),
        (["ask", "-", "what?", "--chat"], ["-:", "--chat"]),
        (["ask", "a.png", "what?", "--max-tokens", "many"], ["--max-tokens", "int"]),
        (["ask", "a.png", "what?", "--max-tokens", "0"], ["--max-tokens", "at least 1"]),
        (["ask", "a.png", "what?", "--temperature", "nan"], ["--temperature"]),
        (["ask", "a.png", "what?", "--seed", "-1"], ["--seed"]),
        (["ask", "a.png", "what?", "--device", "tpu"], ["--device", "'tpu'", "cuda"]),
        (["ask", "a.png", "what?", "--precision", "int1"], ["--precision", "'int1'", "bf16"]),
        (["ask", "a.png", "what?", "--backend", "onnx"], ["--backend", "transformers"]),
        (["describe", "a.png", "--detail", "epic"], ["--detail", "'epic'", "short"]),
        (["imagine"], ["PROMPT: nothing to draw", "--prompts"]),
        (["imagine", ""], ["PROMPT"]),
        (["imagine", "-"], ["PROMPT", "standard input holds no prompt"]),
        (["imagine", "a", "-n", "0"], ["-n", "at least 1"]),
        (["imagine", "a", "--seed", str(2**63 - 1)], ["--seed"]),
        (["imagine", "a", "--guidance", "inf"], ["--guidance"]),
        (["imagine", "a", "--top-p", "0"], ["--top-p"]),
        (["imagine", "a", "--top-k", "-1"], ["--top-k"]),
        (["imagine", b"\xff"], ["PROMPT", "UTF-8"]),
        (["ask", "a.png", b"\xff"], ["QUESTION", "UTF-8"]),
        (["info"], ["info: missing argument 'FILE'"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_wrong_use_is_one_line_and_code_2(args, words, picture, fake_janus):
    assert_one_line(fake_janus(*args), ExitCode.USAGE, *words)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere", "no such folder"), ("empty", "no config.json"), ("a.png", "is a file")],
)
def test_an_unknown_model(name, reason, picture, folder, janus):
    (folder / "empty").mkdir()
    ended = janus("ask", picture, "what?", "--model", name)
    assert_one_line(ended, ExitCode.MODEL, name, reason, "checkpoint")
    assert janus("ask", picture, "what?", env={"JANUS_MODEL": name}) == ended


def test_models_can_be_named_by_path_and_by_environment(picture, fake_janus, folder, a_model):
    (folder / "mine").mkdir()
    (folder / "mine" / "config.json").write_text("{}")

    def model_of(*args, **env):
        return json.loads(fake_janus("ask", picture, "?", "--json", *args, env=env).out)["model"]

    assert model_of() == Path(a_model).name
    assert model_of(JANUS_MODEL="mine") == "mine"
    assert model_of("-m", "mine") == "mine"


# Errors of all kinds


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("ModelError", 3),
        ("InputError", 4),
        ("OutputError", 5),
        ("MemoryError", 3),
        ("RuntimeError", 1),
        ("KeyboardInterrupt", 130),
        ("EOFError", 1),
        ("OSError", 1),
    ],
)
def test_an_error_is_one_line_and_its_code(error, code, picture, fake_janus):
    ended = fake_janus("ask", picture, "what?", env={"FAKE_ERROR": error})
    assert_one_line(ended, code)
    if error not in ("MemoryError", "KeyboardInterrupt"):
        assert r"[red]\nof\x1b[31m" in ended.err


def test_debug_shows_the_traceback(picture, fake_janus):
    ended = fake_janus("ask", picture, "?", env={"FAKE_ERROR": "ModelError", "JANUS_DEBUG": "1"})
    assert ended.code == ExitCode.MODEL
    assert "Traceback" in ended.err and "in open_engine" in ended.err
    ended = fake_janus("ask", picture, "?", env={"FAKE_ERROR": "ModelError", "JANUS_DEBUG": "0"})
    assert "Traceback" not in ended.err


def test_one_bad_picture_does_not_stop_the_others(picture, folder, fake_janus):
    (folder / "b.png").write_bytes(b"")
    ended = fake_janus("describe", "a.png", "b.png", "none.png", "a.png")
    assert ended.out == "a.png: normal? 0 1\n" * 2
    assert ended.code == ExitCode.INPUT
    empty, missing, summary = ended.err.splitlines()
    assert empty.startswith("janus: b.png: is empty")
    assert missing.startswith("janus: none.png: no such file")
    assert summary == "janus: 2 of 4 failed"


def test_a_single_bad_picture(fake_janus):
    assert_one_line(fake_janus("ocr", "none.png"), ExitCode.INPUT, "none.png: no such file")


# Interruptions


def test_a_closed_pipe_is_quiet(picture, environment, a_model):
    many = [picture] * 5000  # more than a pipe holds
    command = [sys.executable, str(Path(__file__).parent / "fake_janus.py"), "describe", *many]
    env = environment | {"JANUS_MODEL": a_model}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"a.png: normal? 0 1\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == ExitCode.CLOSED_PIPE


@pytest.mark.parametrize("args", [["--help"], ["ask", "--help"], ["--version"]])
def test_help_into_a_closed_pipe_is_quiet(args, environment):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "janus_cli", *args]
    ended = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert ended.stderr == b""
    assert ended.returncode == ExitCode.CLOSED_PIPE


@pytest.mark.parametrize("args", [["--help"], ["ask", "--help"], ["ask", "a.png", "?", "--json"]])
def test_a_full_disk_under_standard_output(args, picture, environment, a_model):
    command = [sys.executable, str(Path(__file__).parent / "fake_janus.py"), *args]
    env = environment | {"JANUS_MODEL": a_model}
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(command, env=env, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == ExitCode.OUTPUT
    assert ended.stderr.startswith(b"janus: standard output: ")
    assert ended.stderr.count(b"\n") == 1


def test_ctrl_c_ends_with_one_line_and_130(picture, folder, environment, a_model):
    os.mkfifo("gate")
    command = [sys.executable, str(Path(__file__).parent / "fake_janus.py"), "imagine", "a"]
    env = environment | {"JANUS_MODEL": a_model, "FAKE_GATE": "gate"}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        path = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"janus: interrupted\n"
        assert process.wait() == ExitCode.INTERRUPTED
    assert Path(path.decode().strip()).is_file()
    assert sorted(os.listdir()) == sorted(["a.png", "gate", path.decode().strip()])


# Questions and pictures


def test_the_last_argument_is_the_question(picture, fake_janus):
    assert fake_janus("ask", picture, "what?").out == "what? 0 1\n"
    assert fake_janus("ask", picture, "no-such-file.png").out == "no-such-file.png 0 1\n"
    assert fake_janus("ask", "--", picture, "-5?").out == "-5? 0 1\n"


def test_several_questions(picture, fake_janus):
    asked = ("-q", "one?", "--question", "say two")
    assert fake_janus("ask", picture, *asked).out == "one? one? 0 1\nsay two: say two 0 1\n"
    assert fake_janus("ask", picture, "-q", "one?").out == "one? 0 1\n"
    both = fake_janus("ask", *asked, picture, picture).out.splitlines()
    assert both == ["a.png: one? one? 0 1", "a.png: say two: say two 0 1"] * 2
    together = fake_janus("ask", picture, picture, *asked, "--together").out
    assert together == "one? one? 0 2\nsay two: say two 0 2\n"
    records = map(json.loads, fake_janus("ask", picture, *asked, "--json").out.splitlines())
    assert [record["question"] for record in records] == ["one?", "say two"]


def test_a_picture_that_fails_several_questions_fails_once(picture, fake_janus):
    ended = fake_janus("ask", "none.png", picture, "-q", "one?", "-q", "two?")
    assert ended.out == "a.png: one? one? 0 1\na.png: two? two? 0 1\n"
    assert ended.code == ExitCode.INPUT
    assert ended.err == "janus: none.png: no such file; check the name\njanus: 1 of 2 failed\n"


def test_together_is_one_conversation(picture, fake_janus):
    assert fake_janus("ask", picture, picture, "what?").out == "a.png: what? 0 1\n" * 2
    assert fake_janus("ask", picture, picture, "what?", "--together").out == "what? 0 2\n"


def test_the_words_of_each_command(picture, fake_janus):
    assert fake_janus("describe", picture, "--detail", "long").out == "long? 0 1\n"
    assert fake_janus("ocr", picture).out == "ocr? 0 1\n"


def test_a_picture_on_standard_input(picture, folder, fake_janus):
    data = (folder / picture).read_bytes()
    assert fake_janus("ask", "-", "what?", stdin=data).out == "what? 0 1\n"
    assert_one_line(fake_janus("ask", "-", "what?"), 4, "standard input: is empty")


def test_seeds(picture, fake_janus):
    def seed_of(*args):
        return json.loads(fake_janus("ask", picture, "?", "--json", *args).out)["seed"]

    assert seed_of() == 0
    assert seed_of("--temperature", "1", "--seed", "5") == 5
    random = {seed_of("--temperature", "1") for _ in range(3)}
    assert len(random) > 1 and all(0 <= seed < 2**31 for seed in random)


# Conversations


def test_a_conversation_keeps_its_turns(picture, fake_janus):
    ended = fake_janus("ask", picture, "one?", "--chat", stdin="two?\n\n  \nthree?\n")
    assert ended.out == "one? 0 1\ntwo? 1 1\nthree? 2 1\n"
    assert (ended.code, ended.err) == (0, "")


def test_a_conversation_may_begin_without_a_question(picture, fake_janus):
    assert fake_janus("ask", picture, "--chat", stdin="one?\n").out == "one? 0 1\n"
    assert fake_janus("ask", picture, "--chat").out == ""
    assert fake_janus("ask", picture, picture, "--chat", stdin="one?").out == "one? 0 2\n"


def test_a_conversation_about_a_bad_picture_ends_before_it_begins(fake_janus):
    ended = fake_janus("ask", "none.png", "--chat", stdin="one?\n")
    assert_one_line(ended, ExitCode.INPUT, "none.png: no such file")


def test_a_conversation_in_a_terminal(picture, fake_terminal):
    terminal = fake_terminal("ask", picture, "--chat")
    terminal.wait_for("> ")
    terminal.type("one?\n")
    terminal.wait_for("one? 0 1\n> ")
    terminal.type("two?\n")
    terminal.wait_for("two? 1 1\n> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_ctrl_c_cancels_an_answer_then_ends_the_conversation(picture, fake_terminal):
    os.mkfifo("gate")
    terminal = fake_terminal("ask", picture, "one?", "--chat", env={"FAKE_GATE": "gate"})
    terminal.wait_for("one?")
    terminal.interrupt()
    terminal.wait_for("cancelled")
    terminal.wait_for("> ")
    terminal.interrupt()
    terminal.type("\n")  # readline may have missed a signal in its first microseconds
    terminal.wait_for("janus: interrupted\n")
    assert terminal.end() == ExitCode.INTERRUPTED


def test_a_terminal_is_no_picture(fake_terminal):
    terminal = fake_terminal("ask", "-", "what?")
    terminal.wait_for("standard input is no picture")
    assert terminal.end() == ExitCode.INPUT
