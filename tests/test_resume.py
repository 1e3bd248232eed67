"""Answers that go into files: one for all or one each, gone on with, and never an input's."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from janus_cli.destination import paths_under
from janus_cli.errors import ExitCode, OutputError, UsageError
from janus_cli.files import Log
from janus_cli.former import left_out, take_up
from janus_cli.schema import UnderstandRequest

from .conftest import FAKE

QUESTION = "what?"


@pytest.fixture
def pictures(folder):
    """Nine pictures, one of them broken, some in folders, and one a document of two pages."""
    for name in ("a.png", "b.png", "sub/c.png", "sub/deep/d.png", "e.jpg", "f.png", "h.png"):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)
    (folder / "photos" / "bad.png").write_bytes(b"broken")
    page = Image.new("L", (8, 8))
    page.save(folder / "photos" / "scan.tiff", save_all=True, append_images=[page])
    return "photos"


def records(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def keys(found):
    return [(record["input"], record.get("page"), "error" in record) for record in found]


ALL = [
    ("photos/a.png", None, False),
    ("photos/b.png", None, False),
    ("photos/bad.png", None, True),
    ("photos/e.jpg", None, False),
    ("photos/f.png", None, False),
    ("photos/h.png", None, False),
    ("photos/scan.tiff", 1, False),
    ("photos/scan.tiff", 2, False),
    ("photos/sub/c.png", None, False),
    ("photos/sub/deep/d.png", None, False),
]
GOOD = [key for key in ALL if not key[2]]


def test_a_file_gets_what_standard_output_would(pictures, fake_janus, folder):
    shown = fake_janus("ask", pictures, "-r", QUESTION)
    written = fake_janus("ask", pictures, "-r", QUESTION, "-o", "answers.txt")
    assert (written.code, written.out, written.err) == (ExitCode.INPUT, "", shown.err)
    assert (folder / "answers.txt").read_text() == shown.out
    assert "photos/scan.tiff:2: what?" in shown.out


def test_records_in_a_file(pictures, fake_janus):
    ended = fake_janus("ask", pictures, "-r", QUESTION, "--json", "-o", "a.jsonl")
    assert (ended.code, ended.out, ended.err) == (4, "", "janus: 1 of 9 failed\n")
    assert keys(records("a.jsonl")) == ALL


def test_an_existing_file_is_gone_on_with_or_kept(pictures, fake_janus, folder):
    (folder / "a.jsonl").write_text("mine\n")
    args = ("ask", pictures, QUESTION, "--json", "-o", "a.jsonl")
    ended = fake_janus(*args)
    assert (ended.code, ended.err) == (
        ExitCode.OUTPUT,
        "janus: a.jsonl: exists; --resume goes on with it, --force replaces it\n",
    )
    ended = fake_janus(*args, "--resume")
    assert ended.code == ExitCode.OUTPUT
    assert ended.err.startswith("janus: a.jsonl, line 1: is no answer of janus")
    assert (folder / "a.jsonl").read_text() == "mine\n"
    assert fake_janus(*args, "--force").code == ExitCode.INPUT
    assert len(records("a.jsonl")) == 8


def test_a_file_is_kept_until_there_is_something_in_its_place(pictures, fake_janus, folder):
    (folder / "a.txt").write_text("mine\n")
    args = ("ask", "photos/a.png", QUESTION, "-o", "a.txt", "--force")
    assert fake_janus(*args, env={"FAKE_ERROR": "ModelError"}).code == ExitCode.MODEL
    assert (folder / "a.txt").read_text() == "mine\n"
    assert fake_janus(*args).code == ExitCode.OK
    written = (folder / "a.txt").read_text()
    assert written and "mine" not in written
    # Where no answer came, none is in it.
    assert fake_janus(*args[:1], "photos/bad.png", *args[2:]).code == ExitCode.INPUT
    assert (folder / "a.txt").read_text() == ""


def test_an_input_is_never_written_over(pictures, fake_janus, folder):
    before = (folder / "photos" / "a.png").read_bytes()
    ended = fake_janus("ask", pictures, QUESTION, "-o", "photos/a.png", "--force")
    assert (ended.code, ended.err) == (
        ExitCode.OUTPUT,
        "janus: photos/a.png: is one of the pictures; choose another name\n",
    )
    (folder / "notes.txt").write_bytes(before)
    (folder / "list").write_text("notes.txt\n")
    ended = fake_janus("ask", "-q", QUESTION, "--files-from", "list", "--out", ".", "--force")
    assert (ended.code, (folder / "notes.txt").read_bytes()) == (ExitCode.OUTPUT, before)
    assert (folder / "photos" / "a.png").read_bytes() == before


def test_options_that_do_not_go_together(pictures, fake_janus):
    for options, words in (
        (("--resume",), "--resume: needs --out FOLDER, or -o FILE with --json"),
        (("--resume", "-o", "a.txt"), "--resume: needs"),
        (("--force",), "--force: replaces files"),
        (("-o", "a", "--out", "b"), "-o: names one file"),
        (("--together", "--out", "b"), "--out: writes a file for each picture"),
        (("--chat", "-o", "a"), "--chat: answers on standard output"),
    ):
        ended = fake_janus("ask", "photos/a.png", QUESTION, *options)
        assert ended.code == ExitCode.USAGE and words in ended.err, ended.err
        assert ended.err.count("\n") == 1
    assert sorted(os.listdir(".")) == ["photos"]


def test_a_file_for_each_picture_in_a_tree_like_theirs(pictures, fake_janus, folder):
    ended = fake_janus("ask", pictures, "-r", QUESTION, "--out", "answers")
    assert ended.code == ExitCode.INPUT
    written = sorted(str(path) for path in Path("answers").rglob("*") if path.is_file())
    assert (
        sorted(ended.out.splitlines())
        == written
        == [
            "answers/a.txt",
            "answers/b.txt",
            "answers/e.txt",
            "answers/f.txt",
            "answers/h.txt",
            "answers/scan.txt",
            "answers/sub/c.txt",
            "answers/sub/deep/d.txt",
        ]
    )
    assert (folder / "answers" / "a.txt").read_text() == "what? 0 1\n"
    assert (folder / "answers" / "scan.txt").read_text() == "what? 0 1\n\fwhat? 0 1\n"


def test_a_file_of_records_for_each_picture(pictures, fake_janus):
    fake_janus("ask", pictures, "-r", "-q", "one?", "-q", "two?", "--json", "--out", "answers")
    assert [r["question"] for r in records("answers/a.json")] == ["one?", "two?"]
    assert keys(records("answers/bad.json")) == [("photos/bad.png", None, True)]
    assert [r["page"] for r in records("answers/scan.json")] == [1, 1, 2, 2]


def test_a_folder_is_gone_on_with(pictures, fake_janus, folder):
    args = ("ask", pictures, "-r", QUESTION, "--json", "--out", "answers")
    fake_janus(*args)
    (folder / "answers" / "b.json").unlink()
    old = (folder / "answers" / "a.json").stat().st_ino
    ended = fake_janus(*args)
    assert ended.code == ExitCode.OUTPUT and "answers/a.json: exists; --resume" in ended.err
    ended = fake_janus(*args, "--resume")
    assert ended.err == "janus: 7 of 9 were answered before\njanus: 1 of 2 failed\n"
    assert sorted(ended.out.splitlines()) == ["answers/b.json", "answers/bad.json"]
    assert (folder / "answers" / "a.json").stat().st_ino == old
    Image.new("RGB", (8, 8)).save("photos/bad.png")
    assert fake_janus(*args, "--resume").code == 0
    again = fake_janus(*args, "--resume", env={"FAKE_ERROR": "ModelError"})
    assert (again.code, again.out) == (0, "")  # no model is opened for nothing


def test_pictures_of_one_name_have_files_of_their_own():
    assert paths_under("out", ["a.png", "a.jpg", "b.png"], as_json=False) == [
        "out/a.png.txt",
        "out/a.jpg.txt",
        "out/b.txt",
    ]
    with pytest.raises(UsageError, match=r"two pictures would be answered in out/a\.png\.json"):
        paths_under("out", ["a.png", "a.png"], as_json=True)


# Going on with a file of records


def line(name, page=None, question=QUESTION, **more):
    return (
        json.dumps({"input": name, "page": page, "question": question, "text": "", **more}) + "\n"
    )


def failed(name, **more):
    return json.dumps({"input": name, "error": "broken", "error_type": "InputError", **more}) + "\n"


def taken_up(text, *images, questions=(QUESTION,)):
    """What is left of a request and of the file."""
    Path("a.jsonl").write_text(text)
    log = Log.open("a.jsonl")
    done = take_up(log, questions, images)
    log.close()
    left, answered = left_out(UnderstandRequest(images, questions), done)
    return [images[number] for number in left], answered, Path("a.jsonl").read_text()


def test_what_is_answered_is_left_out():
    text = line("a") + line("b")
    assert taken_up(text, "a", "b", "c") == (["c"], (), text)


def test_a_torn_line_is_done_again():
    assert taken_up(line("a") + line("b")[:-9], "a", "b") == (["b"], (), line("a"))
    assert taken_up(line("a") + line("b")[:-1], "a", "b") == (["b"], (), line("a"))
    assert taken_up(line("a")[:3], "a") == (["a"], (), "")


def test_what_failed_is_done_again():
    text = failed("a") + line("b") + failed("other")
    assert taken_up(text, "a", "b") == (["a"], (), line("b") + failed("other"))


def test_one_name_given_twice_is_answered_twice():
    assert taken_up(line("a"), "a", "a") == (["a"], (), line("a"))
    assert taken_up(line("a") + line("a"), "a", "a") == ([], (), line("a") + line("a"))


def test_every_question_counts():
    half = line("a", question="one?") + line("a", question="two?") + line("b", question="one?")
    kept = line("a", question="one?") + line("a", question="two?")
    assert taken_up(half, "a", "b", questions=("one?", "two?")) == (["b"], (), kept)
    other = line("a", question="something else?")
    assert taken_up(other, "a") == (["a"], (), other)


def test_pages_are_left_out_one_by_one():
    text = line("x") + line("scan", 1) + failed("scan", page=2) + line("scan", 3)
    left = taken_up(text, "x", "scan", "y")
    assert left == (["scan", "y"], ((0, 1), (0, 3)), line("x") + line("scan", 1) + line("scan", 3))


@pytest.mark.parametrize("other", ["{}\n", "[]\n", "text\n", line("a", page="one"), "\xff\n"])
def test_a_file_of_somebody_else_is_left_alone(other):
    with pytest.raises(OutputError, match=r"a.jsonl, line 2: is no answer of janus"):
        taken_up(line("a") + other, "a")
    assert Path("a.jsonl").read_text() == line("a") + other


def test_names_that_are_no_text_are_known_again(folder, fake_janus):
    os.makedirs("photos")
    Image.new("RGB", (8, 8)).save("a.png")
    os.rename(b"a.png", b"photos/\xff\n.png")
    args = ("ask", "photos", QUESTION, "--json", "-o", "a.jsonl")
    assert fake_janus(*args).code == 0
    ended = fake_janus(*args, "--resume")
    assert (ended.code, ended.err) == (0, "janus: 1 of 1 were answered before\n")


def test_killed_at_any_moment_and_gone_on_with(pictures, environment, a_model, fake_janus):
    """The union is exact: every page answered once, and nothing else in the file."""
    chance = random.Random(7)
    args = ("ask", pictures, "-r", QUESTION, "--json", "-o", "a.jsonl", "--resume")
    env = environment | {"JANUS_MODEL": a_model, "FAKE_GATE": "gate"}
    os.mkfifo("gate")
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, *FAKE, *args], env=env, stderr=subprocess.DEVNULL
        )
        with open("gate", "wb", buffering=0) as gate:  # opens when the first answer has begun
            gate.write(b"x" * 8 * chance.randrange(3))  # some answers more
            process.send_signal(signal.SIGKILL)
            process.wait()
        with open("a.jsonl", "ab") as file:  # what a torn write leaves
            file.write(b'{"input": "photos/'[: chance.randrange(18)])
    ended = fake_janus(*args)
    assert ended.code == ExitCode.INPUT
    found = keys(records("a.jsonl"))
    assert sorted(found, key=str) == sorted(ALL, key=str)
    assert keys(r for r in records("a.jsonl") if "error" not in r) == GOOD


@pytest.mark.parametrize(
    ("sign", "code", "said"),
    [(signal.SIGINT, 130, "janus: interrupted\n"), (signal.SIGTERM, 143, "")],
)
def test_signals_end_a_run_with_whole_records(sign, code, said, pictures, environment, a_model):
    args = ("ask", pictures, "-r", QUESTION, "--json", "-o", "a.jsonl")
    env = environment | {"JANUS_MODEL": a_model, "FAKE_GATE": "gate"}
    os.mkfifo("gate")
    process = subprocess.Popen([sys.executable, *FAKE, *args], env=env, stderr=subprocess.PIPE)
    with open("gate", "wb", buffering=0) as gate:
        gate.write(b"x" * 8)  # the first answer is complete
        while not Path("a.jsonl").read_text():
            pass
        process.send_signal(sign)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error.decode()) == (code, said)
    assert keys(records("a.jsonl")) == ALL[:1]


def test_two_runs_over_one_folder(pictures, environment, a_model):
    args = ("ask", pictures, "-r", QUESTION, "--json", "--out", "answers", "--resume")
    env = environment | {"JANUS_MODEL": a_model}
    both = [
        subprocess.Popen([sys.executable, *FAKE, *args], env=env, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait(60) for process in both] == [4, 4]
    written = sorted(Path("answers").rglob("*.*"))
    assert len(written) == 9 and all(path.suffix == ".json" for path in written)
    assert sorted(key for path in written for key in keys(records(path))) == sorted(ALL)


def test_two_runs_over_one_file(pictures, environment, a_model, fake_janus):
    args = ("ask", pictures, QUESTION, "--json", "-o", "a.jsonl", "--resume")
    env = environment | {"JANUS_MODEL": a_model, "FAKE_GATE": "gate"}
    os.mkfifo("gate")
    first = subprocess.Popen([sys.executable, *FAKE, *args], env=env, stderr=subprocess.DEVNULL)
    with open("gate", "wb", buffering=0) as gate:  # opens when the first answer has begun
        second = fake_janus(*args)
        assert second.code == ExitCode.OUTPUT
        assert second.err.startswith("janus: a.jsonl: another janus is writing it")
        gate.write(b"x" * 800)
        assert first.wait(60) == 4
    assert len(records("a.jsonl")) == 8
