"""OpenAI's own client, and others, against `janus serve --http`."""

import asyncio
import base64
import contextlib
import http.client
import http.server
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletion
from PIL import Image

from janus_cli import imagine, understand
from janus_cli.engine.load import open_engine
from janus_cli.errors import UsageError
from janus_cli.http.guard import Limits
from janus_cli.http.server import Door
from janus_cli.png import read_settings
from janus_cli.schema import (
    Answer,
    ImagineRequest,
    ModelChoice,
    Origin,
    Turn,
    UnderstandRequest,
    Wish,
)

from .conftest import REAL, ROOT
from .scripted_service import AS_JSON, LOCAL, Scripted, call, post, scripted

PATIENCE = 120  # seconds until a hanging server fails its test
KEY = "a key with ümlauts à"
CHAT, IMAGES = "/v1/chat/completions", "/v1/images/generations"
TINY = ("serve", "--http", "127.0.0.1:0", "--device", "cpu", "--precision", "fp32")


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


GRAY = png(Image.linear_gradient("L"))
NOISE = png(Image.effect_noise((70, 64), 90))


def data_url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


def user(text, *pictures):
    """A message about pictures: bytes, or what stands in the place of an address."""
    urls = [data_url(p) if isinstance(p, bytes) else p for p in pictures]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


# Real servers


class Server:
    """`janus serve --http` in a process of its own."""

    def __init__(self, model, sockets, *options, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JANUS", "HF_"))}
        kept |= {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": sockets, "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *REAL, *TINY, "-m", model, *options],
            env=kept | environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = [self.process.stderr.readline() for _ in range(2)]
        assert all(said), "the server ended at once"
        (self.url,) = re.findall(r"http://\S+", "".join(said))
        self.address = self.url.removeprefix("http://").removesuffix("/v1")
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)

    def ask(self, method, path, body=None, headers=None):
        """The status and the JSON of a plain request."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        data = json.loads(response.read())
        connection.close()
        return response.status, data

    def end(self):
        """The exit code, and what it has said since it began."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def sockets():
    with tempfile.TemporaryDirectory(prefix="janus-") as place:
        yield place


@pytest.fixture(scope="module")
def server(tiny_checkpoint, sockets):
    server = Server(tiny_checkpoint, sockets)
    yield server
    assert server.end() == (143, "")  # whatever was asked: neither warnings nor tracebacks


@pytest.fixture(scope="module")
def locked(tiny_checkpoint, sockets):
    """A server that wants a key, and fetches pictures."""
    server = Server(tiny_checkpoint, sockets, "--allow-remote-images", JANUS_API_KEY=KEY)
    yield server
    assert server.end() == (143, "")


@pytest.fixture(scope="module")
def client(server):
    return server.client


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return os.path.basename(tiny_checkpoint)


@pytest.fixture(scope="module")
def engine(tiny_checkpoint):
    return open_engine(Path(tiny_checkpoint), ModelChoice(None, "cpu", "fp32"))


def here(engine, *questions, pictures=(), **options):
    """What is answered in this process."""
    given = tuple((str(number), data) for number, data in enumerate(pictures))
    request = UnderstandRequest(
        images=tuple(name for name, _ in given),
        questions=questions,
        together=True,
        origin=Origin(given=given),
        **options,
    )
    (answer,) = [e for e in understand.run(request, engine) if isinstance(e, Answer)]
    return answer


def test_an_answer_is_that_of_this_process(client, engine, model):
    for options in ({}, {"temperature": 1.5, "seed": 11}):
        told = client.chat.completions.create(
            model=model, messages=[user("how many?", GRAY)], max_tokens=9, **options
        )
        expected = here(engine, "how many?", pictures=[GRAY], max_tokens=9, **options)
        assert told.choices[0].message.content == expected.text
        assert told.choices[0].finish_reason == "length"
        counts = told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens
        tokens = expected.prompt_tokens, expected.tokens
        assert counts == (*tokens, sum(tokens))
        assert (told.model, told.object) == (model, "chat.completion")


