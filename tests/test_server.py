"""Models that are kept warm: real servers, real clients, and what happens when either goes away."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from PIL import Image

from janus_cli import client, runtime
from janus_cli.errors import ExitCode, ModelError, UsageError
from janus_cli.schema import Answer, ImagineRequest, Picture, UnderstandRequest, Wish
from janus_cli.server import Server

from .conftest import REAL
from .test_imports import NETWORKS, loaded_by

ASKED = ("ask", "a.png", "what is this?", "--max-tokens", "6")
PATIENCE = 120


class Warm:
    """`janus serve` in a process of its own."""

    def __init__(self, environment, model, *options):
        command = [sys.executable, *REAL, "serve", "-m", model, "--device", "cpu", *options]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.said = self.process.stderr.readline()
        assert " is warm at " in self.said, self.said + self.process.stderr.read()

    def end(self):
        """The exit code, and what it said last."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@pytest.fixture
def sockets(environment, monkeypatch):
    """The folder of the sockets, for this process too; nobody is left behind in it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment["XDG_RUNTIME_DIR"])
    yield runtime.folder()
    for warm in client.every():
        psutil.Process(warm.pid).kill()


@pytest.fixture
def serve(environment, tiny_checkpoint, sockets):
    """Starts servers: serve(*options)."""
    started = []

    def start(*options):
        started.append(Warm(environment, tiny_checkpoint, *options))
        return started[-1]

    yield start
    for warm in started:
        warm.process.kill()
        warm.process.communicate()


@pytest.fixture
def tiny(janus, tiny_checkpoint):
    def run(*args, **options):
        ended = janus(*args, "-m", tiny_checkpoint, "--device", "cpu", **options)
        assert "Traceback" not in ended.err
        return ended

    return run


@pytest.fixture(autouse=True)
def pictures(folder):
    for number in range(8):
        Image.effect_noise((70 + number, 64), 90).save(folder / f"{number}.png")
    Image.linear_gradient("L").save(folder / "a.png")
    (folder / "bad.png").write_bytes(b"broken")


def understand(*images, questions=("what?",), **options):
    return UnderstandRequest(images=images, questions=questions, max_tokens=6, **options)


def texts(warm, request):
    return [event.text for event in warm.run(request) if isinstance(event, Answer)]


def of_this_process():
    (warm,) = client.every()
    return warm


def settled(condition):
    """Wait until the server has seen what happened; it looks twice a second."""
    for _ in range(100 * PATIENCE):
        if condition():
            return True
        threading.Event().wait(0.01)
    return False


# The same call, answered elsewhere


def test_every_command_answers_as_without_a_server(tiny, serve, folder):
    commands = [
        ASKED,
        ("describe", "a.png", "bad.png", "0.png", "--json", "--max-tokens", "5"),
        ("ask", "a.png", "0.png", "which?", "--together", "--max-tokens", "4"),
        ("ocr", "none.png"),
        ("ask", "a.png", "x" * 5000),
    ]

    def ended():
        shown = [tiny(*command) for command in commands]
        return [(e.code, e.err, [without_time(line) for line in e.out.splitlines()]) for e in shown]

    def drawn(name):
        ended = tiny("imagine", "a corgi", "-n", "2", "--seed", "7", "-o", name + "{i}.png")
        assert ended.code == 0
        return [Image.open(path).tobytes() for path in ended.out.split()]

    alone, pictures = ended(), drawn("alone")
    serve()
    assert ended() == alone
    assert drawn("warm") == pictures
    assert [code for code, _, _ in alone] == [0, 4, 0, 4, 2]


def without_time(line):
    return (
        {k: v for k, v in json.loads(line).items() if k != "seconds"} if line[:1] == "{" else line
    )


def test_standard_input_goes_along(tiny, serve, folder):
    data = (folder / "3.png").read_bytes()
    alone = tiny("ask", "3.png", "what?", "--max-tokens", "6").out
    serve()
    assert tiny("ask", "-", "what?", "--max-tokens", "6", stdin=data).out == alone


def test_a_conversation_goes_on(tiny, serve):
    args = ("ask", "a.png", "one?", "--chat", "--max-tokens", "3", "--json")
    alone = tiny(*args, stdin="two?\n").out.splitlines()
    serve()
    warm = tiny(*args, stdin="two?\n").out.splitlines()
    assert list(map(without_time, warm)) == list(map(without_time, alone)) and len(warm) == 2


def test_the_client_loads_no_network(serve, environment, tiny_checkpoint):
    args = (*ASKED, "-m", tiny_checkpoint, "--device", "cpu")
    assert loaded_by(*args, environment=environment)[1] >= {"torch"}
    serve()
    code, modules = loaded_by(*args, environment=environment)
    assert (code, modules & (NETWORKS | {"PIL", "rich"})) == (0, set())


def test_another_model_or_precision_is_loaded_here(serve, environment, tiny_checkpoint):
    serve()
    for options in (("--precision", "fp16"), ("--backend", "transformers")):
        args = (*ASKED, "-m", tiny_checkpoint, "--device", "cpu", *options)
        assert "torch" in loaded_by(*args, environment=environment)[1]


def test_what_fits():
    warm = client.Warm(
        *("s", 1, client.__version__, "/models/a", "a", "cuda:0", "int8", "auto"),
        *(False, None, 0.0, 0),
    )
    choice = client.ModelChoice
    here = Path("/models/a")
    assert warm.fits(choice("a"), here) and warm.fits(choice("a", "cuda", "int8"), here)
    for other in (
        *(choice("a", "cuda:1"), choice("a", "cpu"), choice("a", "auto", "int4")),
        *(choice("a", family="janus"), choice("a", backend="transformers")),
    ):
        assert not warm.fits(other, here)
    assert not warm.fits(choice("b"), Path("/models/b"))
    assert not warm.fits(choice(), None)  # it was named: whoever names none may mean another


# Many at once


def test_32_clients_at_once_get_their_own_answers(serve, sockets):
    serve()
    warm = of_this_process()
    names = [f"{number % 8}.png" for number in range(32)]
    alone = {name: texts(warm, understand(name)) for name in set(names)}
    assert len({tuple(answer) for answer in alone.values()}) > 3
    found = [None] * len(names)

    def ask(number):
        found[number] = texts(warm, understand(names[number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [alone[name] for name in names]


def test_an_answer_does_not_wait_for_a_picture(serve, sockets):
    serve()
    warm = of_this_process()
    drawing = warm.run(ImagineRequest((Wish("a corgi", count=8),)))
    next(drawing)
    assert texts(warm, understand("a.png"))
    assert sum(isinstance(event, Picture) for event in drawing) == 8


# Going away


def test_a_client_that_disappears_frees_its_place(serve, environment, tiny_checkpoint, sockets):
    serve()
    command = ["imagine", "x", "-n", "999", "--seed", "1", "-o", "out/", "-m", tiny_checkpoint]
    process = subprocess.Popen(
        [sys.executable, *REAL, *command, "--device", "cpu"], env=environment
    )
    assert settled(lambda: of_this_process().under_way)
    process.kill()
    process.wait()
    assert settled(lambda: of_this_process().under_way == 0)
    assert texts(of_this_process(), understand("a.png"))


def test_a_client_that_waits_for_its_turn_can_go_away_too(serve, sockets):
    serve()
    warm = of_this_process()
    waiting = warm.run(understand(*["a.png"] * 500, questions=("what?", "where?")))
    next(waiting)
    assert settled(lambda: of_this_process().under_way)
    waiting.close()
    assert settled(lambda: of_this_process().under_way == 0)


def test_a_crash_is_one_line_and_the_next_call_starts_afresh(serve, tiny, sockets):
    server = serve()
    warm = of_this_process()
    events = warm.run(understand(*["a.png"] * 500))
    next(events)
    server.process.kill()
    with pytest.raises(ModelError, match=r"the warm model \(process \d+\) went away; run the comm"):
        list(events)
    assert list(sockets.glob("*.sock"))  # stale
    ended = tiny(*ASKED)
    assert (ended.code, ended.err) == (0, "") and ended.out
    assert not list(sockets.glob("*.sock"))


def test_a_model_that_has_just_ended_is_no_error(serve, tiny_checkpoint, sockets):
    """Between looking and asking it may go: then the request is answered as without it."""
    from janus_cli.dispatch import find_model, open_model

    server = serve()
    found = find_model(client.ModelChoice(tiny_checkpoint, "cpu", "auto"))
    assert found.warm
    server.process.kill()
    server.process.wait()
    request = understand("a.png")
    answering = open_model(found, request)
    assert [e.text for e in answering(request) if isinstance(e, Answer)]


def test_stop_ends_what_is_under_way_in_one_line(serve, janus, sockets):
    server = serve()
    warm = of_this_process()
    events = warm.run(understand(*["a.png"] * 500))
    next(events)
    stopped = janus("stop", warm.name)
    assert stopped.err == f"janus: {warm.name} (process {warm.pid}) is stopped\n"
    with pytest.raises(ModelError, match=r"closed|went away"):
        list(events)
    assert server.end() == (0, "")
    assert not list(sockets.glob("*.sock"))
    assert janus("ps").out == "" and janus("stop").code == 0


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_server_quietly(sign, code, serve, sockets):
    server = serve()
    server.process.send_signal(sign)
    assert server.end()[0] == code
    assert not list(sockets.glob("*.sock"))


# Keeping alive


def test_the_first_call_keeps_the_model_warm(tiny, environment, tiny_checkpoint, janus, sockets):
    cold = tiny(*ASKED)
    env = {"JANUS_KEEP_ALIVE": "10m"}
    first = tiny(*ASKED, env=env)
    assert (first.code, first.out, first.err) == (0, cold.out, "")
    warm = of_this_process()
    assert (warm.keep_alive, warm.device) == (600, "cpu")
    args = (*ASKED, "-m", tiny_checkpoint, "--device", "cpu")
    assert "torch" not in loaded_by(*args, environment=environment)[1]
    row = janus("ps").out.splitlines()[1].split()
    assert row[:4] == [warm.name, warm.precision, "cpu", str(warm.pid)]
    assert json.loads(janus("ps", "--json").out)["path"] == str(Path(tiny_checkpoint).resolve())
    assert janus("stop").code == 0
    psutil.wait_procs([psutil.Process(warm.pid)] if psutil.pid_exists(warm.pid) else [], PATIENCE)


def test_two_first_calls_load_the_model_once(environment, tiny_checkpoint, sockets):
    command = [sys.executable, *REAL, *ASKED, "-m", tiny_checkpoint, "--device", "cpu"]
    env = environment | {"JANUS_KEEP_ALIVE": "10m"}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (process.communicate(timeout=PATIENCE)[0] for process in both)
    assert first == second != b""
    assert len(list(client.every())) == 1


def test_an_idle_model_ends(serve, sockets):
    server = serve("--keep-alive", "0.1s")
    assert server.end() == (0, "")
    assert not list(sockets.glob("*.sock"))


def test_whoever_asks_over_http_keeps_a_model_alive():
    warm = client.Warm(
        *("s", 1, client.__version__, "/models/a", "a", "cpu", "fp32", "auto"),
        *(False, 0.0, 0.0, 0),
    )
    idle_since = [None, 0.0]
    engine = SimpleNamespace(idle_since=lambda: idle_since.pop(0))
    server = Server(engine, warm)
    assert not server.is_idle()
    assert server.is_idle()


def test_a_model_that_cannot_be_loaded_is_one_line(janus, folder, sockets):
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    cold = janus(*ASKED, "-m", "model")
    warm = janus(*ASKED, "-m", "model", env={"JANUS_KEEP_ALIVE": "10m"})
    assert (warm.code, warm.err.count("\n")) == (ExitCode.MODEL, 1)
    assert warm.err.replace(str(folder / "model"), "model") == cold.err


@pytest.mark.parametrize(
    ("time", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("0", 0)]
)
def test_a_time(time, seconds):
    assert runtime.seconds_of(time) == seconds


@pytest.mark.parametrize("time", ["", "m", "ten", "-1m", "inf", "nan", "1d", "10 m m"])
def test_what_is_no_time(time):
    with pytest.raises(UsageError, match="is no time; write 30s, 10m or 2h"):
        runtime.seconds_of(time)


# Whose it is


def test_the_socket_is_the_users_alone(serve, sockets):
    serve()
    (path,) = sockets.glob("*.sock")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700


def test_a_folder_that_others_may_enter_is_refused(
    serve, sockets, environment, tiny_checkpoint, janus
):
    """Nobody is asked who answers in it: the request is answered as without a server."""
    serve()
    sockets.chmod(0o755)
    with pytest.raises(ModelError, match=r"is not a folder of yours alone"):
        runtime.folder()
    ended = janus("ps")
    assert (ended.code, ended.out) == (ExitCode.MODEL, "") and ended.err.count("\n") == 1
    args = (*ASKED, "-m", tiny_checkpoint, "--device", "cpu")
    code, modules = loaded_by(*args, environment=environment)
    assert code == 0 and "torch" in modules
    sockets.chmod(0o700)


VISITOR = """
import os, socket, sys
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
print(connection.makefile("rb").read())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_second_user_is_sent_away(serve, sockets):
    """Even where the modes would let somebody in, the server asks the system who it is."""
    serve()
    (path,) = sockets.glob("*.sock")
    for place in (path, sockets, sockets.parent):
        place.chmod(0o777)
    ended = subprocess.run([sys.executable, "-c", VISITOR, path], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("b''\n", "")
    for place in (sockets, sockets.parent):
        place.chmod(0o700)
    assert texts(of_this_process(), understand("a.png"))


def test_a_socket_that_says_nonsense_is_passed_over(sockets, tiny):
    with runtime.listen(str(sockets / "1.sock")) as listener:

        def babble():
            for _ in range(2):
                connection, _ = listener.accept()
                connection.sendall(b"HTTP/1.1 200 OK\n")
                connection.close()

        threading.Thread(target=babble, daemon=True).start()
        assert list(client.every()) == []
        assert tiny(*ASKED).code == 0


def test_a_path_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ModelError, match="too long for a socket"):
        runtime.socket_path(tmp_path / ("x" * 100), 1)


def test_nobody_is_at_the_other_end_of_a_plain_pair():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert runtime.is_own(one)
