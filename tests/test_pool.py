"""Folder jobs on a Ray cluster: the records of a run without one, whoever dies on the way."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from PIL import Image

from janus_cli import pool
from janus_cli.errors import ExitCode, ModelError, UsageError
from janus_cli.options import RayOptions
from janus_cli.schema import ImagineRequest, ModelChoice, UnderstandRequest, Wish
from janus_cli.signals import undisturbed
from janus_cli.worker import Share, Worker, share_out

from .conftest import PATIENCE, REAL, ROOT

pytest.importorskip("ray", reason="Ray is not installed: pip install ray")

DESCRIBE = ("describe", "--json", "--max-tokens", "4", "--device", "cpu", "--precision", "fp32")
TWO = ("--ray", "--ray-workers", "2")
COLOURS = ("red", "green", "blue", "white", "black", "cyan", "pink", "gray")
PICTURES = 12  # photos, and one on standard input


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two CPUs."""
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= pool.QUIET
    size = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=size)
    yield started.address
    started.shutdown()
    os.environ.clear()
    os.environ |= before


@pytest.fixture
def environment(environment, cluster, tiny_checkpoint):
    return environment | {"RAY_ADDRESS": cluster, "JANUS_MODEL": tiny_checkpoint}


def save_photos(folder):
    """Pictures of which one is broken, and one has two pages."""
    place = folder / "photos"
    place.mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (64, 64), colour).save(place / f"{number}.png")
    (place / "bad.png").write_bytes(b"broken")
    pages = [Image.new("RGB", (64, 64), colour) for colour in ("orange", "purple")]
    pages[0].save(place / "scan.tiff", save_all=True, append_images=pages[1:])
    return place


@pytest.fixture
def photos(folder):
    return save_photos(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_checkpoint):
    """What a run without Ray tells of the photos, and at the end of one on standard input."""
    folder = tmp_path_factory.mktemp("plain")
    picture = (save_photos(folder) / "0.png").read_bytes()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JANUS")}
    ended = subprocess.run(
        [sys.executable, *REAL, *DESCRIBE, "photos", "-"],
        cwd=folder,
        env=kept | {"JANUS_MODEL": tiny_checkpoint, "PYTHONPATH": str(ROOT)},
        input=picture,
        capture_output=True,
    )
    assert ended.returncode == ExitCode.INPUT
    told = records(ended.stdout.decode())
    assert len(told) == PICTURES
    return told


def records(text):
    """What a run told, but for how long it took."""
    told = [json.loads(line) for line in text.splitlines()]
    return [{key: record[key] for key in record if key != "seconds"} for record in told]


def test_the_same_records_in_the_same_order(janus, photos, plain):
    ended = janus(*DESCRIBE, "photos", "-", *TWO, stdin=(photos / "0.png").read_bytes())
    assert records(ended.out) == plain
    assert (ended.code, ended.err) == (ExitCode.INPUT, "janus: 1 of 11 failed\n")


@pytest.mark.slow
def test_the_same_pictures(janus, folder):
    """Of three wishes, of which one is too long."""
    wishes = [
        {"prompt": "a corgi", "n": 3, "seed": 5},
        {"prompt": "word " * 600},
        {"prompt": "a penguin", "guidance": 2, "seed": 1},
    ]
    (folder / "prompts").write_text("".join(json.dumps(wish) + "\n" for wish in wishes))
    args = ("imagine", "--prompts", "prompts", "--seed", "9", "--device", "cpu")
    alone, shared = janus(*args, "-o", "alone"), janus(*args, "-o", "shared", *TWO)
    assert alone.code == ExitCode.INPUT and alone.out.count("\n") == 4
    assert shared.out == alone.out.replace("alone", "shared")
    assert (shared.code, shared.err) == (alone.code, alone.err)
    for path in alone.out.splitlines():
        pair = [Image.open(name) for name in (path, path.replace("alone", "shared"))]
        assert pair[0].tobytes() == pair[1].tobytes()


def test_a_model_that_cannot_be_loaded(janus, photos, a_model):
    ended = janus("describe", "photos", "--model", a_model, "--ray")
    assert (ended.code, ended.out) == (ExitCode.MODEL, "")
    assert ended.err.startswith("janus: config.json") and ended.err.count("\n") == 1


def test_an_error_of_a_worker_says_what_the_program_would(tiny_checkpoint):
    worker = Worker()
    assert worker.load(Path(tiny_checkpoint), ModelChoice(device="cpu"), True) == ()
    error = pickle.loads(pickle.dumps(worker.run(ImagineRequest((Wish("word " * 600),)))))
    assert isinstance(error, UsageError) and str(error).startswith("PROMPT: ")
    worker.engine = None
    defect = worker.run(ImagineRequest((Wish("a corgi"),)))
    assert isinstance(defect, RuntimeError) and str(defect).startswith("AttributeError: ")


# Whoever dies on the way. A picture that is a FIFO shows when a worker has come to it, and who.


def replace_with_fifo(path):
    """The picture that was there."""
    picture = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    return picture


