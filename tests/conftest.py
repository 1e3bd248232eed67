"""The program as its users run it: a process of its own, with a home and a folder of its own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pytest

# Several workers share the cores: threads of torch would wait for those of another. What is to be
# seen with several threads says so itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
REAL = ("-m", "janus_cli")
FAKE = (str(ROOT / "tests" / "fake_janus.py"),)  # the real shell around a scripted engine
FOREIGN = ("JANUS", "_JANUS", "FAKE", "HF_", "HUGGING", "TRANSFORMERS", "XDG_CACHE")
CACHE = platformdirs.user_cache_path()
PATIENCE = 60  # seconds until a hanging program fails its test


@dataclass(frozen=True)
class Ended:
    """How a run of the program ended."""

    code: int
    out: str
    err: str


class Terminal:
    """The program in a terminal of its own; `err` may be a file instead."""

    def __init__(self, command: list[str], env: dict[str, str], *, out_to: int | None) -> None:
        self.screen = ""
        self._waited_for = 0
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            command,
            env=env,
            stdin=slave,
            stdout=slave if out_to is None else out_to,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        """Read the screen until the text is on it, after what was waited for before."""
        while (place := self.screen.find(text, self._waited_for)) < 0:
            if not self._read():
                raise AssertionError(f"{text!r} did not come; the screen is {self.screen!r}")
        self._waited_for = place + len(text)

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        """Leave no process behind."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], PATIENCE)[0]:
            raise AssertionError(f"the program hangs; the screen is {self.screen!r}")
        try:
            data = os.read(self._master, 4096)
        except OSError:  # Linux says so when the last holder of the terminal has gone
            return False
        self.screen += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder in which each test runs."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a home of its own, and nothing of janus in it."""
    with an_environment(tmp_path / "home") as made:
        yield made


@contextmanager
def an_environment(home: Path) -> Iterator[dict[str, str]]:
    """An environment of this home, which is made."""
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    kept |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONUTF8": "1"}
    kept |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "huggingface"), "COLUMNS": "100"}
    kept["JANUS_WEIGHTS"] = str(home / "weights")
    kept["XDG_CACHE_HOME"] = str(CACHE)  # each home would compile the kernel anew
    with tempfile.TemporaryDirectory(prefix="janus-") as sockets:  # their paths must be short
        kept["XDG_RUNTIME_DIR"] = sockets
        yield kept


@pytest.fixture
def a_model(tmp_path: Path) -> str:
    """A folder that looks like a checkpoint from outside."""
    place = tmp_path / "a model"
    place.mkdir()
    (place / "config.json").write_text("{}")
    return str(place)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real checkpoint, small and random."""
    from .checkpoints import save_tiny_checkpoint

    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


Run = Callable[..., Ended]


@pytest.fixture
def janus(environment: dict[str, str]) -> Run:
    """Runs the real program: janus(*args, stdin=None, env=None)."""
    return _runner(REAL, environment)


@pytest.fixture
def fake_janus(environment: dict[str, str], a_model: str) -> Run:
    """Runs the real shell of the program around the scripted engine of fake_janus.py."""
    return _runner(FAKE, environment | {"JANUS_MODEL": a_model})


@pytest.fixture
def fake_terminal(environment: dict[str, str], a_model: str) -> Iterator[Callable[..., Terminal]]:
    """The same in a terminal: fake_terminal(*args, env=None, out_to=None)."""
    opened = []

    def open_terminal(
        *args: str, env: dict[str, str] | None = None, out_to: int | None = None
    ) -> Terminal:
        everything = environment | {"JANUS_MODEL": a_model} | (env or {})
        opened.append(Terminal([sys.executable, *FAKE, *args], everything, out_to=out_to))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.close()


def _runner(program: tuple[str, ...], environment: dict[str, str]) -> Run:
    def run(
        *args: str | bytes, stdin: str | bytes | None = None, env: dict[str, str] | None = None
    ) -> Ended:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        ended = subprocess.run(
            [sys.executable, *program, *args],
            input=data or b"",
            capture_output=True,
            env=environment | (env or {}),
            timeout=10 * PATIENCE,
        )
        out = ended.stdout.decode("utf-8", "surrogateescape")
        return Ended(ended.returncode, out, ended.stderr.decode("utf-8", "surrogateescape"))

    return run