def test_a_conversation_goes_on(client, engine, model):
    messages = [
        {"role": "system", "content": "count"},
        user("how many?", GRAY),
        {"role": "assistant", "content": "two"},
        {"role": "assistant", "content": [{"type": "text", "text": "or three"}]},
        {"role": "developer", "content": "be brief"},
        user("and here?", NOISE),
    ]
    told = client.chat.completions.create(model=model, messages=messages, max_tokens=9)
    turn = Turn("count\n\nbe brief\n\nhow many?", "two\n\nor three")
    expected = here(engine, "and here?", pictures=[GRAY, NOISE], history=(turn,), max_tokens=9)
    assert told.choices[0].message.content == expected.text
    assert told.usage.prompt_tokens == expected.prompt_tokens


def test_a_conversation_may_do_without_pictures(client, engine, model):
    messages = [{"role": "user", "content": "how many penguins are there"}]
    told = client.chat.completions.create(model=model, messages=messages, max_completion_tokens=9)
    expected = here(engine, "how many penguins are there", max_tokens=9)
    assert told.choices[0].message.content == expected.text


def test_pieces_make_up_the_answer(client, model):
    asked = {"model": model, "messages": [user("how many?", GRAY)], "max_tokens": 9}
    whole = client.chat.completions.create(**asked)
    counted = {"stream_options": {"include_usage": True}}
    for options in ({}, counted):
        chunks = list(client.chat.completions.create(**asked, stream=True, **options))
        usage = chunks.pop() if options else None
        choices = [chunk.choices[0] for chunk in chunks]
        pieces = [choice.delta.content or "" for choice in choices]
        assert "".join(pieces) == whole.choices[0].message.content
        assert len([piece for piece in pieces if piece]) > 3
        assert choices[0].delta.role == "assistant"
        assert [c.finish_reason for c in choices] == [None] * (len(choices) - 1) + ["length"]
        assert len({chunk.id for chunk in chunks}) == 1
        if usage:
            assert (usage.choices, usage.usage) == ([], whole.usage)


def test_pictures_are_those_of_this_process(client, engine, model, folder):
    settings = {"seed": 7, "guidance": 3.0, "top_k": 50, "negative": "blue"}
    told = client.images.generate(
        model=model, prompt="a red circle", n=2, response_format="b64_json", extra_body=settings
    )
    wish = Wish("a red circle", 2, 7, guidance=3.0, top_k=50, negative="blue")
    expected = [e for e in imagine.run(ImagineRequest((wish,)), engine) if hasattr(e, "pixels")]
    assert len(told.data) == len(expected) == 2
    for number, (drawn, picture) in enumerate(zip(told.data, expected, strict=True)):
        (folder / "drawn.png").write_bytes(base64.b64decode(drawn.b64_json))
        with Image.open("drawn.png") as image:
            assert image.tobytes() == picture.pixels
        carried = read_settings("drawn.png")
        assert (carried["seed"], carried["negative"]) == (7 + number, "blue")
    assert told.usage.output_tokens == 2 * engine.image_tokens
    assert told.usage.input_tokens == len(engine.writer.drawing("a red circle"))


def test_the_model_is_listed(server, client, model):
    assert [card.id for card in client.models.list()] == [model]
    assert client.models.retrieve(model).owned_by == "janus"
    assert server.ask("GET", "/health") == (200, {"status": "ok"})
    paths = server.ask("GET", "/openapi.json")[1]["paths"]
    assert {CHAT, IMAGES, "/v1/models", "/health"} <= set(paths)


