"""Imagine over many prompts: lists, names, failures, and runs that go on where others ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from janus_cli.errors import ExitCode
from janus_cli.png import GRID_GAP, read_settings

FAKE = str(Path(__file__).parent / "fake_janus.py")
SIDE = 64  # of the pictures of fake_janus.py
FOUR = ("imagine", "a", "b", "-n", "2", "--seed", "7")
FOUR_NAMES = ["a-7.png", "a-8.png", "b-7.png", "b-8.png"]


@pytest.fixture
def started(environment, a_model):
    """Starts the program; started(*args, gate="gate") waits at that FIFO after its first picture,
    and returns when that picture is there."""
    processes = []

    def start(*args: str, gate: str = "gate") -> subprocess.Popen:
        if not os.path.exists(gate):
            os.mkfifo(gate)
        process = subprocess.Popen(
            [sys.executable, FAKE, *args],
            env=environment | {"JANUS_MODEL": a_model, "FAKE_GATE": gate},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        process.first = process.stdout.readline().strip()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen, gate: str = "gate") -> tuple[str, str]:
    """Let a run that waits go on; what it says until its end."""
    Path(gate).write_bytes(b"go")
    return process.communicate()


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns


def drawings() -> list[str]:
    """The files that are there, without those that the tests put there."""
    return sorted(name for name in os.listdir() if name not in ("gate", "jobs.txt"))


# Lists


def test_a_list_of_prompts_is_drawn_line_by_line(folder, fake_janus):
    lines = ["a corgi", "", '{"prompt": "b", "seed": 3, "n": 2, "guidance": 1, "negative": "red"}']
    (folder / "jobs.txt").write_text("\n".join([*lines, '{"prompt": "c", "output": "own/{i}"}']))
    ended = fake_janus("imagine", "first", "--prompts", "jobs.txt", "--seed", "7", "-o", "out/")
    names = ["first-7.png", "a-corgi-7.png", "b-3.png", "b-4.png", "own/0.png"]
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.split() == [f"out/{name}" for name in names]
    expected = {"prompt": "b", "seed": 4, "guidance": 1.0, "negative": "red", "top_p": 1.0}
    assert expected.items() <= read_settings("out/b-4.png").items()
    assert read_settings("out/a-corgi-7.png")["guidance"] == 5.0


def test_a_list_on_standard_input(fake_janus):
    ended = fake_janus(
        *("imagine", "--prompts", "-", "--seed", "7", "-o", "{stem}-{index}.png"),
        stdin='x\n{"prompt": "x"}\n',
    )
    assert ended.out.split() == ["stdin-0.png", "stdin-1.png"]


def test_nothing_is_drawn_for_a_list_with_a_broken_line(folder, fake_janus):
    (folder / "jobs.txt").write_text('a\nb\n{"prompt": "c", "n": true}\n')
    ended = fake_janus("imagine", "--prompts", "jobs.txt", env={"FAKE_ERROR": "ModelError"})
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert ended.err == "janus: --prompts jobs.txt, line 3: n must be a whole number\n"
    assert drawings() == []


def test_a_wrong_flag_is_not_the_fault_of_a_line(folder, fake_janus):
    (folder / "jobs.txt").write_text("a\n")
    ended = fake_janus("imagine", "--prompts", "jobs.txt", "--top-k", "-1")
    assert (ended.code, ended.err) == (2, "janus: --top-k: must be 0 (off) or more\n")


def test_equal_prompts_get_numbered_names(folder, fake_janus):
    (folder / "jobs.txt").write_text("a\n" * 11)
    ended = fake_janus("imagine", "--prompts", "jobs.txt", "--seed", "7")
    assert ended.out.split() == [f"{index:02}-a-7.png" for index in range(11)]


def test_records_say_which_prompt_and_which_picture(fake_janus):
    ended = fake_janus("imagine", "a", "fail", "b", "-n", "2", "--seed", "7", "--json", "--grid")
    records = [json.loads(line) for line in ended.out.splitlines()]
    told = [(r.get("path"), r.get("index"), r.get("i")) for r in records]
    assert told == [
        *(("a-7.png", 0, 0), ("a-8.png", 0, 1), ("a-7-grid.png", 0, None)),
        (None, None, None),
        *(("b-7.png", 2, 0), ("b-8.png", 2, 1), ("b-7-grid.png", 2, None)),
    ]
    assert records[3]["input"] == "fail"
    assert (ended.code, ended.err) == (ExitCode.INPUT, "janus: 1 of 3 failed\n")


# Going on


def test_a_killed_run_is_completed(folder, fake_janus, started):
    killed = started(*FOUR)
    assert killed.first == "a-7.png"
    kill(killed)
    assert drawings() == ["a-7.png"]
    before = identity("a-7.png")
    ended = fake_janus(*FOUR, "--resume")
    assert (ended.code, ended.out.split()) == (0, FOUR_NAMES[1:])
    assert ended.err == "janus: 1 of 4 were drawn before\n"
    assert identity("a-7.png") == before
    assert drawings() == FOUR_NAMES
    assert [read_settings(name)["seed"] for name in FOUR_NAMES] == [7, 8, 7, 8]


def test_a_list_is_completed_under_the_same_names(folder, fake_janus, started):
    (folder / "jobs.txt").write_text('a\n{"prompt": "a", "guidance": 1, "seed": 7}\na\n')
    args = ("imagine", "--prompts", "jobs.txt", "--seed", "7")
    kill(started(*args))
    assert drawings() == ["0-a-7.png"]
    assert fake_janus(*args, "--resume").out.split() == ["1-a-7.png", "2-a-7.png"]


def test_nothing_left_to_draw_needs_no_model(fake_janus):
    fake_janus(*FOUR)
    before = [identity(name) for name in FOUR_NAMES]
    ended = fake_janus(*FOUR, "--resume", env={"FAKE_ERROR": "ModelError", "JANUS_MODEL": "none"})
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "janus: 4 of 4 were drawn before\n"
    assert [identity(name) for name in FOUR_NAMES] == before


def test_a_model_with_its_own_guidance_goes_on(folder, fake_janus, started):
    """What was not asked for is the model's, which nobody has opened yet."""
    env = {"FAKE_GUIDANCE": "1.5"}
    fake_janus(*FOUR, env=env)
    (folder / FOUR_NAMES[2]).unlink()
    ended = fake_janus(*FOUR, "--resume", env=env)
    assert (ended.code, ended.out.split()) == (0, [FOUR_NAMES[2]])
    asked = fake_janus(*FOUR, "--resume", "--guidance", "3", env=env)
    assert asked.code != 0
    assert "is not what would be drawn" in asked.err


