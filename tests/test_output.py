"""What comes out: text, JSON lines and whole PNG files, with odd characters as data."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from janus_cli import names, png, terminal
from janus_cli.errors import ExitCode, InputError, OutputError, UsageError
from janus_cli.prompts import Order
from janus_cli.schema import Picture, Wish

from .conftest import Terminal

FAKE = str(Path(__file__).parent / "fake_janus.py")
ODD = "[red]\x1b[31m\x9b\r\u202e\x00é\n\tend"
ODD_SHOWN = "[red]\\x1b[31m\\x9b\\r\\u202e\\x00é\n\tend"


@pytest.fixture
def picture(folder) -> str:
    Image.new("RGB", (8, 6), "red").save("a.png")
    return "a.png"


def drawn(seed: int = 7, prompt: str = "a corgi") -> Picture:
    pixels = bytes((seed + n) % 256 for n in range(4 * 2 * 3))
    return Picture(0, prompt, seed, 4, 2, pixels, "toy", "fp32", 5.0, 1.0, 0, 1.0, "blue", 0.5)


def objects(ended) -> list[dict]:
    return [json.loads(line) for line in ended.out.splitlines()]


# Text


def test_odd_characters_in_answers_are_data(picture, fake_janus):
    env = {"FAKE_ANSWER": json.dumps([ODD])}
    assert fake_janus("ask", picture, "?", env=env).out == ODD_SHOWN + "\n"


def test_odd_characters_in_file_names_are_data(folder, fake_janus):
    odd = "[red]\x1b[31m\n.png"
    Image.new("RGB", (8, 6)).save(odd)
    shown = r"[red]\x1b[31m\n.png"
    assert fake_janus("describe", odd, odd).out == f"{shown}: normal? 0 1\n" * 2
    ended = fake_janus("describe", "no" + odd)
    assert ended.err == f"janus: no{shown}: no such file; check the name\n"


def test_an_undecodable_file_name(folder, fake_janus):
    Image.new("RGB", (8, 6)).save("a.png")
    os.rename(b"a.png", b"\xff.png")
    assert fake_janus("describe", b"\xff.png", b"\xff.png").out == "\\xff.png: normal? 0 1\n" * 2
    (record,) = objects(fake_janus("describe", b"\xff.png", "--json"))
    assert os.fsencode(record["input"]) == b"\xff.png"
    ended = fake_janus("describe", b"none\xff.png")
    assert (ended.code, ended.err.count("\n")) == (4, 1)


def test_standard_output_that_knows_few_letters(picture, fake_janus):
    env = {"FAKE_ANSWER": '["é☃"]', "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    ended = fake_janus("ask", picture, "?", env=env)
    assert ended.out == "\udce9\\u2603\n"
    (record,) = objects(fake_janus("ask", picture, "?", "--json", env=env))
    assert record["text"] == "é☃"


def test_every_line_of_several_answers_carries_its_file(picture, fake_janus):
    env = {"FAKE_ANSWER": json.dumps(["one\nt", "wo\u2028\n\nthree"])}
    expected = "a.png: one\na.png: two\u2028\na.png: \na.png: three\n"
    assert fake_janus("ocr", picture, picture, env=env).out == expected * 2
    assert fake_janus("ocr", picture, env=env).out == "one\ntwo\u2028\n\nthree\n"


def test_an_empty_answer_is_an_empty_line(picture, fake_janus):
    env = {"FAKE_ANSWER": '[""]'}
    assert fake_janus("ocr", picture, env=env).out == "\n"
    assert fake_janus("ocr", picture, picture, env=env).out == "a.png: \n" * 2


def test_a_terminal_shows_each_piece_at_once(picture, fake_terminal):
    os.mkfifo("gate")
    env = {"FAKE_GATE": "gate", "FAKE_ANSWER": '["[red]one", "\\u001b[2Jtwo"]'}
    watched = fake_terminal("ask", picture, "?", env=env)
    watched.wait_for("[red]one")
    assert "two" not in watched.screen
    Path("gate").write_bytes(b"go")
    watched.wait_for("\\x1b[2Jtwo\n")
    assert watched.end() == 0
    assert watched.screen.count("two") == 1


def test_a_terminal_shows_an_answer_that_came_in_one(picture, fake_terminal):
    watched = fake_terminal("ask", picture, "?", env={"FAKE_UNSTREAMED": "1"})
    assert watched.end() == 0
    assert watched.screen == "? 0 1\n"


def test_answers_to_several_pictures_come_whole(picture, fake_terminal):
    """The engine looks at the next pictures in the meantime, which can take long."""
    os.mkfifo("gate")
    watched = fake_terminal("ask", picture, picture, "what?", env={"FAKE_GATE": "gate"})
    watched.wait_for("loading the model")
    assert "what?" not in watched.screen
    for _ in range(2):
        Path("gate").write_bytes(b"go")
        watched.wait_for("a.png: what? 0 1\n")
    assert watched.end() == 0


def test_an_interrupted_answer_ends_its_line(picture, fake_terminal):
    os.mkfifo("gate")
    watched = fake_terminal("ask", picture, "one?", env={"FAKE_GATE": "gate"})
    watched.wait_for("one?")
    watched.interrupt()
    assert watched.end() == ExitCode.INTERRUPTED
    assert watched.screen == "one?\njanus: interrupted\n"


def test_progress_is_for_terminals_only(picture, fake_janus, fake_terminal, folder):
    assert fake_janus("imagine", "a corgi", "--seed", "1").err == ""
    os.mkfifo("gate")
    with open("paths", "wb") as paths:
        watched = fake_terminal(
            *("imagine", "a corgi", "-n", "2", "--seed", "5"),
            env={"FAKE_LOAD_GATE": "gate"},
            out_to=paths.fileno(),
        )
        watched.wait_for("loading the model")
        Path("gate").write_bytes(b"go")
        watched.wait_for("image 2/2")
        assert watched.end() == 0
    assert Path("paths").read_text() == "a-corgi-5.png\na-corgi-6.png\n"


def test_progress_that_was_hidden_early_comes_back_in_silence(environment):
    probe = (
        "import sys; from janus_cli.progress import ProgressLine\n"
        "with ProgressLine('first') as progress:\n"
        "    progress.hide(); progress.show('second', 1, 4); sys.stdin.readline()"
    )
    watched = Terminal([sys.executable, "-c", probe], environment, out_to=None)
    try:
        watched.wait_for("second")
        watched.type("\n")
        assert watched.end() == 0
    finally:
        watched.close()


def test_the_embedded_model_is_announced_in_a_terminal(picture, fake_janus, fake_terminal, folder):
    env = {"JANUS_MODEL": ""}
    watched = fake_terminal("ask", picture, "?", env=env)
    watched.wait_for("knows only shapes")
    assert watched.end() == 0
    assert fake_janus("ask", picture, "?", env=env).err == ""


# JSON


def test_json_is_one_object_a_line(picture, fake_janus):
    env = {"FAKE_ANSWER": json.dumps([ODD])}
    ended = fake_janus("ask", "a.png", "none.png", "a.png", "what?", "--json", env=env)
    first, failed, last = objects(ended)
    assert first == last
    expected = {"input": "a.png", "text": ODD, "model": "a model", "precision": "fp32"}
    assert expected.items() <= first.items()
    assert (first["tokens"], first["prompt_tokens"], first["seconds"]) == (1, 7, 0.125)
    assert failed["input"] == "none.png" and failed["error_type"] == "InputError"
    assert "no such file" in failed["error"]
    assert (ended.code, ended.err) == (ExitCode.INPUT, "janus: 1 of 3 failed\n")
    assert "é" in ended.out and "\x9b" not in ended.out and "\u202e" not in ended.out


def test_json_lines_appear_one_by_one(picture, environment, a_model):
    os.mkfifo("gate")
    env = environment | {"JANUS_MODEL": a_model, "FAKE_GATE": "gate"}
    command = [sys.executable, FAKE, "ask", picture, picture, "?", "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
        Path("gate").write_bytes(b"go")
        assert json.loads(process.stdout.readline())["input"] == picture  # the second one waits
        Path("gate").write_bytes(b"go")
        assert json.loads(process.stdout.readline())["input"] == picture


def test_json_of_pictures(fake_janus):
    ended = fake_janus(
        *("imagine", "a corgi", "fail", "--seed", "3", "-n", "2", "--json", "--grid"),
        *("--negative", "blue", "--top-k", "9"),
    )
    first, second, sheet, failed = objects(ended)
    assert list(first)[:2] == ["path", "prompt"]
    expected = {"path": "a-corgi-3.png", "prompt": "a corgi", "seed": 3, "model": "a model"}
    expected |= {"precision": "fp32", "seconds": 0.25, "negative": "blue", "top_k": 9}
    assert expected.items() <= first.items()
    assert second["seed"] == 4
    assert (sheet["path"], sheet["grid"], sheet["count"]) == ("a-corgi-3-grid.png", True, 2)
    assert failed["input"] == "fail"
    assert ended.code == ExitCode.INPUT


# Names of pictures


def test_paths_come_in_the_order_of_prompts_and_seeds(fake_janus):
    ended = fake_janus("imagine", "A corgi!", "-", "-n", "2", "--seed", "7", stdin="\n two\r\n\n")
    assert ended.out.split() == ["a-corgi-7.png", "a-corgi-8.png", "two-7.png", "two-8.png"]
    for path in ended.out.split():
        with Image.open(path) as image:
            assert image.size == (64, 64)


def test_a_random_seed_is_in_the_name_and_the_file(fake_janus):
    first, second = (fake_janus("imagine", "x").out.strip() for _ in range(2))
    assert first != second
    assert first == f"x-{png.read_settings(first)['seed']}.png"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Nebula  Corgi!", "nebula-corgi"),
        ("../../etc/passwd", "etc-passwd"),
        ("a\x1b[31m\n/b", "a-31m-b"),
        ("Crème brûlée", "creme-brulee"),
        ("星雲", "picture"),
        ("...", "picture"),
        ("word " * 100, "word-word-word-word-word-word-word-word-word"),
        ("x" * 300, "x" * 48),
    ],
)
def test_slug(prompt, expected):
    assert names.slug(prompt) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, "a-b-7.png"),
        ("out", "out/a-b-7.png"),
        ("out/", "out/a-b-7.png"),
        ("v1.2", "v1.2/a-b-7.png"),
        ("one.png", "one.png"),
        ("{seed:04}-{i}-{index}.PNG", "0007-0-0.PNG"),
        ("deep/{slug}", "deep/a-b.png"),
        ("{slug}/", "a-b/a-b-7.png"),
        ("{{x}}.png", "{x}.png"),
        ("odd{", "odd{/a-b-7.png"),
    ],
)
def test_where_output_leads(output, expected, folder):
    (folder / "odd{").mkdir()
    targets = names.plan([Order(Wish("a b", seed=7))], output, grid=False, force=False)
    assert targets.every() == [expected]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("x.jpg", "PNG"),
        ("{nonsense}.png", "{nonsense} is unknown"),
        ("{seed.__class__}.png", "unknown"),
        ("{}.png", "unknown"),
        ("{slug", "no file pattern"),
        ("{slug:d}.png", "no file pattern"),
        ("", "empty"),
        ("same.png", "two pictures would be named same.png"),
        ("{seed}.png", "two pictures would be named"),
        ("./{index}.png", "two pictures would be named"),
    ],
)
def test_a_bad_pattern_is_refused(output, words):
    orders = [Order(Wish("a", count=2)), Order(Wish("b", count=2))]
    with pytest.raises(UsageError, match=f"^--output: .*{words}"):
        names.plan(orders, output, grid=False, force=False)


def test_a_contact_sheet_has_a_name_of_its_own():
    orders = [Order(Wish(prompt, count=2, seed=1)) for prompt in ("a", "b")]
    targets = names.plan(orders, "{slug}/{seed}.png", grid=True, force=False)
    assert targets.grids == ("a/1-grid.png", "b/1-grid.png")


# Files of pictures


def test_nothing_is_drawn_where_a_name_is_taken(folder, fake_janus):
    (folder / "a-8.png").write_text("mine")
    refused = fake_janus("imagine", "a", "-n", "2", "--seed", "7")
    assert (refused.code, refused.out) == (ExitCode.OUTPUT, "")
    assert refused.err == "janus: a-8.png: exists; use --resume, --force, another --seed or -o\n"
    assert os.listdir() == ["a-8.png"] and (folder / "a-8.png").read_text() == "mine"
    forced = fake_janus("imagine", "a", "-n", "2", "--seed", "7", "--force")
    assert forced.out.split() == ["a-7.png", "a-8.png"]
    assert png.read_settings("a-8.png")["seed"] == 8


def test_a_dangling_link_is_a_taken_name(folder, fake_janus):
    os.symlink("nowhere", "a-7.png")
    assert fake_janus("imagine", "a", "--seed", "7").code == ExitCode.OUTPUT
    assert os.listdir() == ["a-7.png"]


def test_a_name_taken_while_drawing_is_not_replaced(folder, environment, a_model):
    os.mkfifo("gate")
    env = environment | {"JANUS_MODEL": a_model, "FAKE_GATE": "gate"}
    command = [sys.executable, FAKE, "imagine", "a", "--seed", "7", "-n", "2"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "a-7.png\n"
        (folder / "a-8.png").write_text("mine")
        Path("gate").write_bytes(b"go")
        assert process.stderr.read().startswith("janus: a-8.png: exists")
        assert process.wait() == ExitCode.OUTPUT
    assert (folder / "a-8.png").read_text() == "mine"
    assert sorted(os.listdir()) == ["a-7.png", "a-8.png", "gate"]


@pytest.mark.parametrize("links", [True, False])
def test_no_race_can_replace_a_file(links, folder, monkeypatch):
    if not links:

        def refuse(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
    png.write_picture(drawn(), "a.png", force=False)
    before = (folder / "a.png").read_bytes()
    with pytest.raises(OutputError, match=r"^a\.png: exists"):
        png.write_picture(drawn(8), "a.png", force=False)
    assert (folder / "a.png").read_bytes() == before
    png.write_picture(drawn(8), "a.png", force=True)
    assert png.read_settings("a.png")["seed"] == 8
    assert os.listdir() == ["a.png"]


@pytest.mark.parametrize("output", ["a.txt/", "a.txt/x.png", "/proc/nothing/", "x" * 300 + "/"])
def test_an_unwritable_folder_is_refused_before_drawing(output, folder, fake_janus):
    (folder / "a.txt").write_text("a file")
    ended = fake_janus("imagine", "a", "-o", output, env={"FAKE_ERROR": "ModelError"})
    assert (ended.code, ended.out) == (ExitCode.OUTPUT, "")  # not the engine's error
    assert "cannot be written to" in ended.err and ended.err.count("\n") == 1
    assert os.listdir() == ["a.txt"]


def test_a_folder_in_the_place_of_a_file_is_refused(folder, fake_janus):
    (folder / "a.png").mkdir()
    (folder / "a.png" / "a-1.png").mkdir()
    assert fake_janus("imagine", "a", "-o", "a.png", "--seed", "1", "--force").code == 5
    assert "is a folder" in fake_janus("imagine", "a", "-o", "a.png", "--seed", "1").err


def test_folders_are_made(folder, fake_janus):
    ended = fake_janus("imagine", "a", "--seed", "1", "-o", "new/{slug}/{seed}.png")
    assert ended.out == "new/a/1.png\n"
    assert (folder / "new" / "a" / "1.png").is_file()


def test_a_full_disk_leaves_nothing_behind(folder, environment, a_model):
    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    env = environment | {"JANUS_MODEL": a_model, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, FAKE, "imagine", "a", "--seed", "1"],
        env=env,
        capture_output=True,
        text=True,
        preexec_fn=no_room,
    )
    assert ended.returncode == ExitCode.OUTPUT
    assert ended.stderr.startswith("janus: a-1.png: cannot be written: File too large")
    assert ended.stderr.count("\n") == 1
    assert os.listdir() == []


def test_an_interrupt_while_writing_leaves_nothing_behind(folder, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        png.write_picture(drawn(), "a.png", force=False)
    assert os.listdir() == []


def test_a_file_has_the_usual_permissions(folder):
    mask = os.umask(0o022)
    try:
        png.write_picture(drawn(), "a.png", force=False)
    finally:
        os.umask(mask)
    assert (folder / "a.png").stat().st_mode & 0o777 == 0o644


def test_an_undecodable_pattern_is_printed_byte_for_byte(environment, a_model):
    command = [sys.executable, FAKE, "imagine", "a", "-o", b"\xff{i}.png"]
    ended = subprocess.run(command, env=environment | {"JANUS_MODEL": a_model}, capture_output=True)
    assert ended.stdout == b"\xff0.png\n"
    assert os.listdir(b".") == [b"\xff0.png"]


# What a picture carries


def test_pixels_and_settings_come_back(folder):
    prompt = "[red] \x1b[31m\nstars é 星雲"
    png.write_picture(drawn(7, prompt), "a.png", force=False)
    with Image.open("a.png") as image:
        assert image.tobytes() == drawn(7).pixels
        assert image.text["parameters"].startswith(f"{prompt}\nNegative prompt: blue\nCFG scale: 5")
    assert png.read_settings("a.png") == png.settings_of(drawn(7, prompt))
    assert {"prompt", "seed", "model", "precision"} < png.settings_of(drawn()).keys()


def test_info_prints_prompt_and_settings(janus, folder):
    png.write_picture(drawn(7, "[red]\x1b[31m\nstars"), "a.png", force=False)
    lines = janus("info", "a.png").out.splitlines()
    assert lines[0] == r"prompt: [red]\x1b[31m\nstars"
    assert "seed: 7" in lines and "model: toy" in lines and "negative: blue" in lines
    (record,) = objects(janus("info", "a.png", "--json"))
    assert record == {"path": "a.png", **png.settings_of(drawn(7, "[red]\x1b[31m\nstars"))}


def test_info_of_other_pictures(janus, folder):
    Image.new("RGB", (2, 2)).save("plain.png")
    Image.new("RGB", (2, 2)).save("plain.jpg")
    (folder / "words.png").write_text("no picture")
    for name, words in {
        "plain.png": "carries no settings of janus",
        "plain.jpg": "carries no settings of janus",
        "words.png": "is not a picture",
        "none.png": "no such file",
        ".": "is a folder",
    }.items():
        ended = janus("info", name)
        assert (ended.code, ended.out) == (ExitCode.INPUT, "")
        assert ended.err.startswith(f"janus: {name}: ") and words in ended.err


@pytest.mark.parametrize("value", ["no json", "[1]", "[" * 100_000])
def test_damaged_settings(value, folder):
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt("janus", value)
    Image.new("RGB", (2, 2)).save("a.png", pnginfo=chunks)
    with pytest.raises(InputError, match="carries no settings"):
        png.read_settings("a.png")


def test_a_contact_sheet_shows_every_picture(folder):
    pictures = [drawn(seed) for seed in (7, 8, 9)]
    png.write_grid(pictures, "grid.png", force=False)
    with Image.open("grid.png") as sheet:
        across, down = 4 + png.GRID_GAP, 2 + png.GRID_GAP
        assert sheet.size == (2 * across - png.GRID_GAP, 2 * down - png.GRID_GAP)
        for place, picture in enumerate(pictures):
            left, top = (place % 2) * across, (place // 2) * down
            assert sheet.crop((left, top, left + 4, top + 2)).tobytes() == picture.pixels
    assert png.read_settings("grid.png")["count"] == 3


# Characters


def test_visible_and_one_line():
    assert terminal.visible("a\n\tb\x7f\u2066") == "a\n\tb\\x7f\\u2066"
    assert terminal.one_line("a\n\tb\udcff\ud800\u2028") == r"a\n\tb\xff\ud800\u2028"
    assert terminal.visible("[bold] é 星 👩\u200d🚀") == "[bold] é 星 👩\u200d🚀"
