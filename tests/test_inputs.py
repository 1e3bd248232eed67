"""Folders, patterns and lists: which pictures they stand for, and in which order."""

import io
import json
import os
import shutil
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from janus_cli.errors import ExitCode, InputError
from janus_cli.inputs import Source, expand, is_address, is_picture, listed


def names(*arguments, recursive=False):
    return [source.name for source in expand(arguments, recursive=recursive)]


def places(*arguments, recursive=False):
    return [source.place for source in expand(arguments, recursive=recursive)]


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
    assert names("photos") == ["photos/a.jpg", "photos/b.PNG"]
    assert names("photos/") == ["photos/a.jpg", "photos/b.PNG"]


def test_recursion_goes_into_folders_and_not_into_hidden_ones(tree):
    assert names("photos", recursive=True) == [
        "photos/a.jpg",
        "photos/b.PNG",
        "photos/c/d.webp",
        "photos/c/e/f.gif",
    ]


def test_links_to_folders_are_not_followed(tree, folder):
    (folder / "photos" / "c" / "loop").symlink_to(folder / "photos")
    assert len(names("photos", recursive=True)) == 4


def test_a_folder_without_pictures_keeps_its_place(tree):
    assert names("empty", "photos/a.jpg") == ["empty", "photos/a.jpg"]
    assert names("photos/c/e", "photos/c") == ["photos/c/e/f.gif", "photos/c/d.webp"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tree, folder):
    (folder / "photos" / "c" / "e").chmod(0)
    assert names("photos", recursive=True)[-1] == "photos/c/e"


def test_a_pattern_that_no_shell_expanded(tree):
    assert names("photos/*.*") == ["photos/a.jpg", "photos/b.PNG", "photos/notes.txt"]
    assert names("photos/**/*.webp") == ["photos/c/d.webp"]
    assert names("photos/[ab].*", "photos/?.jpg")[-1] == "photos/a.jpg"
    assert names("photos/*.tif") == ["photos/*.tif"]  # to be reported as it was written


def test_a_pattern_that_finds_a_folder_stands_for_its_pictures(tree):
    assert names("p*s") == ["photos/a.jpg", "photos/b.PNG"]


def test_a_name_that_exists_is_no_pattern(tree, folder):
    (folder / "photo[1].png").write_bytes(b"")
    (folder / "photo1.png").write_bytes(b"")
    assert names("photo[1].png") == ["photo[1].png"]


def test_whatever_else_is_a_name(tree):
    others = ["-", "none.png", "notes.txt", "\udcff.png"]
    assert names(*others) == others


@pytest.mark.parametrize(
    ("data", "null", "expected"),
    [
        (b"a.png\nb c.png\n", False, ["a.png", "b c.png"]),
        (b"a.png\r\n\r\n\nb.png", False, ["a.png", "b.png"]),
        (b"a\nb.png\0*.png\0", True, ["a\nb.png", "*.png"]),
        (b"\xff.png\n", False, ["\udcff.png"]),
        (b"", False, []),
        (b"-\n", False, ["./-"]),
        (b"https://a.b/c.png?d=*\n", False, ["https://a.b/c.png?d=*"]),
    ],
)
def test_a_list_of_names(data, null, expected, folder):
    (folder / "list").write_bytes(data)
    assert [source.name for source in listed("list", null=null)] == expected


