"""What starts quickly stays quick: no command loads a network, or more, before it needs one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from PIL import Image

from janus_cli.png import write_picture
from janus_cli.schema import Picture

COMMANDS = (
    *("describe", "ask", "ocr", "imagine", "info"),
    *("models", "pull", "quantize", "rm", "serve", "ps", "stop", "train", "doctor"),
)
NETWORKS = {"torch", "transformers", "tokenizers", "safetensors", "numpy", "huggingface_hub"}
HEAVY = NETWORKS | {"PIL", "rich", "bitsandbytes"}
PROBE = """
import json, sys
from janus_cli.__main__ import main
code = main()
sys.stdout.flush()
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def loaded_by(*args: str, environment: dict[str, str]) -> tuple[int, set[str]]:
    """The exit code, and the packages that are loaded when the program is done."""
    itself = environment | {"JANUS_DEBUG": "0"}  # and nobody who stands by
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, *args], env=itself, capture_output=True, text=True
    )
    code, modules = json.loads(ended.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    "args",
    [("--help",), ("--version",), (), *((command, "--help") for command in COMMANDS)],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(args, environment):
    code, modules = loaded_by(*args, environment=environment)
    assert code == 0
    assert "janus_cli.cli".partition(".")[0] in modules
    assert not modules & HEAVY


@pytest.mark.parametrize(
    ("line", "expected"),
    [("janus d", "describe"), ("janus ask --dev", "--device"), ("janus ocr --precision f", "fp32")],
)
def test_completion_loads_nothing_heavy(line, expected, environment, janus):
    request = {"_JANUS_COMPLETE": "complete_bash", "COMP_WORDS": line}
    request["COMP_CWORD"] = str(len(line.split()) - 1)
    ended = janus(env=request)
    assert expected in ended.out.split()
    code, modules = loaded_by(environment=environment | request)
    assert code == ended.code == 0
    assert not modules & HEAVY


def test_a_usage_error_loads_nothing_heavy(environment):
    for args in (("ask", "--nonsense"), ("ask", "a.png"), ("imagine", ""), ("nonsense",)):
        code, modules = loaded_by(*args, environment=environment)
        assert code == 2
        assert not modules & HEAVY


def test_info_loads_no_network(environment):
    settings = ("a corgi", 7, 2, 2, bytes(12), "embedded", "fp32", 5.0, 1.0, 0, 1.0, None, 0.5)
    write_picture(Picture(0, *settings), "corgi.png", force=False)
    Image.new("RGB", (2, 2)).save("plain.png")
    code, modules = loaded_by("info", "corgi.png", environment=environment)
    assert code == 0
    assert not modules & NETWORKS
    code, modules = loaded_by("info", "plain.png", environment=environment)
    assert code == 4
    assert not modules & NETWORKS


def test_the_package_itself_is_empty(environment):
    probe = (
        "import sys; before = set(sys.modules); import janus_cli; print(set(sys.modules) - before)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True
    )
    assert ended.stdout == "{'janus_cli'}\n"
