"""The client against servers that mean it harm: one clear exception in time, and nothing left behind.

Each server listens on a real socket. It misbehaves in one of three moments: from the first request on, or only when
a tool is called, by a modern client or by a legacy one that has a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest

from mcp_min import Client, ConnectionClosed, RpcError, http_transport, spec
from mcp_min.http_client import HttpClient, Timeouts

MODERN, LEGACY = spec.MODERN[0], spec.LEGACY[0]
BRIEF = 0.1  # seconds, the timeout of a client whose server says nothing
LONG = 30.0  # the timeout of one whose server says something wrong: that must end the call, and no clock
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
MAX_FLOOD = 2**28  # bytes, after which this end gives up


def sized(body: Any, status: int = 200, kind: str = "application/json", extra: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
    return head.encode() + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(message: Any, id: str = "") -> bytes:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return chunk((f"id: {id}\n".encode() if id else b"") + b"data: %b\n\n" % data)


def answer(id: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "3"}], **more}}


def error(id: Any, code: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}}


NOTE = {"jsonrpc": "2.0", "method": "notifications/x", "params": {}}

# --- what a server can do ------------------------------------------------------------------------


class Deed(NamedTuple):
    """What is sent for a request, made from its id, and what follows: the end, silence, or more of the same."""

    data: Callable[[Any], bytes]
    said: str  # in the exception
    then: bytes | None = b""  # b"" is the end, None is silence
    error: type[Exception] = ConnectionClosed


def says(data: bytes, said: str, then: bytes | None = b"", error: type[Exception] = ConnectionClosed) -> Deed:
    return Deed(lambda id: data, said, then, error)


def answers(body: Callable[[Any], Any], said: str) -> Deed:
    return Deed(lambda id: sized(body(id)), said, None, RpcError)


def streams(body: Callable[[Any], bytes], said: str) -> Deed:
    return Deed(lambda id: CHUNKED + body(id) + b"0\r\n\r\n", said, None)


CLOSED = "the connection was closed"
ENDED = "the stream ended before the answer"
DEEDS = {
    "nothing but a hang-up": says(b"", CLOSED),
    # heads
    "silence": says(b"", "no answer", None, TimeoutError),
    "garbage": says(b"\x16\x03\x01 garbage\r\n\r\n", "is not HTTP", None),
    "a greeting": says(b"220 smtp.example ESMTP\r\n", "is not HTTP", None),
    "garbage that begins well": says(b"HTTP/1.1 twohundred\r\n\r\n", "malformed head", None),
    "a status out of range": says(b"HTTP/1.1 999 No\r\n\r\n", "malformed head", None),
    "a header without a colon": says(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "malformed head", None),
    "a folded header": says(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "malformed head", None),
    "a head that stops": says(b"HTTP/1.1 200 OK\r\nContent-", "no answer", None, TimeoutError),
    "a head without end": says(b"HTTP/1.1 200 OK\r\nX: ", "no end within", b"a" * 1000),
    "headers without end": says(b"HTTP/1.1 200 OK\r\n", "no end within", b"X: a\r\n" * 100),
    "interim answers without end": says(b"", "interim answers", b"HTTP/1.1 100 Continue\r\n\r\n"),
    # bodies
    "silence after the head": says(SIZED + b"10\r\n\r\n", "no answer", None, TimeoutError),
    "silence in the body": says(SIZED + b'10\r\n\r\n{"', "no answer", None, TimeoutError),
    "silence after the head of a stream": says(CHUNKED, "no answer", None, TimeoutError),
    "a length too long": Deed(lambda id: SIZED + b"9999\r\n\r\n" + json.dumps(answer(id)).encode(), "before its end"),
    "a length too short": Deed(
        lambda id: SIZED + b"20\r\n\r\n" + json.dumps(answer(id)).encode(), "not JSON", None, RpcError
    ),
    "a length that is none": says(SIZED + b"-1\r\n\r\n{}", "is no number", None),
    "two lengths": says(SIZED + b"2\r\nContent-Length: 3\r\n\r\n{}", "is no number", None),
    "a huge length": says(SIZED + b"999999999999999\r\n\r\n{}", "option max_body", None),
    "a length beside chunks": says(
        SIZED + b"2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding", None
    ),
    "chunks that are none": says(CHUNKED + b"zz\r\n", "is no chunk size", None),
    "a chunk that is longer than it says": says(CHUNKED + b"2\r\ndata: \r\n", "does not end where", None),
    "a huge chunk": says(
        sized(b"", extra="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"")
        + b"fffffffffffff\r\n{",
        "option max_body",
        None,
    ),
    "a body without end": says(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", "option max_body", b"[" * 2**16
    ),
    "an unknown coding": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding", None),
    "gzip unasked": Deed(
        lambda id: sized(zlib.compress(json.dumps(answer(id)).encode(), wbits=31), extra="Content-Encoding: gzip\r\n"),
        "not JSON",
        None,
        RpcError,
    ),
    # redirects
    "a redirect to another origin": says(
        sized(b"", 307, extra="Location: http://127.0.0.1:1/\r\n"), "not redirected by 307 to http://127.0.0.1:1/", None
    ),
    "a redirect that changes the method": says(
        sized(b"", 302, extra="Location: /x\r\n"), "not redirected by 302", None
    ),
    "a redirect loop": says(sized(b"", 307, extra="Location: /mcp\r\n"), "more than 5 redirects", None),
    "a redirect to nowhere": says(sized(b"", 308, extra="Location: http://[\r\n"), "unusable address", None),
    # answers that are none
    "HTML": Deed(lambda id: sized(b"<html>", kind="text/html"), "answered with text/html", None, RpcError),
    "no content type": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "no content type", None, RpcError),
    "an empty 202": says(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", "no content type", None, RpcError),
    "nothing, as JSON": answers(lambda id: b"", "not JSON"),
    "no JSON": answers(lambda id: b'{"jsonrpc"', "not JSON"),
    "no UTF-8": answers(lambda id: b'"\xff"', "not JSON"),
    "nesting without end": answers(lambda id: b"[" * 100_000, "nested too deeply"),
    "a number": answers(lambda id: 5, "is a JSON object"),
    "a batch": answers(lambda id: [answer(id)], "is a JSON object"),
    "no JSON-RPC": answers(lambda id: {"id": id, "result": {}}, '"jsonrpc" must be'),
    "a result that is no object": answers(lambda id: answer(id) | {"result": 5}, '"result" must be an object'),
    "an error that is none": answers(lambda id: {"jsonrpc": "2.0", "id": id, "error": "no"}, '"error" one with'),
    "result and error": answers(lambda id: answer(id) | error(id, 1), 'has either "method"'),
    "an answer for an id never asked": answers(lambda id: answer(999), "answered another request"),
    "the id as a string": answers(lambda id: answer(str(id)), "answered another request"),
    "the id as a float": answers(lambda id: answer(float(id)), '"id" must be a string or an integer'),
    "no id": answers(lambda id: {"jsonrpc": "2.0", "result": {}}, '"id" must be a string or an integer'),
    "a request instead": answers(lambda id: {**NOTE, "id": id}, "answered another request"),
    "a notification instead": answers(lambda id: NOTE, "answered another request"),
    # events
    "an empty stream": streams(lambda id: b"", ENDED),
    "a stream of other things": streams(lambda id: event(NOTE) + event(answer(999)) + event(answer(str(id))), ENDED),
    "an event that is no JSON": streams(lambda id: event(b"{"), ENDED),
    "an event that is no JSON-RPC": streams(lambda id: event({"id": id, "result": {}}), ENDED),
    "an event with a batch": streams(lambda id: event([answer(id)]), ENDED),
    "an event of a wrong form": streams(lambda id: event(answer(id) | {"result": []}), ENDED),
    "an event cut short": streams(lambda id: chunk(b"data: " + json.dumps(answer(id)).encode() + b"\n"), ENDED),
    "an id that cannot be a header": streams(lambda id: event(NOTE, "\x1b"), ENDED),
    "a stream that breaks": Deed(lambda id: CHUNKED + event(NOTE), ENDED),
    "an event without end": says(STREAM + b"\r\ndata: ", ENDED, b"a" * 2**16),
    "lines without end": says(STREAM + b"\r\n", ENDED, b"data: " + b"a" * 2**16 + b"\n"),
    "events without end": says(CHUNKED, "no answer", event(NOTE) * 50, TimeoutError),
    "comments without end": says(CHUNKED, "no answer", chunk(b":\n\n") * 50, TimeoutError),
    "events that are no messages, without end": says(CHUNKED, "no answer", event(b"{"), TimeoutError),
    # statuses
    **{
        f"status {status}": says(sized(b"no", status, "text/plain"), rf"\({status}\)", None, RpcError)
        for status in (400, 401, 403, 405, 406, 413, 429, 500, 502, 503)
    },
    # To a client with a session, this is its end, and not an error of the request.
    "status 404": says(sized(b"no", 404, "text/plain"), r"\(404\)", None, Exception),
    "an error of another request": answers(lambda id: error(999, -32000), "answered another request"),
}


Hostile = Callable[[dict[str, Any]], bool]


class Moment(NamedTuple):
    version: str | None
    hostile: Hostile


def _calls(message: dict[str, Any]) -> bool:
    return message.get("method") == "tools/call"


MOMENTS = {
    "from the first": Moment(None, lambda message: True),
    "in a modern call": Moment(MODERN, _calls),
    "in a legacy call": Moment(LEGACY, _calls),
}

# --- the server and its client -------------------------------------------------------------------


class Server:
    """Behaves until a request is `hostile`; then does the deed."""

    def __init__(self, deed: Deed, hostile: Hostile, behave: Callable[[str, dict[str, Any]], bytes]) -> None:
        self.deed, self.hostile, self.behave = deed, hostile, behave
        self.requests: list[tuple[str, dict[str, Any]]] = []  # verb, message
        self.tasks: set[asyncio.Task[Any]] = set()
        self.url = ""

    def methods(self) -> list[str]:
        return [message.get("method", "") for verb, message in self.requests if verb == "POST"]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(ConnectionError, EOFError):
            while True:
                verb, message = await self.take(reader)
                if not self.hostile(message):
                    writer.write(self.behave(verb, message))
                    continue
                writer.write(self.deed.data(message.get("id")))
                if self.deed.then == b"":
                    writer.write_eof()
                    await reader.read()  # until the client has closed its end too
                    break
                for _ in range(MAX_FLOOD // len(self.deed.then or b"-")) if self.deed.then else ():
                    writer.write(self.deed.then)
                    await writer.drain()
        writer.close()

    async def take(self, reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.requests.append((head.partition(b" ")[0].decode(), json.loads(body) if body else {}))
        return self.requests[-1]


def behave(verb: str, message: dict[str, Any]) -> bytes:
    if verb == "GET":
        return sized(b"", 405)
    if "id" not in message:
        return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    if message["method"] == "initialize":
        found = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
        return sized(answer(message["id"]) | {"result": found}, extra="Mcp-Session-Id: s1\r\n")
    return sized(answer(message["id"], tools=[], resultType="complete"))


@contextlib.asynccontextmanager
async def serving(
    deed: Deed, hostile: Hostile, behaviour: Callable[[str, dict[str, Any]], bytes] = behave
) -> AsyncIterator[Server]:
    """Serve; at the end, each connection must have been closed by the client, and each of its tasks be gone."""
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    before = asyncio.all_tasks()
    server = Server(deed, hostile, behaviour)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
    try:
        async with asyncio.timeout(LONG / 2):  # half of what clients would wait
            yield server
            await asyncio.gather(*server.tasks)
        assert asyncio.all_tasks() == before
        gc.collect()
        assert not unheard
    finally:
        listening.close()
        for task in server.tasks:
            task.cancel()


@pytest.fixture(autouse=True)
def brief_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "GOODBYE", 0.01)
    monkeypatch.setattr(http_transport, "RETRY", 0.01)
    monkeypatch.setattr(http_transport, "MIN_RETRY", 0.001)


def client(server: Server, version: str | None, timeout: float = LONG, **options: Any) -> Client:
    http = HttpClient(timeouts=Timeouts(head=None, read=None), max_body=2**20)
    options = {"retries": 0, **options}
    return Client(server.url, protocol_version=version, timeout=timeout, http=http, **options)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", DEEDS)
async def test_one_clear_exception(name: str, moment: str) -> None:
    deed, (version, hostile) = DEEDS[name], MOMENTS[moment]
    async with serving(deed, hostile) as server:
        with pytest.raises((ConnectionClosed, RpcError, TimeoutError)) as caught:
            async with client(server, version, BRIEF if deed.error is TimeoutError else LONG) as it:
                await it.call_tool("add", {})
        assert isinstance(caught.value, deed.error)
        assert re.search(deed.said, str(caught.value))
        assert server.methods().count("tools/call") <= (6 if "loop" in name else 1)


# --- a hang-up at every byte ---------------------------------------------------------------------


def sized_json(id: Any) -> tuple[bytes, bytes]:
    return sized(answer(id)), b""


def chunked_json(id: Any) -> tuple[bytes, bytes]:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + chunk(json.dumps(answer(id)).encode()) + b"0\r\n\r\n", b""


def chunked_events(id: Any) -> tuple[bytes, bytes]:
    return CHUNKED + event(NOTE, "1") + event(answer(id), "2"), b"0\r\n\r\n"


def events_to_the_end(id: Any) -> tuple[bytes, bytes]:
    return STREAM + b"\r\n: hello\n\ndata: " + json.dumps(answer(id)).encode() + b"\n\n", b": bye\n\n"


@pytest.mark.parametrize("version", [MODERN, LEGACY])
@pytest.mark.parametrize("good", [sized_json, chunked_json, chunked_events, events_to_the_end])
async def test_a_hang_up_at_every_byte(good: Callable[[Any], tuple[bytes, bytes]], version: str) -> None:
    """Up to the last byte of the answer it is lost, and from then on it is there. One client makes all the calls."""
    enough: list[bool] = []  # of each answer; its place is the number of its bytes

    def cut(id: Any) -> bytes:
        needed, rest = good(id)
        enough.append(len(enough) >= len(needed))
        return (needed + rest)[: len(enough) - 1]

    async with serving(Deed(cut, ""), _calls) as server, client(server, version) as it:
        while len(enough) < len(b"".join(good(100))):
            said = None
            with contextlib.suppress(ConnectionClosed, RpcError):
                said = (await it.call_tool("add", {}))["content"][0]["text"]
            assert said == ("3" if enough[-1] else None)
        assert server.methods().count("tools/call") == len(enough)


# --- what is repeated, and how often -------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("name", ["nothing but a hang-up", "status 503", "status 429", "an empty stream"])
async def test_retries_are_bounded(name: str, retries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    lists = lambda message: message.get("method") == "tools/list"  # noqa: E731
    async with serving(DEEDS[name], lists) as server, client(server, MODERN, retries=retries) as it:
        with pytest.raises((ConnectionClosed, RpcError)):
            await it.list_tools()
        assert server.methods().count("tools/list") == 1 + retries


async def test_a_header_mismatch_is_looked_into_once() -> None:
    mismatch = answers(lambda id: error(id, spec.HEADER_MISMATCH), "")
    async with serving(mismatch, _calls) as server, client(server, MODERN, retries=3) as it:
        with pytest.raises(RpcError, match=str(spec.HEADER_MISMATCH)):
            await it.call_tool("add", {})
        assert server.methods() == ["tools/call", "tools/list", "tools/call"]


async def test_a_session_that_is_always_forgotten() -> None:
    forgotten = says(sized(b"", 404), "", None)
    async with serving(forgotten, _calls) as server, client(server, LEGACY, retries=1) as it:
        with pytest.raises(ConnectionClosed, match="ended the session"):
            await it.call_tool("add", {})
        assert server.methods().count("initialize") == server.methods().count("tools/call") == 2


# --- HTTP+SSE ------------------------------------------------------------------------------------

ENDPOINT = STREAM + b"\r\nevent: endpoint\ndata: "


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (ENDPOINT + b"http://evil.example/post\n\n", "evil.example/post is of another origin"),
        (ENDPOINT + b"//127.0.0.1:1/post\n\n", "is of another origin"),
        (ENDPOINT + b"file:///etc/passwd\n\n", "is no URL"),
        (ENDPOINT + b"/post", "closed its event stream"),
        (STREAM + b"\r\n: hello\n\n", "closed its event stream"),
        (CHUNKED + b"zz\r\n", "is no chunk size"),
        (b"HTTP/1.1 ", CLOSED),
        (b"garbage", "is not HTTP"),
    ],
)
async def test_an_older_server(stream: bytes, said: str) -> None:
    """It takes no POST, and its event stream is what the table says."""
    no_post = lambda verb, message: sized(b"", 405)  # noqa: E731
    async with serving(says(stream, said), lambda message: not message, no_post) as server:
        with pytest.raises(ConnectionClosed, match=said):
            async with client(server, None):
                pass


@pytest.mark.parametrize("name", ["silence", "nothing but a hang-up", "garbage", "a redirect to another origin"])
async def test_a_notification_that_is_not_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "ACCEPTED", BRIEF)
    initialized = lambda message: message.get("method") == "notifications/initialized"  # noqa: E731
    async with serving(DEEDS[name], initialized) as server:
        with pytest.raises(ConnectionClosed):
            async with client(server, LEGACY):
                pass