def test_nothing_drawn_before_is_nothing_to_tell(fake_janus):
    ended = fake_janus(*FOUR, "--resume", "-o", "new/")
    assert (ended.code, ended.err, len(ended.out.split())) == (0, "", 4)


def test_going_on_needs_the_seeds(folder, fake_janus):
    (folder / "jobs.txt").write_text('{"prompt": "a", "seed": 1}\n')
    assert fake_janus("imagine", "--prompts", "jobs.txt", "--resume").out == "a-1.png\n"
    ended = fake_janus("imagine", "b", "--prompts", "jobs.txt", "--resume")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert ended.err.startswith("janus: --resume: ") and "--seed" in ended.err


@pytest.mark.parametrize(
    "change",
    [
        *(("--guidance", "4"), ("--temperature", "0.5"), ("--top-k", "3"), ("--top-p", "0.5")),
        *(("--negative", "red"), ("--seed", "9", "-o", "{slug}-{i:.0f}.png")),
    ],
)
def test_another_picture_is_not_taken_for_one_that_is_drawn(change, folder, fake_janus):
    fake_janus("imagine", "a", "b", "--seed", "7", "-o", "{slug}-{i}.png")
    before = identity("b-0.png")
    args = ("imagine", "a", "b", "--seed", "7", "-o", "{slug}-{i}.png", *change, "--resume")
    ended = fake_janus(*args)
    assert (ended.code, ended.out) == (ExitCode.OUTPUT, "")
    assert ended.err.startswith("janus: a-0.png: exists and is not what would be drawn")
    assert ended.err.count("\n") == 1 and identity("b-0.png") == before


@pytest.mark.parametrize("kind", ["empty", "cut off", "words", "link", "plain"])
def test_a_file_that_is_no_whole_picture_is_not_taken_for_one(kind, folder, fake_janus):
    fake_janus(*FOUR)
    place = folder / "a-8.png"
    whole = place.read_bytes()
    if kind == "link":
        place.unlink()
        place.symlink_to("nowhere")
    elif kind == "plain":
        Image.new("RGB", (SIDE, SIDE)).save(place)
    else:
        place.write_bytes({"empty": b"", "cut off": whole[:-9], "words": b"mine"}[kind])
    kept = [identity(name) for name in ("a-7.png", "b-7.png", "b-8.png")]
    refused = fake_janus(*FOUR, "--resume")
    assert (refused.code, refused.out) == (ExitCode.OUTPUT, "")
    assert refused.err.startswith("janus: a-8.png: exists and is not")
    forced = fake_janus(*FOUR, "--resume", "--force")
    assert (forced.code, forced.out) == (0, "a-8.png\n")
    assert place.read_bytes() == whole and not place.is_symlink()
    assert [identity(name) for name in ("a-7.png", "b-7.png", "b-8.png")] == kept


def test_what_killed_runs_have_left_is_removed(folder, fake_janus):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [f"out/.janus-{ended.pid}-0123abcd.tmp", f"out/.janus-{ended.pid}.tmp"]
    kept = [
        f"out/.janus-{os.getpid()}-0123abcd.tmp",
        f"out/.janus-{ended.pid}-mine.tmp",
        f"out/.janus-{ended.pid}-0123abcd.tmp.png",
        f"out/janus-{ended.pid}.tmp",
    ]
    (folder / "out").mkdir()
    for name in (*gone, *kept):
        Path(name).write_bytes(b"x")
    fake_janus("imagine", "a", "--seed", "7", "-o", "out")
    assert all(map(os.path.exists, (*gone, *kept)))
    assert fake_janus("imagine", "a", "b", "--seed", "7", "-o", "out", "--resume").code == 0
    assert not any(map(os.path.exists, gone))
    assert all(map(os.path.exists, kept))


