"""Folders, patterns and lists: which pictures they stand for, and in which order."""

import json
import os
import shutil

import pytest
from PIL import Image

from janus_cli.errors import ExitCode, InputError
from janus_cli.inputs import expand, listed


@pytest.fixture
def picture(folder):
    """A readable picture in the folder."""
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    return "a.png"


@pytest.fixture
def tree(folder):
    """Pictures, other files, hidden ones and folders of them; returns nothing."""
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "c/d.webp", "c/e/f.gif", ".g/h.png"):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (folder / "empty").mkdir()


def test_a_folder_is_its_pictures_by_name(tree):
    assert expand(["photos"]) == ["photos/a.jpg", "photos/b.PNG"]
    assert expand(["photos/"]) == ["photos/a.jpg", "photos/b.PNG"]


def test_recursion_goes_into_folders_and_not_into_hidden_ones(tree):
    assert expand(["photos"], recursive=True) == [
        "photos/a.jpg",
        "photos/b.PNG",
        "photos/c/d.webp",
        "photos/c/e/f.gif",
    ]


def test_links_to_folders_are_not_followed(tree, folder):
    (folder / "photos" / "c" / "loop").symlink_to(folder / "photos")
    assert len(expand(["photos"], recursive=True)) == 4


def test_a_folder_without_pictures_keeps_its_place(tree):
    assert expand(["empty", "photos/a.jpg"]) == ["empty", "photos/a.jpg"]
    assert expand(["photos/c/e", "photos/c"]) == ["photos/c/e/f.gif", "photos/c/d.webp"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tree, folder):
    (folder / "photos" / "c" / "e").chmod(0)
    assert expand(["photos"], recursive=True)[-1] == "photos/c/e"


def test_a_pattern_that_no_shell_expanded(tree):
    assert expand(["photos/*.*"]) == ["photos/a.jpg", "photos/b.PNG", "photos/notes.txt"]
    assert expand(["photos/**/*.webp"]) == ["photos/c/d.webp"]
    assert expand(["photos/[ab].*", "photos/?.jpg"])[-1] == "photos/a.jpg"
    assert expand(["photos/*.tif"]) == ["photos/*.tif"]  # to be reported as it was written


def test_a_pattern_that_finds_a_folder_stands_for_its_pictures(tree):
    assert expand(["p*s"]) == ["photos/a.jpg", "photos/b.PNG"]


def test_a_name_that_exists_is_no_pattern(tree, folder):
    (folder / "photo[1].png").write_bytes(b"")
    (folder / "photo1.png").write_bytes(b"")
    assert expand(["photo[1].png"]) == ["photo[1].png"]


def test_whatever_else_is_a_name(tree):
    names = ["-", "none.png", "notes.txt", "\udcff.png"]
    assert expand(names) == names


@pytest.mark.parametrize(
    ("data", "null", "names"),
    [
        (b"a.png\nb c.png\n", False, ["a.png", "b c.png"]),
        (b"a.png\r\n\r\n\nb.png", False, ["a.png", "b.png"]),
        (b"a\nb.png\0*.png\0", True, ["a\nb.png", "*.png"]),
        (b"\xff.png\n", False, ["\udcff.png"]),
        (b"", False, []),
        (b"-\n", False, ["./-"]),
    ],
)
def test_a_list_of_names(data, null, names, folder):
    (folder / "list").write_bytes(data)
    assert listed("list", null=null) == names


def test_a_list_that_is_not_there(folder):
    with pytest.raises(InputError, match=r"--files-from none: cannot be read: No such file"):
        listed("none")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        listed(".")


# The program


def inputs_of(ended):
    return [json.loads(line)["input"] for line in ended.out.splitlines()]


def test_a_folder_in_the_program(picture, folder, fake_janus):
    (folder / "photos" / "more").mkdir(parents=True)
    for name in ("z.png", "more/y.png"):
        shutil.copy(picture, folder / "photos" / name)
    (folder / "photos" / "x.png").write_bytes(b"broken")
    shown = fake_janus("describe", "photos", picture, "--json", "-r")
    assert inputs_of(shown) == ["photos/x.png", "photos/z.png", "photos/more/y.png", "a.png"]
    assert shown.code == ExitCode.INPUT and shown.err == "janus: 1 of 4 failed\n"
    asked = fake_janus("ask", "photos/*.png", "what?")
    assert asked.out == "photos/z.png: what? 0 1\n"


def test_a_folder_is_no_question(picture, folder, fake_janus):
    (folder / "photos").mkdir()
    ended = fake_janus("ask", picture, "photos/")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert ended.err.startswith("janus: QUESTION: no question")


def test_a_list_in_the_program(picture, fake_janus):
    asked = fake_janus("ask", "what?", "--files-from", "-", "--json", stdin="a.png\nnone.png\n")
    assert inputs_of(asked) == ["a.png", "none.png"]
    asked = fake_janus(
        "ask", picture, "what?", "--files-from", "-", "-0", "--json", stdin="a.png\0"
    )
    assert inputs_of(asked) == ["a.png", "a.png"]
    asked = fake_janus("ask", "-q", "what?", "--files-from", "-", stdin="a.png\n")
    assert asked.out == "what? 0 1\n"


def test_a_folder_without_pictures_in_the_program(picture, folder, fake_janus):
    (folder / "empty").mkdir()
    ended = fake_janus("describe", "empty")
    assert (ended.code, ended.out) == (ExitCode.INPUT, "")
    assert (
        ended.err == "janus: empty: is a folder without pictures; -r looks into its folders too\n"
    )
