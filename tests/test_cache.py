"""Pulled models as other commands find them: by name, without a network or the hub's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from janus_cli import cache, weights
from janus_cli.errors import ExitCode, ModelError

from .test_imports import NETWORKS, loaded_by

REPO = "deepseek-community/Janus-Pro-1B"
JANUS = {"config.json": '{"model_type": "janus"}', "tokenizer.json": "{}"}
ONE, TWO = "1" * 40, "2" * 40
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
SHARDED = JANUS | {
    "model.safetensors.index.json": INDEX,
    "model-1.safetensors": "",
    "model-2.safetensors": "",
}
WHOLE = JANUS | {"model.safetensors": ""}


@pytest.fixture(autouse=True)
def hub_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def lay(repo: str, commit: str, files: dict[str, str], *, ref: str | None = "main") -> Path:
    """Put a snapshot into the cache, as the hub's library does."""
    folder = cache.folder_of(repo)
    snapshot = folder / "snapshots" / commit
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    for name, text in files.items():
        blob = folder / "blobs" / f"{commit}-{name}"
        blob.write_text(text)
        (snapshot / name).symlink_to(blob)
    if ref is not None:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    return snapshot


def without(files: dict[str, str], name: str) -> dict[str, str]:
    return {other: text for other, text in files.items() if other != name}


@pytest.mark.parametrize(
    "files",
    [WHOLE, SHARDED, JANUS | {"pytorch_model.bin": ""}],
    ids=["one file", "shards", "a pickle"],
)
def test_a_pulled_model_is_found_by_its_names(files):
    snapshot = lay(REPO, ONE, files)
    for name in ("janus-pro-1b", "Janus-Pro-1B", REPO):
        assert weights.find_model(name) == snapshot
    assert "janus-pro-1b" in weights.installed()


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (SHARDED, "model-2.safetensors"),
        (SHARDED, "tokenizer.json"),
        (SHARDED, "config.json"),
        (WHOLE, "model.safetensors"),
    ],
)
def test_what_is_not_whole_is_refused_and_not_listed(files, missing):
    snapshot = lay(REPO, ONE, without(files, missing))
    with pytest.raises(ModelError) as refused:
        weights.find_model("janus-pro-1b")
    for word in (missing, str(snapshot), "janus pull janus-pro-1b"):
        assert word in str(refused.value)
    assert "janus-pro-1b" not in weights.installed()


def test_a_link_to_nothing_is_no_file():
    snapshot = lay(REPO, ONE, WHOLE)
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        weights.find_model(REPO)


def test_a_damaged_index_is_named():
    lay(REPO, ONE, SHARDED | {"model.safetensors.index.json": "{"})
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json is missing or damaged"):
        weights.find_model(REPO)


def test_main_goes_before_what_is_newer_and_what_is_newer_before_nothing():
    other = lay(REPO, ONE, WHOLE, ref="v1")
    os.utime(other, (1, 1))
    newer = lay(REPO, TWO, WHOLE, ref=None)
    assert weights.find_model(REPO) == newer
    (cache.folder_of(REPO) / "refs" / "main").write_text(ONE)
    assert weights.find_model(REPO) == other
    assert cache.find_snapshot(REPO, TWO) == newer
    assert cache.find_snapshot(REPO, "v1") == other
    assert cache.find_snapshot(REPO, "v2") is None


def test_only_janus_models_are_listed_and_run():
    lay("a/llama", ONE, WHOLE | {"config.json": '{"model_type": "llama"}'})
    flow = '{"model_type": "multi_modality", "vision_gen_enc_config": {}}'
    lay("a/flow", ONE, WHOLE | {"config.json": flow})
    lay("a/deepseek-vl", ONE, WHOLE | {"config.json": '{"model_type": "multi_modality"}'})
    lay("a/damaged", ONE, WHOLE | {"config.json": "["})
    authors = '{"model_type": "multi_modality", "gen_head_config": {}}'
    snapshot = lay("a/mine", ONE, WHOLE | {"config.json": authors})
    lay("deepseek-ai/Janus-1.3B", ONE, WHOLE)
    lay("of-nobody", ONE, WHOLE)  # no name that --model would take
    (cache.root() / "models--a--stray").write_text("a file")
    listed = weights.installed()
    ours = [name for name in listed if "/" in name or "of-" in name]
    assert ours == ["a/flow", "a/mine"]
    assert "janus-1.3b" in listed and weights.find_model("a/mine") == snapshot
    for name in ("llama", "deepseek-vl", "damaged"):
        with pytest.raises(ModelError, match="not a Janus"):
            weights.find_model(f"a/{name}")


def test_a_folder_goes_before_a_pulled_model(folder):
    lay("a/b", ONE, WHOLE)
    Path("a/b").mkdir(parents=True)
    assert weights.find_model("a/b") != Path("a/b")
    Path("a/b/config.json").write_text("{}")
    assert weights.find_model("a/b") == Path("a/b")


@pytest.mark.parametrize(
    ("name", "words"),
    [("janus-pro-7b", "is not on this machine"), ("a/b", "no such folder")],
)
def test_what_was_not_pulled_says_how_to(name, words, janus, folder):
    (folder / "a.png").write_bytes(b"")
    ended = janus("ask", "a.png", "what?", "--model", name)
    assert (ended.code, ended.out, ended.err.count("\n")) == (ExitCode.MODEL, "", 1)
    assert words in ended.err and f"janus pull {name}\n" in ended.err


def test_completion_lists_pulled_models_and_loads_nothing_heavy(environment, hub_cache):
    lay(REPO, ONE, SHARDED)
    lay("somebody/Janus", ONE, WHOLE)
    line = {"_JANUS_COMPLETE": "complete_bash", "COMP_WORDS": "janus ask --model "}
    request = environment | line | {"COMP_CWORD": "3", "HF_HUB_CACHE": str(hub_cache)}
    command = [sys.executable, "-m", "janus_cli"]
    offered = subprocess.check_output(command, env=request, text=True).split()
    assert {"embedded", "janus-pro-1b", "somebody/Janus"} <= set(offered)
    code, modules = loaded_by(environment=request)
    assert code == 0 and not modules & NETWORKS


def test_the_cache_is_where_the_library_has_it(environment):
    cases: list[dict[str, str]] = [
        {},
        {"XDG_CACHE_HOME": "/xdg"},
        {"HF_HOME": "/hf"},
        {"HF_HOME": "~/hf", "XDG_CACHE_HOME": "/xdg"},
        {"HF_HOME": "$HOME/of/hf"},
        {"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old"},
        {"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "~/new"},
        {"HF_HUB_CACHE": "relative/to/here"},
        {"HF_HOME": ""},
    ]
    probe = (
        "import importlib, json, os, sys, pathlib as p; from huggingface_hub import constants\n"
        "from janus_cli import cache\n"
        "for case in json.load(sys.stdin):\n"
        "    os.environ.update(case); importlib.reload(constants)\n"
        "    theirs = p.Path(constants.HF_HUB_CACHE).resolve()\n"
        "    print(json.dumps([str(theirs), str(cache.root())]))\n"
        "    [os.environ.pop(name) for name in case]\n"
    )
    env = {name: value for name, value in environment.items() if not name.startswith("HF_")}
    out = subprocess.check_output(
        [sys.executable, "-c", probe], input=json.dumps(cases), env=env, text=True
    )
    places = [json.loads(line) for line in out.splitlines()]
    assert len(places) == len(cases) and all(theirs == ours for theirs, ours in places)
    assert len({ours for _, ours in places}) == len(cases)
