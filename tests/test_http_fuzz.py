"""Whatever is sent over HTTP, the answer is JSON, and nothing is ever the server's fault."""

import asyncio
import base64
import copy
import io
import json
import logging
import socket
import urllib.request

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openai.types import ImagesResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from PIL import Image

from janus_cli.http.guard import Limits
from janus_cli.http.server import Door

from .scripted_service import AS_JSON, Scripted, call, scripted

CHAT, IMAGES = "/v1/chat/completions", "/v1/images/generations"
KEY = "key"
PATIENCE = 60
REFUSED = {400, 401, 403, 404, 405, 413, 415}

fuzz = settings(
    max_examples=600,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def tiny_picture(kind):
    stream = io.BytesIO()
    Image.new("RGB", (2, 3), "red").save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


# Bodies that are right

GOOD_URLS = [f"data:image/{kind};base64,{tiny_picture(kind)}" for kind in ("png", "gif", "jpeg")]
TEXT = {"type": "text", "text": "what?"}
BAD_URLS = ["http://a/b.png", "file:///etc/passwd", "data:image/png;base64,AAAA", "-", "image 1"]
words = st.text(min_size=1, max_size=20).filter(str.strip).filter(lambda text: text[:4] != "fail")
plain = words.map(lambda text: "x" + text.encode("utf-8", "replace").decode())
text_part = st.fixed_dictionaries({"type": st.just("text"), "text": plain})
url = st.fixed_dictionaries({"url": st.sampled_from(GOOD_URLS)}, optional={"detail": plain})
image_part = st.fixed_dictionaries({"type": st.just("image_url"), "image_url": url})
texts = plain | st.lists(text_part, min_size=1, max_size=3)
parts = st.tuples(text_part, st.lists(text_part | image_part, max_size=3)).map(
    lambda both: [both[0], *both[1]]
)


def message(roles, content):
    return st.fixed_dictionaries(
        {"role": st.sampled_from(roles), "content": content}, optional={"name": plain}
    )


user = message(["user"], plain | parts)
conversations = st.tuples(
    st.lists(message(["system", "developer"], texts), max_size=2),
    st.lists(st.tuples(user, message(["assistant"], texts)).map(list), max_size=2),
    user,
).map(lambda three: [*three[0], *(m for turn in three[1] for m in turn), three[2]])


def maybe(strategy):
    return st.none() | strategy


seeds = st.integers(0, 2**62)
positive = st.integers(1, 2**70)
number = st.floats(0, 1e9) | st.integers(0, 10)
chats = st.fixed_dictionaries(
    {"messages": conversations},
    optional={
        "model": st.sampled_from(["janus", "scripted"]),
        "stream": maybe(st.booleans()),
        "stream_options": maybe(st.fixed_dictionaries({"include_usage": st.booleans()})),
        "max_tokens": maybe(positive),
        "max_completion_tokens": maybe(positive),
        "temperature": maybe(number),
        "seed": maybe(seeds),
        "n": st.sampled_from([None, 1]),
        "user": plain,
    },
)
drawings = st.fixed_dictionaries(
    {"prompt": plain},
    optional={
        "model": st.sampled_from(["janus", "scripted"]),
        "n": maybe(st.integers(1, 16)),
        "seed": maybe(seeds),
        "size": st.sampled_from([None, "auto", "4x4"]),
        "response_format": st.sampled_from([None, "b64_json"]),
        "guidance": maybe(number),
        "temperature": maybe(number),
        "top_k": maybe(st.integers(0, 2**70)),
        "top_p": maybe(st.floats(0, 1, exclude_min=True)),
        "negative": maybe(plain),
    },
)


# Bodies that are not

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -1, 10**400, 1e308, 5e-324, "user", "text", "", " ", "\ud800", "\0"])
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from([*GOOD_URLS, *BAD_URLS]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """The paths to everything in a body."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@st.composite
def spoilt(draw, bodies):
    """A body of which one part or two are something else, or missing."""
    body = copy.deepcopy(draw(bodies))
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(list(places(body))[1:] or [("extra",)]))
        part = body
        for key in way:
            part = part[key]
        if draw(st.booleans()) or last == "extra":
            part[last] = draw(anything)
        else:
            del part[last]
    return body


@st.composite
def doubtful_pictures(draw):
    """A conversation about something that may be no picture."""
    kind, data = draw(st.sampled_from(GOOD_URLS)).split(",")
    content = bytearray(base64.b64decode(data))
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    content = bytes(content[: draw(st.integers(0, 2 * len(content)))])
    good = f"{kind},{base64.b64encode(content).decode()}"
    urls = st.just(good) | st.sampled_from([*BAD_URLS, good[:-1], f"{kind},{data}"]) | st.text()
    pictures = [{"type": "image_url", "image_url": {"url": draw(urls)}} for _ in range(2)]
    return {"messages": [{"role": "user", "content": [TEXT, *pictures]}]}


def with_fields(bodies, name):
    """Bodies with all fields of the interface's own description, whatever they hold."""
    schemas = asyncio.run(call(APP, "GET", "/openapi.json")).json["components"]["schemas"]
    names = schemas[name]["properties"]
    optional = st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything))
    return st.tuples(bodies, optional).map(lambda both: both[0] | both[1])


APP = scripted()
LOCKED = scripted(key=KEY, limits=Limits(body=200))