def test_what_cannot_be_answered_is_said(client, model):
    chat, draw = client.chat.completions.create, client.images.generate
    long, broken = "word " * 3000, user("what?", GRAY, b"broken")
    with pytest.raises(openai.NotFoundError, match="'gpt' is not served") as error:
        chat(model="gpt", messages=[user("what?")])
    assert error.value.code == "model_not_found"
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="context") as error:
            chat(model="janus", messages=[user(long)], stream=stream)
        assert (error.value.code, error.value.param) == ("context_length_exceeded", "messages")
        with pytest.raises(openai.BadRequestError, match="image 2: is not a picture"):
            chat(model=model, messages=[broken], stream=stream)
    with pytest.raises(openai.BadRequestError, match="context") as error:
        draw(model=model, prompt=long)
    assert error.value.param == "prompt"
    with pytest.raises(openai.BadRequestError, match="this model draws 64x64"):
        draw(model=model, prompt="a corgi", size="1024x1024")


def test_a_body_may_be_too_large(server):
    limit = Limits().body
    headers = {"Content-Type": "application/json"}
    status, told = server.ask("POST", CHAT, b" " * (limit + 1), headers)
    assert status == 413 and "32 MiB" in told["error"]["message"]
    status, told = server.ask("POST", CHAT, iter([b" " * 2**20] * (2**5 + 1)), headers)  # chunked
    assert status == 413
    status, _ = server.ask("POST", CHAT, b" " * limit, headers)
    assert status == 400


def test_only_this_machine_may_ask_without_a_key(server):
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:1", "127.3.2.1", "[::1]", "[::1]:80"):
        assert server.ask("GET", "/health", headers={"Host": host})[0] == 200
    for host in (
        "evil.com",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "10.0.0.1",
        "",
        "[",
        "[::",
    ):
        status, told = server.ask("GET", "/v1/models", headers={"Host": host})
        assert status == 403 and told["error"]["type"] == "invalid_request_error"


