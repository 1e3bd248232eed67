"""janus pull: the program and the hub's library against a hub on loopback."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from janus_cli.errors import ExitCode

from .conftest import ROOT, Ended, Run, Terminal
from .hub_server import PATIENCE, Fault, Hub, digest_of, running_hub

NAME, REPO = "janus-pro-1b", "deepseek-community/Janus-Pro-1B"
WEIGHTS = "model.safetensors"
SIZE = 300_000
MODEL = {
    ".gitattributes": b"*.safetensors filter=lfs",
    "README.md": b"about the model",
    "config.json": b'{"model_type": "janus"}',
    "tokenizer.json": b'{"a": "tokenizer"}',
    "preprocessor_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "onnx/config.json": b"[]",
    "training_args.bin": b"not the weights",
    WEIGHTS: random.Random(0).randbytes(SIZE),
}
SETTINGS = ["chat_template.jinja", "config.json", "preprocessor_config.json", "tokenizer.json"]
COMMAND = [sys.executable, "-m", "janus_cli", "pull", NAME]
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:1"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def only_hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


@pytest.fixture
def hub(only_hub: Hub) -> Iterator[Hub]:
    """An empty hub."""
    yield only_hub
    only_hub.reset()


def reaching(hub: Hub, environment: dict[str, str]) -> dict[str, str]:
    return environment | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "NO_PROXY": "*"}


@pytest.fixture
def online(environment: dict[str, str], hub: Hub) -> dict[str, str]:
    """An environment in which that hub is the hub."""
    return reaching(hub, environment)


@pytest.fixture
def janus_pull(janus: Run, online: dict[str, str]) -> Run:
    """Runs janus pull NAME in a process of its own: janus_pull(*options, env=None)."""
    return lambda *options, env=None: janus("pull", NAME, *options, env=online | (env or {}))


@pytest.fixture(scope="module")
def again(only_hub: Hub) -> Iterator[subprocess.Popen[str]]:
    """One process for many runs, see janus_again.py; it waits for nothing before it tries again."""
    env = reaching(only_hub, dict(os.environ) | {"PYTHONPATH": str(ROOT)})
    command = [sys.executable, "-m", "tests.janus_again"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=env, text=True, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def pull(again: subprocess.Popen[str], online: dict[str, str]) -> Callable[..., Ended]:
    """Runs janus pull in that process: pull(*args, env=None, enough=None)."""

    def run(*args: str, env: dict[str, str] | None = None, enough: int = 10**7) -> Ended:
        variables = {"download.PAUSES": [0] * 4, "download.ENOUGH": enough}
        request = {"args": ["pull", *(args or [REPO])], "env": online | (env or {})}
        request["folder"] = os.getcwd()
        print(json.dumps(request | {"set": variables}), file=again.stdin, flush=True)
        return Ended(*json.loads(again.stdout.readline()))

    return run


@pytest.fixture
def half_way(online: dict[str, str], hub: Hub) -> Iterator[Terminal]:
    """A pull in a terminal, its output in a file: it has come so far, the hub holds the rest."""
    hub.add(REPO, MODEL, faults={WEIGHTS: [Fault("hold", 100_000)]})
    with open("out", "wb") as out:
        terminal = Terminal(COMMAND, online, out_to=out.fileno())
    try:
        for text in ("licence", WEIGHTS, "100.0/300.0 kB"):
            terminal.wait_for(text)
        yield terminal
    finally:
        terminal.close()


def assert_refused(ended: Ended, code: int, *words: str) -> None:
    """One line with these words and nothing else, but for the licence before a download."""
    assert (ended.code, ended.out) == (code, ""), ended.err
    *before, line = ended.err.splitlines()
    assert line.startswith("janus: ") and not [said for said in before if "licence" not in said]
    for word in words:
        assert word in line


def assert_pulled(ended: Ended, files: dict[str, bytes] = MODEL) -> Path:
    """The program has printed a folder, and whatever is in it is as in these files."""
    assert ended.code == 0, ended.err
    folder = Path(ended.out.removesuffix("\n"))
    assert f"{folder}\n" == ended.out and (folder / "config.json").is_file()
    for name in os.listdir(folder):
        assert (folder / name).read_bytes() == files[name]
    return folder


def parts(online: dict[str, str]) -> list[Path]:
    """What is kept of unfinished downloads."""
    return list(Path(online["HF_HOME"]).rglob("*.incomplete"))


# What is pulled, and where it goes


def test_a_pulled_model_answers_without_a_network(hub, janus_pull, janus, tiny_checkpoint):
    files = {file.name: file.read_bytes() for file in Path(tiny_checkpoint).iterdir()}
    hub.add(REPO, files)
    assert_pulled(janus_pull(), files)
    Image.new("RGB", (8, 6), "red").save("a.png")
    args = ("ask", "a.png", "what?", "--max-tokens", "3", "--device", "cpu", "--model", NAME)
    ended = janus(*args, "--json", env=OFFLINE | UNREACHABLE)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["model"] == REPO.partition("/")[2]


def test_a_pulled_model_is_listed_and_can_be_removed(hub, janus_pull, janus, tiny_checkpoint):
    files = {file.name: file.read_bytes() for file in Path(tiny_checkpoint).iterdir()}
    hub.add(REPO, files)
    snapshot = assert_pulled(janus_pull(), files)
    records = map(json.loads, janus("models", "--json", env=OFFLINE).out.splitlines())
    record = {record["name"]: record for record in records}[NAME]
    assert record["path"] == str(snapshot) and record["fits"]
    assert record["disk_bytes"] == sum(map(len, files.values()))
    removed = janus("rm", NAME, "--yes", env=OFFLINE)
    assert removed.code == 0 and f"removed {NAME}" in removed.err
    assert not snapshot.exists() and not snapshot.parent.parent.exists()
    assert f"fetch it: janus pull {NAME}" in janus("ask", "a", "b", "-m", NAME, env=OFFLINE).err


def test_only_what_is_needed_is_pulled_and_only_once(hub, janus_pull):
    hub.add(REPO, MODEL)
    first = janus_pull()
    assert sorted(os.listdir(assert_pulled(first))) == sorted([*SETTINGS, WEIGHTS])
    assert sorted(hub.fetched(REPO)) == sorted([*SETTINGS, WEIGHTS])
    hub.requests.clear()
    assert janus_pull() == Ended(0, first.out, "")
    assert hub.fetched(REPO) == []


def test_a_new_commit_costs_only_what_has_changed(hub, pull):
    hub.add(REPO, MODEL)
    old = assert_pulled(pull())
    hub.requests.clear()
    changed = MODEL | {"tokenizer.json": b'{"version": 2}'}
    hub.add(REPO, changed)
    assert assert_pulled(pull(), changed) != old
    assert hub.fetched(REPO) == ["tokenizer.json"]


@pytest.mark.parametrize(
    ("choice", "repo"),
    [
        ("janus-1.3b", "deepseek-ai/Janus-1.3B"),
        ("janus-pro-1b", "deepseek-community/Janus-Pro-1B"),
        ("Janus-Pro-7B", "deepseek-community/Janus-Pro-7B"),
        ("somebody/Janus-mine", "somebody/Janus-mine"),
    ],
)
def test_names(choice, repo, hub, pull):
    hub.add(repo, MODEL)
    assert f"models--{repo.replace('/', '--')}" in assert_pulled(pull(choice)).parts


def shards(stem: str, ending: str) -> dict[str, bytes]:
    """Weights in two files, and their index."""
    files = {f"{stem}-0000{number}-of-00002{ending}": bytes([number]) * 9 for number in (1, 2)}
    index = {"weight_map": {str(place): name for place, name in enumerate([*files] * 2)}}
    return files | {f"{stem}{ending}.index.json": json.dumps(index).encode()}


@pytest.mark.parametrize("kind", ["one", "shards", "one pickle", "pickled shards"])
def test_weights_come_in_one_format_only(kind, hub, pull):
    formats = {
        "one": {WEIGHTS: b"safe"},
        "shards": shards("model", ".safetensors"),
        "one pickle": {"pytorch_model.bin": b"pickle"},
        "pickled shards": shards("pytorch_model", ".bin"),
    }
    wanted = formats[kind]
    others = {} if "pickle" in kind else formats["one pickle"] | formats["pickled shards"]
    files = {name: MODEL[name] for name in SETTINGS} | others | wanted
    hub.add(REPO, files)
    assert sorted(os.listdir(assert_pulled(pull(), files))) == sorted([*SETTINGS, *wanted])


def test_the_cache_is_the_library_s(hub, pull, online):
    probe = (
        "import sys, huggingface_hub as h; info = h.scan_cache_dir(); "
        "print(h.snapshot_download(sys.argv[1], allow_patterns=['*.json', 'model*']), "
        "len(info.warnings), *sorted(repo.repo_id for repo in info.repos))"
    )

    def library(repo: str, env: dict[str, str]) -> list[str]:
        command = [sys.executable, "-c", probe, repo]
        return subprocess.check_output(command, env=online | env, text=True).split()

    hub.add(REPO, MODEL)
    ours = pull().out.strip()
    assert library(REPO, OFFLINE) == [ours, "0", REPO]

    hub.add("a/theirs", {name: data for name, data in MODEL.items() if "jinja" not in name})
    theirs = library("a/theirs", {"HF_HUB_DISABLE_PROGRESS_BARS": "1"})[0]
    hub.requests.clear()
    assert pull("a/theirs").out.strip() == theirs
    assert hub.fetched("a/theirs") == []


def test_the_cache_can_be_elsewhere(hub, pull, folder):
    hub.add(REPO, MODEL)
    assert assert_pulled(pull(env={"HF_HUB_CACHE": "mine"})).is_relative_to(folder / "mine")


def test_a_cache_without_links(hub, janus_pull):
    hub.add(REPO, MODEL)
    without = {"HF_HUB_DISABLE_SYMLINKS": "1"}
    folder = assert_pulled(janus_pull(env=without))
    assert not any((folder / name).is_symlink() for name in os.listdir(folder))
    hub.requests.clear()
    assert_pulled(janus_pull(env=without))
    assert hub.fetched(REPO) == []


def test_a_revision(hub, pull, janus_pull):
    hub.add(REPO, MODEL, revisions=("main", "refs/pr/7"))
    folder = assert_pulled(pull(REPO, "--revision", "refs/pr/7"))
    refs = folder.parent.parent / "refs"
    assert (refs / "refs" / "pr" / "7").read_text() == folder.name
    assert not (refs / "main").exists()
    assert pull(REPO, "--revision", folder.name).out == f"{folder}\n"
    assert janus_pull("--revision", "refs/pr/7", env=OFFLINE).out == f"{folder}\n"
    assert_refused(pull(REPO, "--revision", "v2"), ExitCode.MODEL, "no revision v2")
    for bad in ("../../v2", "/v2", ""):
        assert_refused(pull(REPO, "--revision", bad), ExitCode.USAGE, "--revision")


def test_storage_of_the_xet_kind(hub, pull):
    link = f'<{hub.url}/api/models/{REPO}/xet-read-token/x>; rel="xet-auth"'
    hub.add(REPO, MODEL, headers={"X-Xet-Hash": "0" * 64, "Link": link})
    assert_pulled(pull())
    assert not [request for request in hub.requests if "xet" in request.path]


# What is said


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "mit"}, "mit ({page})"),
        (
            {"license": "other", "license_name": "deepseek", "license_link": "LICENSE-MODEL"},
            "other / deepseek ({page}/blob/main/LICENSE-MODEL)",
        ),
        ({"license": "other", "license_link": "https://a.b/c"}, "other (https://a.b/c)"),
        ({}, "not stated ({page})"),
    ],
)
def test_the_licence_is_shown(card, licence, hub, pull):
    hub.add(REPO, MODEL, card=card)
    ended = pull()
    assert_pulled(ended)
    assert ended.err == f"janus: {REPO}: licence: {licence.format(page=f'{hub.url}/{REPO}')}\n"


def test_the_library_says_nothing(hub, janus_pull):
    hub.add(REPO, MODEL, headers={"X-HF-Warning": "topic; the library would show this"})
    ended = janus_pull()
    assert_pulled(ended)
    assert "licence" in ended.err and ended.err.count("\n") == 1


def test_progress_in_a_terminal_and_the_next_step(hub, half_way):
    hub.go_on.set()
    half_way.wait_for(f"checking {WEIGHTS}")
    half_way.wait_for(f'janus ask --model {NAME} photo.jpg "what is this?"')
    assert half_way.end() == 0
    assert_pulled(Ended(0, Path("out").read_text(), ""))


def test_a_pull_loads_no_network(hub, online):
    hub.add(REPO, MODEL)
    probe = (
        "import sys; from janus_cli.__main__ import main; main(); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", probe, "pull", NAME]
    ended = subprocess.run(command, env=online, capture_output=True, text=True)
    loaded = set(ended.stderr.splitlines()[-1].split())
    assert ended.stdout and "huggingface_hub" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "PIL"}


# What is refused


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("janus-pro-2b", ["janus-1.3b, janus-pro-1b, janus-pro-7b, janusflow-1.3b", "owner/name"]),
        ("a/b/c", ["owner/name"]),
        ("../a", ["owner/name"]),
        ("https://huggingface.co/a/b", ["owner/name"]),
        ("a/b--c", ["owner/name"]),
    ],
)
def test_names_that_are_refused(choice, words, hub, pull):
    assert_refused(pull(choice), ExitCode.MODEL, choice, *words)
    assert not [request for request in hub.requests if "/api/models" in request.path]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config.json": b'{"model_type": "llama"}'}, ["is not a Janus model"]),
        ({"config.json": b'{"model_type": "multi_modality"}'}, ["is not a Janus model"]),
        ({"config.json": b"[]"}, ["is not a Janus model"]),
        ({"config.json": b"\xff{"}, ["is not a Janus model"]),
        ({"config.json": None}, ["is not a Janus model", "config.json"]),
        ({"tokenizer.json": None}, ["tokenizer.json"]),
        ({WEIGHTS: None}, [WEIGHTS, "pytorch_model.bin"]),
        ({f"{WEIGHTS}.index.json": b'{"weight_map": {"a": "../x"}}'}, ["damaged", "index"]),
        ({f"{WEIGHTS}.index.json": b'{"weight_map": 5}'}, ["damaged", "index"]),
    ],
)
def test_a_repository_that_cannot_run_costs_no_weights(changes, words, hub, pull):
    files = {name: data for name, data in (MODEL | changes).items() if data is not None}
    hub.add(REPO, files)
    assert_refused(pull(), ExitCode.MODEL, REPO, *words)
    assert WEIGHTS not in hub.fetched(REPO)


def test_a_checkpoint_of_the_authors_is_a_janus_model(hub, pull):
    config = {"model_type": "multi_modality", "gen_head_config": {}}
    files = MODEL | {"config.json": json.dumps(config).encode()}
    hub.add(REPO, files)
    assert_pulled(pull(), files)


VAE = {
    "config.json": b'{"_class_name": "AutoencoderKL"}',
    "diffusion_pytorch_model.safetensors": b"numbers",
}
FLOW = MODEL | {"config.json": b'{"model_type": "multi_modality", "vision_gen_enc_config": {}}'}


def test_janusflow_brings_its_vae(hub, pull, janus, online):
    hub.add("deepseek-ai/JanusFlow-1.3B", FLOW)
    hub.add("stabilityai/sdxl-vae", VAE | {"sdxl_vae.safetensors": b"the same for others"})
    assert_pulled(pull("janusflow-1.3b"), FLOW)
    assert sorted(hub.fetched("stabilityai/sdxl-vae")) == sorted(VAE)
    assert janus("pull", "janusflow-1.3b", env=online | OFFLINE).code == 0
    names = [json.loads(line)["name"] for line in janus("models", "--json").out.splitlines()]
    assert "janusflow-1.3b" in names and not any("vae" in name for name in names)


def test_janusflow_with_a_vae_inside_fetches_none(hub, pull, folder):
    hub.add("deepseek-ai/JanusFlow-1.3B", FLOW)
    for name, data in VAE.items():
        (folder / name).write_bytes(data)
    ended = pull("janusflow-1.3b", env={"JANUS_VAE": str(folder)})
    assert_pulled(ended, FLOW)
    assert hub.fetched("stabilityai/sdxl-vae") == []


def test_janusflow_without_its_vae_on_the_hub(hub, pull):
    hub.add("deepseek-ai/JanusFlow-1.3B", FLOW)
    assert_refused(pull("janusflow-1.3b"), ExitCode.MODEL, "stabilityai/sdxl-vae")
    hub.add("stabilityai/sdxl-vae", {"config.json": b"{}"})
    words = ["stabilityai/sdxl-vae", "diffusion_pytorch_model.safetensors"]
    assert_refused(pull("janusflow-1.3b"), ExitCode.MODEL, *words)


def test_a_repository_that_does_not_exist(pull):
    assert_refused(pull("a/b"), ExitCode.MODEL, "a/b", "no such repository", "HF_TOKEN")


def test_a_gated_repository_needs_a_token_and_the_hub_alone_sees_it(hub, pull):
    hub.add(REPO, MODEL, token="hf_secret")
    for env in ({}, {"HF_TOKEN": "hf_wrong"}):
        assert_refused(pull(env=env), ExitCode.MODEL, "gated", f"{hub.url}/{REPO}", "HF_TOKEN")
    assert WEIGHTS not in hub.fetched(REPO)
    assert_pulled(pull(env={"HF_TOKEN": "hf_secret"}))
    assert not [r for r in hub.requests if r.to_cdn and "authorization" in r.headers]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (401, ["refused (401)", "HF_TOKEN"]),
        (403, ["refused (403)", "HF_TOKEN"]),
        (418, ["answers 418", "HF_ENDPOINT"]),
        (503, ["503", "later"]),
        ("<html>please log in</html>", ["HF_ENDPOINT"]),
        ("[]", ["HF_ENDPOINT"]),
        ('{"id": "a/b", "sha": "../..", "siblings": []}', ["HF_ENDPOINT"]),
        (
            '{"id": "a/b", "sha": "' + "0" * 40 + '", '
            '"siblings": [{"rfilename": "config.json", "size": 1, "blobId": "../../../x"}]}',
            ["config.json", "HF_ENDPOINT"],
        ),
    ],
)
def test_answers_that_are_none(answer, words, hub, pull):
    hub.add(REPO, MODEL, answer=answer)
    assert_refused(pull(), ExitCode.MODEL, REPO, *words)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense", "http://[::"])
def test_a_hub_out_of_reach(endpoint, janus_pull):
    assert_refused(janus_pull(env={"HF_ENDPOINT": endpoint}), ExitCode.MODEL, "check")


def test_without_a_network(hub, pull, janus_pull):
    refused = janus_pull(env=OFFLINE)
    assert_refused(refused, ExitCode.MODEL, "not on this machine", "HF_HUB_OFFLINE", "unset")
    hub.add(REPO, MODEL)
    folder = assert_pulled(pull())
    hub.requests.clear()
    assert janus_pull(env=OFFLINE) == Ended(0, f"{folder}\n", "")
    assert hub.requests == []
    ended = janus_pull(env=UNREACHABLE)
    assert ended.out == f"{folder}\n" and "cannot be reached" in ended.err
    (folder / WEIGHTS).unlink()
    assert_refused(janus_pull(env=OFFLINE), ExitCode.MODEL, "not all of it", "HF_HUB_OFFLINE")


def test_too_little_room(hub, pull):
    hub.add(REPO, MODEL, sizes={WEIGHTS: 10**15})
    assert_refused(pull(), ExitCode.OUTPUT, "1.0 PB are still to come", " free; make room")
    assert WEIGHTS not in hub.fetched(REPO)


def test_a_cache_that_cannot_be_written(hub, pull, folder):
    hub.add(REPO, MODEL)
    (folder / "file").write_text("")
    assert_refused(pull(env={"HF_HUB_CACHE": "file/cache"}), ExitCode.OUTPUT, "file/cache")


# What breaks on the way


def pull_within(room: int, env: dict[str, str]) -> Ended:
    """Pull where no file can be larger."""
    ended = subprocess.run(
        COMMAND,
        env=env,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_a_disk_that_fills_up(hub, pull, online):
    hub.add(REPO, MODEL)
    ended = pull_within(100_000, online)
    assert_refused(ended, ExitCode.OUTPUT, online["HF_HOME"], "File too large", "pull again")
    assert_pulled(pull())
    assert hub.ranges(REPO, WEIGHTS) == [None, "bytes=100000-"]


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([Fault("cut", 100_000)], [None, "bytes=100000-"]),
        ([Fault("cut", 100_000), Fault("plain")], [None, "bytes=100000-"]),
        ([Fault("503"), Fault("429"), Fault("cut", 1)], [None, None, None, "bytes=1-"]),
    ],
)
def test_a_connection_that_breaks_is_gone_on_with(faults, ranges, hub, pull):
    hub.add(REPO, MODEL, faults={WEIGHTS: faults})
    ended = pull()
    assert_pulled(ended)
    assert hub.ranges(REPO, WEIGHTS) == ranges
    assert ended.err.count("\n") == 1


def test_a_connection_that_is_reset_is_gone_on_with(hub, pull):
    hub.add(REPO, MODEL, faults={WEIGHTS: [Fault("reset", 100_000)]})
    assert_pulled(pull())
    assert len(hub.ranges(REPO, WEIGHTS)) == 2  # how much came before the reset, nobody knows


def test_a_server_that_falls_silent_is_asked_again(hub, janus_pull):
    hub.add(REPO, MODEL, faults={WEIGHTS: [Fault("hold", 100_000)]})
    assert_pulled(janus_pull(env={"HF_HUB_DOWNLOAD_TIMEOUT": "1"}))
    assert hub.ranges(REPO, WEIGHTS) == [None, "bytes=100000-"]


def test_tries_are_bounded_and_the_next_run_goes_on(hub, pull, online):
    repo = hub.add(REPO, MODEL, faults={WEIGHTS: [Fault("cut", 1000)] * 20})
    assert_refused(pull(), ExitCode.MODEL, "cannot be reached", "pull again", "kept")
    ranges = hub.ranges(REPO, WEIGHTS)
    assert ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-", "bytes=4000-"]
    (part,) = parts(online)
    assert part.read_bytes() == MODEL[WEIGHTS][:5000]
    assert not list(Path(online["HF_HOME"]).rglob(WEIGHTS))
    repo.faults.clear()
    assert_pulled(pull())
    assert hub.ranges(REPO, WEIGHTS)[-1] == "bytes=5000-"
    assert not parts(online)


def test_tries_that_bring_something_are_not_counted(hub, pull):
    hub.add(REPO, MODEL, faults={WEIGHTS: [Fault("cut", 20_000)] * 14})
    assert_pulled(pull(enough=20_000))


def test_ctrl_c_keeps_what_has_come(hub, pull, half_way):
    half_way.interrupt()
    half_way.wait_for("janus: interrupted\n")
    assert half_way.end() == ExitCode.INTERRUPTED
    assert Path("out").read_text() == ""
    assert_pulled(pull())
    assert hub.ranges(REPO, WEIGHTS) == [None, "bytes=100000-"]


def test_two_pulls_at_once_download_once(hub, online):
    hub.add(REPO, MODEL, faults={WEIGHTS: [Fault("hold", 100_000)]})
    pulls = [subprocess.Popen(COMMAND, env=online, stdout=subprocess.PIPE) for _ in range(2)]
    hub.wait_for(2, f"/api/models/{REPO}")
    assert hub.held.wait(PATIENCE)
    hub.go_on.set()
    first, second = (process.communicate(timeout=PATIENCE)[0] for process in pulls)
    assert first == second and first.strip()
    assert hub.ranges(REPO, WEIGHTS) == [None]


def test_a_broken_pull_leaves_the_older_model_in_use(hub, pull, janus_pull):
    hub.add(REPO, MODEL)
    old = assert_pulled(pull())
    newer = MODEL | {WEIGHTS: bytes(SIZE)}
    hub.add(REPO, newer, faults={WEIGHTS: [Fault("cut", 1000)] * 5})
    assert pull().code == ExitCode.MODEL
    assert janus_pull(env=OFFLINE).out == f"{old}\n"
    assert assert_pulled(pull(), newer) != old


# What is wrong


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
@pytest.mark.parametrize("kind", ["other", "shorter", "longer"])
def test_a_wrong_file_is_named_and_removed(name, kind, hub, pull, online):
    right = MODEL[name]
    wrong = {"other": right[:-1] + b"?", "shorter": right[:-1], "longer": right + b"?"}[kind]
    repo = hub.add(REPO, MODEL, sent={name: wrong})
    assert_refused(pull(), ExitCode.MODEL, REPO, name, "damaged", "pull again")
    assert not parts(online)
    for trace in (name, digest_of(name, right)):
        assert not list(Path(online["HF_HOME"]).rglob(trace))
    repo.sent.clear()
    assert_pulled(pull())


def test_a_file_without_an_end_does_not_fill_the_disk(hub, online):
    hub.add(REPO, MODEL, sent={WEIGHTS: bytes(20 * SIZE)})
    assert_refused(pull_within(2 * SIZE, online), ExitCode.MODEL, WEIGHTS, "damaged")


def test_a_wrong_part_is_no_start(hub, pull, online):
    hub.add(REPO, MODEL, faults={WEIGHTS: [Fault("cut", 1000)] * 5})
    assert pull().code == ExitCode.MODEL
    (part,) = parts(online)
    part.write_bytes(b"?" * 5000)
    assert_refused(pull(), ExitCode.MODEL, WEIGHTS, "damaged")
    assert_pulled(pull())
    assert hub.ranges(REPO, WEIGHTS)[-2:] == ["bytes=5000-", None]