# Two runs at once


def test_two_runs_complete_each_other(folder, fake_janus, started):
    slow = started(*FOUR, "--grid", "--resume")
    quick = fake_janus(*FOUR, "--grid", "--resume")
    assert quick.code == 0
    assert sorted([slow.first, *quick.out.split()]) == sorted(
        [*FOUR_NAMES, "a-7-grid.png", "b-7-grid.png"]
    )
    before = [identity(name) for name in FOUR_NAMES]
    out, err = go(slow)
    assert (slow.returncode, err) == (0, "")
    assert not {*out.split()} & {*FOUR_NAMES}
    assert [identity(name) for name in FOUR_NAMES] == before
    assert drawings() == sorted([*FOUR_NAMES, "a-7-grid.png", "b-7-grid.png"])


def test_another_file_that_appears_is_still_an_error(folder, started):
    slow = started(*FOUR, "--resume")
    (folder / "b-7.png").write_text("mine")
    out, err = go(slow)
    assert (slow.returncode, out) == (ExitCode.OUTPUT, "a-8.png\n")
    assert err.startswith("janus: b-7.png: exists")
    assert (folder / "b-7.png").read_text() == "mine"


# Contact sheets


def parts(path: str, count: int) -> list[bytes]:
    """The pictures of a contact sheet with two columns."""
    step = SIDE + GRID_GAP
    corners = [(place % 2 * step, place // 2 * step) for place in range(count)]
    with Image.open(path) as sheet:
        return [sheet.crop((x, y, x + SIDE, y + SIDE)).tobytes() for x, y in corners]


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_a_sheet_shows_what_was_drawn_before_too(fake_janus):
    args = ("imagine", "a", "-n", "3", "--seed", "7", "--grid")
    fake_janus(*args)
    os.remove("a-7-grid.png")
    os.remove("a-8.png")
    ended = fake_janus(*args, "--resume", "--json")
    first, sheet = map(json.loads, ended.out.splitlines())
    assert (first["path"], first["index"], first["i"]) == ("a-8.png", 0, 1)
    assert (sheet["path"], sheet["count"], sheet["seconds"]) == ("a-7-grid.png", 3, 0.25)
    assert parts("a-7-grid.png", 3) == [pixels(f"a-{seed}.png") for seed in (7, 8, 9)]
    assert read_settings("a-7-grid.png")["count"] == 3


def test_only_the_sheet_of_a_completed_prompt_is_replaced(folder, fake_janus):
    args = ("imagine", "a", "b", "-n", "2", "--seed", "7", "--grid")
    fake_janus(*args)
    before = identity("a-7-grid.png")
    ended = fake_janus(*args[:3], "-n", "2", "--seed", "7", "--grid", "--resume")
    assert (ended.code, ended.out) == (0, "")
    (folder / "jobs.txt").write_text('{"prompt": "b", "n": 3}')
    ended = fake_janus("imagine", "a", "--prompts", "jobs.txt", *args[3:], "--resume")
    assert ended.out.split() == ["b-9.png", "b-7-grid.png"]
    assert identity("a-7-grid.png") == before
    assert parts("b-7-grid.png", 3) == [pixels(f"b-{seed}.png") for seed in (7, 8, 9)]


def test_a_sheet_that_alone_is_missing_is_written(folder, fake_janus):
    fake_janus(*FOUR, "--grid")
    whole = (folder / "b-7-grid.png").read_bytes()
    os.remove("b-7-grid.png")
    ended = fake_janus(*FOUR, "--grid", "--resume", env={"FAKE_ERROR": "ModelError"})
    assert (ended.code, ended.out) == (0, "b-7-grid.png\n")
    assert (folder / "b-7-grid.png").read_bytes() == whole


def test_a_sheet_is_not_taken_for_its_first_picture(fake_janus):
    args = ("imagine", "a", "--seed", "7", "--grid")
    fake_janus(*args)
    os.replace("a-7-grid.png", "a-7.png")
    ended = fake_janus(*args, "--resume")
    assert (ended.code, ended.out) == (ExitCode.OUTPUT, "")
    assert ended.err.startswith("janus: a-7.png: exists and is not")


def test_what_is_no_sheet_is_not_replaced_by_one(folder, fake_janus):
    fake_janus("imagine", "a", "--seed", "7")
    (folder / "a-7-grid.png").write_text("mine")
    refused = fake_janus("imagine", "a", "-n", "2", "--seed", "7", "--grid", "--resume")
    assert (refused.code, refused.out) == (ExitCode.OUTPUT, "")
    assert refused.err.startswith("janus: a-7-grid.png: exists and is not")
    assert (folder / "a-7-grid.png").read_text() == "mine"