def sent(app, *args, **options):
    """The response, which has to be a sound one."""
    told = asyncio.run(asyncio.wait_for(call(app, *args, **options), PATIENCE))
    if told.status != 200:
        assert told.status in REFUSED, told
        error = told.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] and error["type"] == "invalid_request_error"
    return told


def posted(path, body):
    return sent(APP, "POST", path, AS_JSON, [json.dumps(body).encode()])


@settings(fuzz, max_examples=200)
@given(chats)
def test_every_sound_conversation_is_answered(body):
    told = posted(CHAT, body)
    assert told.status == 200
    if not body.get("stream"):
        choice = ChatCompletion.model_validate(told.json).choices[0]
        assert choice.message.content.startswith("x")
        return
    *events, done = told.events
    assert done == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(event) for event in events]
    assert sum(bool(chunk.choices and chunk.choices[0].finish_reason) for chunk in chunks) == 1
    assert chunks[1].choices[0].delta.content.startswith("x")


@settings(fuzz, max_examples=200)
@given(drawings)
def test_every_sound_prompt_is_drawn(body):
    told = posted(IMAGES, body)
    assert told.status == 200
    pictures = ImagesResponse.model_validate(told.json | {"size": None}).data
    assert len(pictures) == (body.get("n") or 1)
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture.b64_json))) as image:
            assert image.size == (4, 4)


@fuzz
@given(spoilt(chats) | doubtful_pictures() | with_fields(chats, "ChatRequest") | anything)
def test_other_conversations_are_refused_or_answered(body):
    posted(CHAT, body)


@fuzz
@given(spoilt(drawings) | with_fields(drawings, "ImageRequest") | anything)
def test_other_prompts_are_refused_or_drawn(body):
    posted(IMAGES, body)


texts_of_headers = st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"))
names = st.sampled_from(
    ["host", "content-type", "content-length", "authorization", "origin", "accept"]
)
values = st.sampled_from(
    ["localhost", "[", "::1", "application/json", "application/json;charset=x", "Bearer key", "-1"]
)
headers = st.lists(
    st.tuples(names, values | texts_of_headers).map(
        lambda h: (h[0].encode(), h[1].encode("latin-1"))
    ),
    max_size=5,
)
methods = st.sampled_from(["GET", "POST", "POST", "POST", "PUT", "HEAD", "OPTIONS", "X"])
paths = st.sampled_from([CHAT, IMAGES, "/v1/models", "/health", "/openapi.json"]) | st.text().map(
    lambda text: "/v1/models/" + text.encode("utf-8", "replace").decode()
)
chunks = st.lists(st.binary(max_size=99) | st.sampled_from([b"{", b'{"prompt":"a"}']), max_size=5)


@fuzz
@given(st.sampled_from([APP, LOCKED]), methods, paths, headers, st.integers(0, 3), chunks)
@example(APP, "POST", CHAT, [], True, [b"[" * 100_000])
@example(APP, "POST", CHAT, [], True, [b'{"messages":' * 100_000])
@example(APP, "POST", IMAGES, [], True, [b'{"prompt":"a","seed":' + b"1" * 10_000 + b"}"])
@example(APP, "POST", IMAGES, [], True, [b'{"prompt":"\xff"}'])
@example(APP, "POST", IMAGES, [], True, ['{"prompt":"a"}'.encode("utf-16")])
def test_no_request_is_too_odd(app, method, path, headers, local, chunks):
    more = [*AS_JSON, (b"authorization", b"Bearer " + KEY.encode())] if local else []
    sent(app, method, path, [*headers, *more], chunks)


# Bytes on a connection


@pytest.fixture(scope="module")
def address():
    """A real server around the scripted engine."""
    engine, door = Scripted(), Door.at("127.0.0.1:0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("janus_cli.server.events", engine.run)
        with door.serving(engine):
            yield door.listener.getsockname()


@st.composite
def half_right(draw):
    """A request, cut and spoilt."""
    body = draw(st.binary(max_size=50) | st.just(b'{"prompt": "a corgi"}'))
    head = draw(
        st.sampled_from([f"POST {IMAGES} HTTP/1.1", "GET /health HTTP/1.0", "GET * HTTP/9.9"])
    )
    lines = draw(
        st.lists(
            st.sampled_from(
                [
                    *("Host: localhost", "Content-Type: application/json", "Connection: Upgrade"),
                    *("Upgrade: websocket", "Upgrade: h2c", "Expect: 100-continue", "Host: a\0b"),
                    *(f"Content-Length: {len(body)}", "Content-Length: 9", "Content-Length: -1"),
                    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip", ": a", "a" * 20_000),
                ]
            ),
            max_size=6,
        )
    )
    data = "\r\n".join([head, *lines, "", ""]).encode() + body
    where = draw(st.integers(0, len(data)))
    return draw(
        st.sampled_from([data, data * 2, data[:where], data[:where] + b"\0" + data[where:]])
    )


@settings(fuzz, max_examples=150)
@given(st.binary(max_size=200) | half_right())
def test_a_server_survives_any_bytes(address, caplog, data):
    caplog.set_level(logging.ERROR)
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(2**16):
                answer += received
        except OSError:  # it may have had enough
            pass
    assert answer == b"" or answer.split()[1] in {b"100", b"200", b"400", b"403", b"404", b"415"}
    with urllib.request.urlopen("http://{}:{}/health".format(*address), timeout=PATIENCE) as told:
        assert json.load(told) == {"status": "ok"}
    assert not caplog.records