def reader_of(path):
    """The process that reads a FIFO, which this process has open for writing."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == str(path) and int(link.parts[2]) != os.getpid():
                return psutil.Process(int(link.parts[2]))
        except OSError:
            continue
    raise AssertionError(f"nobody reads {path}")


def kill_reader(path):
    """Wait until a worker reads a FIFO, and kill it."""
    with open(path, "wb"):
        reader = reader_of(path)
        reader.kill()
        reader.wait(PATIENCE)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_what_has_killed_it(janus, photos, plain):
    """Whoever reads one of the pictures is killed; what else they had is done by others."""
    replace_with_fifo(photos / "5.png")

    def kill():
        while True:
            kill_reader(photos / "5.png")

    threading.Thread(target=kill, daemon=True).start()
    ended = janus(*DESCRIBE, "photos/*", *TWO)
    expected = plain[:-1]
    error = "3 processes have died over it; is it damaged, or is memory short?"
    expected[5] = {"input": "photos/5.png", "error": error, "error_type": "InputError"}
    assert records(ended.out) == expected
    assert (ended.code, ended.err) == (ExitCode.INPUT, "janus: 2 of 10 failed\n")


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with(janus, photos, plain, environment):
    picture = replace_with_fifo(photos / "6.png")
    args = (*DESCRIBE, "photos/*", "-o", "a.jsonl", "--ray")
    process = subprocess.Popen([sys.executable, *REAL, *args], env=environment)
    with open(photos / "6.png", "wb"):
        process.kill()
        process.wait()
    (photos / "6.png").unlink()
    (photos / "6.png").write_bytes(picture)
    assert janus(*args, "--resume").code == ExitCode.INPUT
    told = records(Path("a.jsonl").read_text())
    assert sorted(told, key=str) == sorted(plain[:-1], key=str)


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_behind(photos, environment):
    """On a cluster that was started for this run."""
    replace_with_fifo(photos / "0.png")
    del environment["RAY_ADDRESS"]
    process = subprocess.Popen(
        [sys.executable, *REAL, *DESCRIBE, "photos/*", "--ray"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with open(photos / "0.png", "wb"):
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in child.name() for child in started)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (ExitCode.INTERRUPTED, "janus: interrupted\n")
    _, left = psutil.wait_procs(started, timeout=PATIENCE)
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]


# What cannot be


def run(*names, choice=None, workers=1):
    request = UnderstandRequest(names or ("a.png",), ("what?",))
    return list(pool.run(request, Path("model"), choice or ModelChoice(), workers=workers))


def test_options_that_do_not_go_together(janus):
    for args, words in (
        (("describe", "a.png", "--ray-workers", "2"), "--ray-workers: says how many"),
        (("describe", "a.png", "--ray", "--ray-workers", "0"), "--ray-workers: must be at least 1"),
        (("ask", "a.png", "--chat", "--ray"), "--ray: answers many pictures at once"),
    ):
        ended = janus(*args)
        assert ended.code == ExitCode.USAGE and words in ended.err
        assert ended.err.count("\n") == 1


def test_without_ray_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert not RayOptions().ray
    with pytest.raises(UsageError, match=r"^--ray: needs Ray; pip install ray$"):
        RayOptions(ray=True)


def test_what_other_processes_cannot_know():
    with pytest.raises(UsageError, match="--device cuda:1: --ray gives each model a GPU"):
        run(choice=ModelChoice(device="cuda:1"))
    with pytest.raises(UsageError, match="/dev/fd/3: means nothing to other processes"):
        run("/dev/fd/3")


def test_a_cluster_out_of_reach(janus, photos):
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        ended = janus("describe", "photos", "--ray", env={"RAY_ADDRESS": address})
    assert (ended.code, ended.out) == (ExitCode.MODEL, "")
    assert ended.err.startswith(f"janus: --ray: RAY_ADDRESS {address} cannot be reached")
    assert ended.err.count("\n") == 1


def test_what_is_no_cluster(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ModelError, match="is no Ray cluster; take the address"):
            run()


def test_a_cluster_without_room(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setattr(pool, "PATIENCE", 0)
    monkeypatch.setattr(pool, "share_out", lambda *_: Share(1, cpus=64, gpus=0, threads=1))
    with pytest.raises(ModelError, match="the cluster has had no place for a model"):
        run()


# Shares


@pytest.mark.parametrize(
    ("machines", "device", "workers", "share"),
    [
        ([{"CPU": 64, "GPU": 8}], "auto", None, Share(8, 0, 1, 8)),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 16, "GPU": 4}, {"CPU": 4}], "cuda", 3, Share(3, 0, 1, 12)),
        ([{"CPU": 16, "GPU": 2}], "auto", 5, Share(5, 0, 0.3333, 3)),
        ([{"CPU": 16, "GPU": 2}], "cpu", None, Share(4, 4, 0, 4)),
        ([{"CPU": 10}, {"CPU": 7}], "auto", None, Share(3, 5, 0, 5)),
        ([{"CPU": 2}], "auto", None, Share(1, 2, 0, 2)),
        ([{"CPU": 2}], "auto", 3, Share(3, 0.6666, 0, 1)),
        ([{"CPU": 64}], "auto", 2, Share(2, 32, 0, 32)),
    ],
)
def test_every_worker_gets_its_share(machines, device, workers, share):
    assert share_out(machines, device, workers) == share


# Signals


def test_a_signal_waits_for_the_end_of_what_must_not_be_disturbed():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")
        done.append("nothing after it")
    assert done == ["all of it"]


def test_whoever_insists_is_obeyed_at_once():
    with pytest.raises(KeyboardInterrupt), undisturbed():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still going on")
    with undisturbed():
        pass