def test_no_page_of_a_browser_may_ask(server):
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE)
    headers = {"Origin": "https://evil.com", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET"):
        connection.request(method, "/v1/models", headers=headers)
        response = connection.getresponse()
        response.read()
        assert not [h for h, _ in response.getheaders() if h.lower().startswith("access-control")]
    body = json.dumps({"messages": [user("what?")]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert server.ask("POST", CHAT, body, {"Content-Type": kind})[0] == 415


def test_a_key_is_wanted(locked, model):
    with pytest.raises(openai.AuthenticationError) as error:
        locked.client.models.list()
    assert error.value.code == "invalid_api_key"
    for headers in ({}, {"Authorization": KEY}, {"Authorization": "Bearer "}):
        for path in ("/v1/models", CHAT, IMAGES, "/openapi.json", "/v1/nothing", "//health"):
            assert locked.ask("GET", path, headers=headers)[0] == 401
            assert locked.ask("POST", path, b" " * 9, headers)[0] == 401
    shown = {"Authorization": f"bearer {KEY}".encode(), "Host": "[elsewhere"}
    assert locked.ask("GET", "/v1/models", headers=shown)[1]["data"][0]["id"] == model
    assert locked.ask("GET", "/v1/nothing", headers=shown)[0] == 404
    assert locked.ask("GET", "/health")[0] == 200


@pytest.fixture
def gray_elsewhere():
    """The address of a picture."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(GRAY)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{elsewhere.server_port}/gray.png"
        elsewhere.shutdown()


def test_addresses_are_followed_where_that_is_allowed(server, locked, gray_elsewhere):
    def ask(where, url):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}".encode()}
        body = {"messages": [user("how many?", url)], "max_tokens": 9}
        status, told = where.ask("POST", CHAT, json.dumps(body), headers)
        return status, told["choices"][0]["message"] if status == 200 else told["error"]

    assert ask(locked, gray_elsewhere) == ask(server, data_url(GRAY))
    status, error = ask(server, gray_elsewhere)
    assert status == 400 and "image 1: addresses are not followed" in error["message"]


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/hostname", "/etc/hostname", "-", "image 1", "", "ftp://a/b.png", "data:"),
        *("data:image/png,AAAA", "data:text/plain;base64,AAAA", "data:image/png;base64,A"),
        *("data:image/png;base64,", "data:image/png;base64,äöü", "x" * 1000),
    ],
)
def test_nothing_else_is_a_picture(url, server, locked, folder):
    (folder / "image 1").write_bytes(GRAY)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}".encode()}
    body = json.dumps({"messages": [user("how many?", url)]})
    for where in (server, locked):
        status, told = where.ask("POST", CHAT, body, headers)
        assert status == 400 and told["error"]["code"] == "invalid_image"
        assert told["error"]["message"].startswith("image 1: ")


def test_what_is_no_http_is_answered_all_the_same(server):
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 400
        assert json.loads(response.read())["error"]["type"] == "invalid_request_error"


# Where it listens


@pytest.mark.parametrize(
    ("address", "said"),
    [
        *(("0.0.0.0:0", "JANUS_API_KEY"), ("[::]:0", "JANUS_API_KEY")),
        *(("8000", "HOST:PORT"), (":8000", "HOST:PORT"), ("::1:80", "HOST:PORT")),
        *(("127.0.0.1:", "HOST:PORT"), ("127.0.0.1:70000", "up to 65535")),
        *(("no.such.host.invalid:80", "is not known"), ("203.0.113.7:0", "another address")),
    ],
)
def test_an_address_that_is_none(address, said):
    key = KEY if said == "another address" else None
    with pytest.raises(UsageError, match=f"^--http: .*{said}"):
        Door.at(address, key=key)


def test_the_program_says_so_before_it_loads_anything(janus, a_model):
    ended = janus("serve", "--http", "0.0.0.0:0", "-m", a_model)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "JANUS_API_KEY" in ended.err
    ended = janus("serve", "--allow-remote-images", "-m", a_model)
    assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_a_port_that_is_taken(server):
    with pytest.raises(UsageError, match=r"^--http: .*take another address"):
        Door.at(server.address)


def test_others_are_let_in_with_a_key():
    for address in ("0.0.0.0:0", "[::]:0"):
        try:
            door = Door.at(address, key=KEY)
        except UsageError as error:  # a machine without IPv6
            assert "[::]" in str(error)
            continue
        assert not door.url.endswith(":0/v1")
        door.listener.close()


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r"^--http: .*pip install fastapi uvicorn"):
        Door.at("127.0.0.1:0")


# Limits, with an engine that does what it is told


def run(asking):
    return asyncio.run(asyncio.wait_for(asking, PATIENCE))


def test_so_many_at_once():
    engine = Scripted()
    app = scripted(engine, limits=Limits(requests=2))

    async def ask():
        waiting = [
            asyncio.ensure_future(post(app, CHAT, {"messages": [user("wait")]})),
            asyncio.ensure_future(post(app, IMAGES, {"prompt": "wait"})),
        ]
        for _ in waiting:
            await asyncio.to_thread(engine.begun.acquire)
        refused = await post(app, CHAT, {"messages": [user("now")]})
        seen = await call(app, "GET", "/health")
        for session in engine.sessions:
            session.cancel()
        return (
            refused,
            seen,
            [*await asyncio.gather(*waiting), await post(app, IMAGES, {"prompt": "a"})],
        )

    refused, seen, others = run(ask())
    assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert [told.status for told in (seen, *others)] == [200] * 4


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["wait", "wait a little"])
def test_a_client_that_goes_away_is_forgotten(stream, prompt):
    engine = Scripted()
    app = scripted(engine, limits=Limits(requests=1))
    chat = {"messages": [user(prompt)], "stream": stream}

    async def ask():
        def begun():
            return asyncio.to_thread(engine.begun.acquire)

        told = [await post(app, CHAT, chat, then=begun)]
        told += [await post(app, IMAGES, {"prompt": prompt}, then=begun)]
        assert [session.cancelled.is_set() for session in engine.sessions] == [True, True]
        return told, await post(app, IMAGES, {"prompt": "a corgi"})

    (answer, pictures), after = run(ask())
    assert pictures is None
    assert (answer is not None and b"wait" in answer.body) if stream else answer is None
    assert after.status == 200


def test_a_request_takes_only_so_long():
    app = scripted(limits=Limits(answer=0.05))
    told = run(post(app, CHAT, {"messages": [user("wait")]}))
    assert (told.status, told.json["error"]["code"]) == (503, "timeout")
    told = run(post(app, CHAT, {"messages": [user("wait now")], "stream": True}))
    assert json.loads(told.events[-1])["error"]["code"] == "timeout"
    assert json.loads(told.events[1])["choices"][0]["delta"] == {"content": "wait"}


def test_a_body_that_does_not_come():
    app = scripted(limits=Limits(upload=0.05))
    told = run(call(app, "POST", CHAT, AS_JSON, [b'{"messages"'], whole=False))
    assert told.status == 408
    gone = asyncio.sleep
    told = run(call(app, "POST", CHAT, AS_JSON, [b"{"], whole=False, then=lambda: gone(0)))
    assert told is None


def test_a_defect_is_told_without_its_details(capfd):
    app = scripted()
    told = run(post(app, CHAT, {"messages": [user("fail")]}))
    assert told.status == 500 and "expects" not in told.json["error"]["message"]
    assert capfd.readouterr().err.count("RuntimeError: nobody expects this") == 1
    told = run(post(app, CHAT, {"messages": [user("fail at once")], "stream": True}))
    assert json.loads(told.events[-1])["error"]["type"] == "server_error"
    assert "[DONE]" not in told.events


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "system", "content": "count"}], "messages"),
        ([{"role": "assistant", "content": "two"}, user("what?")], "messages"),
        ([user("what?"), {"role": "assistant", "content": "two"}], "messages"),
        ([{"role": "user", "content": " "}], "messages"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "tool", "content": "a"}], "messages[0]"),
        (
            [user("what?"), {"role": "user", "content": [{"type": "text"}]}],
            "messages[1].content[0].text",
        ),
        (
            [{"role": "system", "content": [user("?", GRAY)["content"][0]]}],
            "messages[0].content[0].type",
        ),
        ([user("what?", *[GRAY] * 17)], "messages"),
        ([user("x" * 300_000)], "messages[0].content[0].text"),
        ([user("x" * 200_000)] * 2, "messages"),
        ("what?", "messages"),
    ],
)
def test_conversations_that_make_no_sense(messages, param):
    told = run(post(scripted(), CHAT, {"messages": messages}))
    assert (told.status, told.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        *((CHAT, "n", 2), (CHAT, "stop", "."), (CHAT, "top_p", 0.5), (CHAT, "tools", [{}])),
        *((CHAT, "seed", -1), (CHAT, "seed", 2**63), (CHAT, "temperature", -1)),
        *((CHAT, "temperature", float("nan")), (CHAT, "max_tokens", 0), (CHAT, "max_tokens", "9")),
        *((CHAT, "max_tokens", True), (CHAT, "stream", 1), (CHAT, "model", 7)),
        *((CHAT, "response_format", {"type": "json_object"}), (CHAT, "logprobs", True)),
        *((IMAGES, "n", 0), (IMAGES, "n", 17), (IMAGES, "response_format", "url")),
        *((IMAGES, "size", "5x4"), (IMAGES, "top_p", 0), (IMAGES, "top_k", -1)),
        *((IMAGES, "seed", 2**63 - 1), (IMAGES, "guidance", float("inf")), (IMAGES, "prompt", " ")),
        *((IMAGES, "prompt", None), (IMAGES, "stream", True), (IMAGES, "prompt", "\ud800")),
    ],
)
def test_values_that_make_no_sense(path, field, value):
    body = {"messages": [user("what?")]} if path == CHAT else {"prompt": "a corgi"}
    assert run(post(scripted(), path, body)).status == 200
    told = run(post(scripted(), path, body | {field: value}))
    assert (told.status, told.json["error"]["param"]) == (400, field)


def test_values_that_ask_for_nothing_else():
    body = {"messages": [user("what?")], "n": 1, "top_p": 1.0, "stop": None, "tools": []}
    body |= {"stream": None, "seed": None, "response_format": {"type": "text"}, "user": "me"}
    told = run(post(scripted(), CHAT, body))
    assert ChatCompletion.model_validate(told.json).choices[0].finish_reason == "stop"
    body = {"prompt": "a", "n": None, "size": "auto", "background": "auto", "quality": "high"}
    assert run(post(scripted(), IMAGES, body)).status == 200


def test_what_ends_an_answer_is_no_part_of_its_pieces():
    """The scripted engine says a space after every word."""
    body = {"messages": [user("two  words")], "stream": True}
    *events, done = run(post(scripted(), CHAT, body)).events
    assert done == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert [delta.get("content") for delta in deltas] == ["", "two", " words", None]


def test_without_a_seed_every_picture_is_another():
    told = [run(post(scripted(), IMAGES, {"prompt": "a"})).json for _ in range(2)]
    assert len({drawn["data"][0]["seed"] for drawn in told}) == 2


def test_routes_that_are_none():
    for method, path, status in [
        *(("GET", "/", 404), ("GET", "/docs", 404), ("GET", CHAT, 405), ("PUT", "/health", 405)),
        *(("GET", CHAT + "/", 404), ("DELETE", "/v1/models/scripted", 405)),
        *(("GET", "/v1/models/other", 404), ("GET", "/v1/models/scripted\n", 404)),
    ]:
        told = run(call(scripted(), method, path, LOCAL))
        assert (told.status, set(told.json)) == (status, {"error"})


# Connections


@pytest.fixture
def engine_that_waits():
    return Scripted()


@pytest.fixture
def served(engine_that_waits, monkeypatch):
    """A real server around the scripted engine: its address, and what ends it."""
    monkeypatch.setattr("janus_cli.server.events", engine_that_waits.run)
    door = Door.at("127.0.0.1:0")
    with contextlib.ExitStack() as stack:
        stack.enter_context(door.serving(engine_that_waits))
        yield door.listener.getsockname(), stack.close


def wait_there(address, engine):
    """A connection on which a request is under way."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    body = json.dumps({"messages": [user("wait here")], "stream": True})
    connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
    assert engine.begun.acquire(timeout=PATIENCE)
    return connection


def test_who_asks_nothing_is_not_waited_for(served, engine_that_waits, monkeypatch):
    monkeypatch.setattr("janus_cli.http.protocol.PATIENCE", 0.05)
    address, _ = served
    waiting = wait_there(address, engine_that_waits)
    for data in (b"", b"GET /health HTTP/1.1\r\nHost: loc", b"GET /health HTTP/1.1\r\n" * 2):
        with socket.create_connection(address, timeout=PATIENCE) as connection:
            connection.sendall(data)
            assert connection.recv(1) == b""
    engine_that_waits.sessions[0].cancel()
    assert waiting.getresponse().read().endswith(b"data: [DONE]\n\n")


def test_a_connection_that_is_cut_frees_its_place(served, engine_that_waits):
    address, _ = served
    wait_there(address, engine_that_waits).close()
    assert engine_that_waits.sessions[0].cancelled.wait(PATIENCE)


def test_what_is_under_way_at_the_end_is_broken_off(served, engine_that_waits):
    address, end = served
    response = wait_there(address, engine_that_waits).getresponse()
    end()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    assert engine_that_waits.sessions[0].cancelled.is_set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
