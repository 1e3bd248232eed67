"""A thousand pictures in one run, one in twenty of them broken, with real networks."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from .conftest import REAL

COUNT, EVERY = 1000, 20
PATIENCE = 600


def png_header(width, height):
    """The beginning of a PNG that claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc


def break_it(path: Path, kind: int) -> None:
    """One of the ways in which a picture is none."""
    whole = path.read_bytes()
    path.unlink()
    broken = [
        b"",
        whole[: len(whole) // 2],
        whole[:7],
        b"this is text\n",
        png_header(60000, 60000),
        b"GIF89a" + bytes(20),
        b"%PDF-1.7\nnothing",
        b"\xff\xd8\xff\xe0" + bytes(64),
    ]
    if kind < len(broken):
        path.write_bytes(broken[kind])
    elif kind == len(broken):
        path.symlink_to("nowhere")
    else:
        path.mkdir()


@pytest.fixture
def names(folder):
    """The pictures in their order; number 7, 27, 47 and so on are broken."""
    chance = random.Random(5)
    (folder / "photos").mkdir()
    names = []
    for number in range(COUNT):
        path = folder / "photos" / f"{number:04d}.png"
        color = tuple(chance.randrange(256) for _ in range(3))
        Image.new("RGB", (chance.randrange(8, 40), 16), color).save(path)
        if number % EVERY == 7:
            break_it(path, number // EVERY % 10)
        names.append(f"photos/{path.name}")
    (folder / "list").write_text("\n".join(names))
    return names


@pytest.fixture
def command(tiny_checkpoint):
    """The whole job, into one file that can be gone on with."""
    job = ("ask", "-q", "what?", "--files-from", "list", "--json", "--max-tokens", "2")
    return (*job, "-o", "a.jsonl", "--resume", "-m", tiny_checkpoint, "--device", "cpu")


def records():
    return [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]


def test_a_thousand_pictures_and_fifty_that_are_none(names, janus, command):
    ended = janus(*command)
    assert (ended.code, ended.out, ended.err) == (4, "", "janus: 50 of 1000 failed\n")
    found = records()
    assert [record["input"] for record in found] == names
    failed = [number for number, record in enumerate(found) if "error" in record]
    assert failed == list(range(7, COUNT, EVERY))
    assert {found[number]["error_type"] for number in failed} == {"InputError"}
    assert len({found[number]["error"].split(": ")[1] for number in failed}) >= 6
    assert all(
        len(r["error"].splitlines()) == 1 and r["input"] in r["error"]
        for r in found
        if "error" in r
    )
    assert all(record["tokens"] == 2 for record in found if "error" not in record)


@pytest.mark.slow
def test_killed_ten_times_and_gone_on_with(names, environment, command, janus):
    """The union is exact, whenever the program dies: also in the middle of a line."""
    chance = random.Random(3)
    for _ in range(10):
        before = os.path.getsize("a.jsonl") if os.path.exists("a.jsonl") else 0
        wanted = before + chance.randrange(1, 9000)
        process = subprocess.Popen(
            [sys.executable, *REAL, *command], env=environment, stderr=subprocess.PIPE
        )
        while process.poll() is None and size_now() < wanted:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with open("a.jsonl", "r+b") as file:  # a line that is torn by the end of the machine
            file.truncate(max(0, size_now() - chance.randrange(3)))
    ended = janus(*command)
    assert ended.code == 4
    found = records()
    assert sorted(record["input"] for record in found) == names
    good = [record["input"] for record in found if "error" not in record]
    assert good == [name for n, name in enumerate(names) if n % EVERY != 7]


def size_now() -> int:
    return os.path.getsize("a.jsonl") if os.path.exists("a.jsonl") else 0
