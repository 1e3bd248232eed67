"""Calls that are handed to a process that stands by: nothing about them may differ."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from janus_cli import handover, runtime
from janus_cli.errors import ExitCode

from .conftest import REAL, an_environment

# Whoever runs this cannot make a call by itself.
THIN = (
    "-c",
    "import sys; sys.modules['typer'] = None\n"
    "from janus_cli.__main__ import main\n"
    "sys.exit(main())",
)
PATIENCE = 120


@pytest.fixture(autouse=True)
def pictures(folder):
    Image.linear_gradient("L").save(folder / "a.png")
    (folder / "bad.png").write_bytes(b"broken")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tiny_checkpoint):
    home = tmp_path_factory.mktemp("standby") / "home"
    with an_environment(home) as environment, warm_model(environment, tiny_checkpoint):
        yield environment | {"JANUS_MODEL": tiny_checkpoint, "JANUS_DEVICE": "cpu"}


@pytest.fixture
def warm(shared, monkeypatch):
    """The environment of those who call: a model is warm there, and a process stands by."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", shared["XDG_RUNTIME_DIR"])
    return shared


@contextmanager
def warm_model(environment, checkpoint):
    """A warm model and, in the end without it, nobody who stands by."""
    place = Path(environment["XDG_RUNTIME_DIR"]) / "janus"
    command = [sys.executable, *REAL, "serve", "-m", checkpoint, "--precision", "fp32"]
    server = subprocess.Popen(
        [*command, "--device", "cpu"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert settled(lambda: any(place.glob("*.call")))
        yield server
    finally:
        server.kill()
        server.wait()
    assert settled(lambda: not any(place.glob("*.call")))


def settled(condition):
    for _ in range(100 * PATIENCE):
        if condition():
            return True
        threading.Event().wait(0.01)
    return False


def call(environment, *arguments, program=THIN, stdin=b"", **options):
    ended = subprocess.run(
        [sys.executable, *program, *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        **options,
    )
    return ended.returncode, ended.stdout, ended.stderr


def copies():
    """The processes that make calls at present."""
    (path,) = runtime.folder().glob("*.call")
    (standing,) = psutil.Process(int(path.stem)).children()
    found = []
    with suppress(psutil.NoSuchProcess):
        found = [copy for between in standing.children() for copy in between.children()]
    return found


def test_a_call_is_the_same_whoever_makes_it(warm, folder):
    picture = (folder / "a.png").read_bytes()
    calls = [
        (("ask", "a.png", "what?", "--max-tokens", "6"), b""),
        (("ask", "-", "what?", "--max-tokens", "6"), picture),
        (("ask", "a.png", "bad.png", "none.png", "what?", "--max-tokens", "4"), b""),
        (("ask", "a.png"), b""),
        (("describe", "--nonsense"), b""),
        (("ocr", "--help"), b""),
        (("ask", "a.png", "what?", "--max-tokens", "4", "-o", "gone/answer.txt"), b""),
    ]
    handed = [call(warm, *arguments, stdin=stdin) for arguments, stdin in calls]
    itself = warm | {"JANUS_DEBUG": "0"}  # whoever looks for a defect makes the call itself
    for (arguments, stdin), seen in zip(calls, handed, strict=True):
        assert call(itself, *arguments, stdin=stdin, program=REAL) == seen, arguments
    assert [code for code, _, _ in handed] == [0, 0, 4, 2, 2, 0, 5]


def test_files_are_made_as_the_caller_would_make_them(warm, folder):
    (folder / "inside").mkdir()
    arguments = ("ask", "../a.png", "what?", "--max-tokens", "4", "-o", "answer.txt")
    code, _, said = call(warm, *arguments, cwd=folder / "inside", umask=0o027)
    assert code == 0, said
    assert stat.S_IMODE((folder / "inside" / "answer.txt").stat().st_mode) == 0o640


def test_limits_go_along(warm, folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    arguments = ("ask", "a.png", "what?", "--max-tokens", "4", "-o", "answer.txt")
    code, _, said = call(warm, *arguments, preexec_fn=limit)
    assert (code, b"answer.txt: cannot be written" in said) == (ExitCode.OUTPUT, True)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, 143)]
)
def test_signals_reach_the_call(warm, number, code):
    caller = waiting_call(warm)
    caller.send_signal(number)
    assert caller.wait(PATIENCE) == code
    assert settled(lambda: not copies())


def test_a_call_ends_with_its_caller(warm):
    caller = waiting_call(warm)
    caller.kill()
    caller.wait()
    assert settled(lambda: not copies())


def test_a_call_pauses_with_its_caller(warm):
    caller = waiting_call(warm)
    (copy,) = copies()
    caller.send_signal(signal.SIGTSTP)
    assert settled(lambda: copy.status() == psutil.STATUS_STOPPED)
    caller.send_signal(signal.SIGCONT)
    assert settled(lambda: copy.status() != psutil.STATUS_STOPPED)
    caller.communicate(b"a.png\n", timeout=PATIENCE)
    assert caller.returncode == 0


def test_a_paused_call_ends_with_its_caller(warm):
    caller = waiting_call(warm)
    caller.send_signal(signal.SIGTSTP)
    (copy,) = copies()
    assert settled(lambda: copy.status() == psutil.STATUS_STOPPED)
    caller.kill()
    caller.wait()
    assert settled(lambda: not copy.is_running() or copy.status() == psutil.STATUS_ZOMBIE)


def test_nothing_is_imported_from_the_present_folder(environment, tiny_checkpoint, tmp_path):
    place = tmp_path / "anybodys"
    place.mkdir()
    (place / "platformdirs.py").write_text("open('imported', 'w')\nraise SystemExit\n")
    environment |= {"JANUS_MODEL": tiny_checkpoint, "JANUS_DEVICE": "cpu"}
    code = "from janus_cli.__main__ import main; sys.exit(main())"
    command = runtime.python(code, "serve", "--keep-alive", "1h")
    server = subprocess.Popen(command, env=environment, cwd=place, stderr=subprocess.DEVNULL)
    try:
        calls = Path(environment["XDG_RUNTIME_DIR"]) / "janus"
        assert settled(lambda: any(calls.glob("*.call")))
    finally:
        server.kill()
        server.wait()
    assert not (place / "imported").exists()


def waiting_call(environment):
    """A call that waits for the names of its pictures."""
    arguments = ("ask", "--files-from", "-", "-q", "what?", "--max-tokens", "4")
    caller = subprocess.Popen(
        [sys.executable, *THIN, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=os.setpgrp,  # a job of this process, which can be paused
    )
    assert settled(copies)
    # A call that reads has done all that comes before.
    pipe = os.readlink(f"/proc/{caller.pid}/fd/0")
    (copy,) = copies()
    assert settled(lambda: os.readlink(f"/proc/{copy.pid}/fd/0") == pipe)
    assert settled(lambda: copy.status() == psutil.STATUS_SLEEPING)
    return caller


def test_files_of_the_caller_alone_are_not_handed_over(warm, folder):
    """A process substitution is a number that means nothing to another process."""
    expected = call(warm, "ask", "a.png", "what?", "--max-tokens", "4")
    line = f"{sys.executable} -m janus_cli ask <(cat a.png) 'what?' --max-tokens 4"
    ended = subprocess.run(["bash", "-c", line], env=warm, capture_output=True)
    assert (ended.returncode, ended.stdout) == expected[:2], ended.stderr


def test_another_program_is_refused(warm, monkeypatch):
    monkeypatch.setattr(handover, "identity", lambda: ["another", "version"])
    assert handover.hand_over(["ask", "a.png", "what?"]) is None


def test_a_call_goes_on_without_those_who_stand_by(environment, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment["XDG_RUNTIME_DIR"])
    environment |= {"JANUS_MODEL": tiny_checkpoint, "JANUS_DEVICE": "cpu"}
    arguments = ("ask", "a.png", "what?", "--max-tokens", "4")
    with warm_model(environment, tiny_checkpoint):
        expected = call(environment, *arguments)
    assert expected[0] == 0
    assert call(environment, *arguments, program=REAL) == expected
