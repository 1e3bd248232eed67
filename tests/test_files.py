"""Files that appear whole or not at all, and files that grow by whole records."""

import os
import subprocess
import sys

import pytest

from janus_cli.errors import OutputError
from janus_cli.files import Log, refuse_inputs, write_whole


def test_a_file_is_written_with_its_folders(folder):
    write_whole("a/b/c.txt", b"text", force=False)
    assert (folder / "a" / "b" / "c.txt").read_bytes() == b"text"
    assert os.listdir("a/b") == ["c.txt"]


def test_an_existing_file_is_kept_without_force(folder):
    (folder / "a.txt").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"a.txt: exists"):
        write_whole("a.txt", b"new", force=False)
    assert (folder / "a.txt").read_bytes() == b"old"
    write_whole("a.txt", b"new", force=True)
    assert (folder / "a.txt").read_bytes() == b"new"
    assert os.listdir(".") == ["a.txt"]


def test_a_place_that_cannot_be_written_to_is_named(folder):
    (folder / "a").write_bytes(b"")
    with pytest.raises(OutputError, match=r"a/b.txt: (exists|cannot be written)"):
        write_whole("a/b.txt", b"", force=False)


def test_an_output_that_is_an_input_is_refused(folder):
    (folder / "a.png").write_bytes(b"picture")
    (folder / "link").symlink_to("a.png")
    refuse_inputs(["b.txt"], ["a.png", "-", "none.png"])
    with pytest.raises(OutputError, match=r"link: is one of the pictures"):
        refuse_inputs(["b.txt", "link"], ["a.png"])


def test_records_are_added_at_the_end(folder):
    (folder / "a.jsonl").write_text("one\n")
    log = Log.open("a.jsonl")
    log.write("two\n")
    assert log.read() == b"one\ntwo\n"
    log.replace(b"\xff\n")
    log.write("three\n")
    log.close()
    assert (folder / "a.jsonl").read_bytes() == b"\xff\nthree\n"
    assert os.listdir(".") == ["a.jsonl"]


SECOND = "import sys; from janus_cli.files import Log; Log.open(sys.argv[1])"


def second_run(environment):
    """What another process says that opens the same file."""
    ended = subprocess.run(
        [sys.executable, "-c", SECOND, "a.jsonl"], env=environment, capture_output=True, text=True
    )
    return ended.returncode, ended.stderr


def test_two_runs_do_not_write_one_file(environment):
    log = Log.open("a.jsonl")
    code, said = second_run(environment)
    assert code == 1 and "another janus is writing it" in said
    log.replace(b"")  # a new file under the same name is as well guarded
    code, said = second_run(environment)
    assert code == 1 and "another janus is writing it" in said
    log.close()
    assert second_run(environment) == (0, "")


def test_a_full_disk_leaves_whole_records(folder, environment):
    probe = (
        "import resource, signal; from janus_cli.files import Log\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (25, 25))\n"
        "log = Log.open('a.jsonl')\n"
        "for _ in range(9): log.write('0123456789\\n')"
    )
    ended = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True)
    assert b"OutputError: a.jsonl: cannot be written: File too large" in ended.stderr
    assert (folder / "a.jsonl").read_text() == "0123456789\n" * 2