def test_a_list_on_standard_input(monkeypatch):
    piped = SimpleNamespace(buffer=io.BytesIO(b"a.png\nb.png\n"), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", piped)
    assert [source.name for source in listed("-")] == ["a.png", "b.png"]


def test_a_list_that_is_not_there(folder):
    with pytest.raises(InputError, match=r"--files-from none: cannot be read: No such file"):
        listed("none")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        listed(".")


# Addresses, and what else may be a picture


def test_an_address_is_no_pattern(tree):
    addresses = ["https://a.b/c.png?size=*", "HTTP://a.b/[1].jpg", "http://a.b/c/"]
    assert names(*addresses) == addresses
    assert all(map(is_address, addresses))
    assert not any(map(is_address, ["https:/a", "file:///a.png", "httpd.png", "a/http://b"]))


def test_endings(tree, folder):
    shown = ["a.PDF", "a.heif", "a.hif", "a.jfif", "a.jpe", "a.avif"]
    assert all(map(is_picture, shown))
    assert not any(map(is_picture, ["a.txt", "pdf", ".pdf", "b/.a.png", "a.png.bak"]))


# Places


def test_the_place_of_what_is_named(tree):
    assert places("photos/c/d.webp", "./a.png", "/no/where.png", "../b.png", "-") == [
        *("d.webp", "a.png", "where.png", "b.png", "stdin")
    ]


def test_the_place_of_what_a_folder_holds(tree, folder):
    expected = ["a.jpg", "b.PNG", "c/d.webp", "c/e/f.gif"]
    for start in ("photos", "photos/", "./photos", str(folder / "photos"), "photos/c/.."):
        assert places(start, recursive=True) == expected
    os.chdir("photos")
    assert places(".", recursive=True) == expected
    assert places("../photos/c") == ["d.webp"]


def test_the_place_of_what_a_pattern_finds(tree, folder):
    assert places("photos/*.jpg", "photos/[b]*") == ["a.jpg", "b.PNG"]
    assert places("photos/*/*.webp") == ["d.webp"]
    assert places("photos/**/*.webp") == ["c/d.webp"]
    assert places(f"{folder}/ph*/**/*.gif") == ["photos/c/e/f.gif"]
    assert places("p*s", recursive=True) == [
        *("photos/a.jpg", "photos/b.PNG", "photos/c/d.webp", "photos/c/e/f.gif")
    ]
    assert places("photos/?", "none/*.png") == ["c/d.webp", "*.png"]


def test_what_a_pattern_finds_twice_comes_once(tree):
    found = names("photos/**", recursive=True)
    assert len(found) == len(set(found)) == 5


def test_the_place_of_what_is_listed(folder):
    lines = ["a/b.png", "/c/d.png", "./e.png", "../../f.png", "g/../../h.png", "..", "/", "./-"]
    lines += ["https://a.b/c/d.png", "i\0j.png"]
    (folder / "list").write_text("\n".join(lines))
    assert [source.place for source in listed("list")] == [
        *("a/b.png", "c/d.png", "e.png", "f.png", "g/h.png", "index", "index", "-"),
        *("d.png", "i_j.png"),
    ]


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://a.b/c/d.png?e=/f.jpg#g/h", "d.png"),
        ("https://a.b/%41%20%C3%A4.png", "A ä.png"),
        ("https://a.b/c%2Fd%5Ce%00%0A.png", "c_d_e__.png"),
        ("https://a.b/%2e%2e", "index"),
        ("https://a.b/..%2f..%2f.x", "_.._.x"),
        ("https://a.b/%FF.png", "\ufffd.png"),
        ("https://a.b/\udcff.png", "_.png"),
        ("https://a.b/c/", "index"),
        ("https://a.b", "index"),
        ("https://a.b?c/d.png", "index"),
        (f"https://a.b/{'c' * 300}.png", f"{'c' * 56}.png"),
    ],
)
def test_the_place_of_an_address(address, place):
    assert expand([address]) == [Source(address, place)]


def test_no_place_leads_out(tree, folder):
    (folder / "photos" / "..png").write_bytes(b"")
    (folder / "list").write_text("..\n/..\n../..\n/../a.png\nhttp://a.b/..\nhttp://a.b/%2e%2e/\n")
    sources = expand(
        ["..", "photos", "../*", "photos/../*", f"/{folder}/*", "none/..", "/..", "/none/.."]
    )
    for source in [*sources, *listed("list")]:
        parts = source.place.split("/")
        assert source.place and not os.path.isabs(source.place)
        assert not {"", ".."} & set(parts)


def test_what_was_found_rather_than_named(tree, folder):
    (folder / "list").write_text("a.png\n")
    named = expand(["photos/a.jpg", "none.png", "-", "https://a.b/c.png"])
    assert not any(source.found for source in named)
    found = expand(["photos", "empty", "photos/*.jpg", "photos/*.none"]) + listed("list")
    assert all(source.found for source in found)


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
    assert asked.out == "a.png: what? 0 1\n"


def test_a_folder_without_pictures_in_the_program(picture, folder, fake_janus):
    (folder / "empty").mkdir()
    ended = fake_janus("describe", "empty")
    assert (ended.code, ended.out) == (ExitCode.INPUT, "")
    assert (
        ended.err == "janus: empty: is a folder without pictures; -r looks into its folders too\n"
    )
