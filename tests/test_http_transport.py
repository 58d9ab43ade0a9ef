"""The client's HTTP transports against servers that answer as the test says, byte for byte, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import pytest

from mcp_min import Client, ConnectionClosed, RpcError, http_transport, spec
from mcp_min.http_client import HttpClient, Timeouts
from mcp_min.http_transport import HttpTransport, Refused, SseTransport

META = {"_meta": {spec.PROTOCOL_VERSION: "2026-07-28"}}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
NO_STREAM = b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"


SILENCE = b""
Respond = Callable[["Request", "Site"], "bytes | None"]


class Request(NamedTuple):
    verb: str
    path: str
    headers: dict[str, str]
    message: Any


class Site:
    """Answers each request with what `respond(request, site)` returns.

    That is bytes, after which the next request may come; or None, and it hangs up. After silence, and after a
    stream without its end, it waits for the client to hang up.
    """

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.connections = 0
        self.lost = asyncio.Event()  # a client has hung up
        self.changed = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.streams: list[asyncio.StreamWriter] = []  # that have no end yet
        self.url = ""

    def asked(self, wanted: str) -> list[Request]:
        return [request for request in self.requests if wanted in (request.verb, name(request))]

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for requests; answers to them may still be on their way."""
        async with asyncio.timeout(5):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            while (answer := self.respond(await self.take(reader), self)) is not None:
                writer.write(answer)
                await writer.drain()
                if answer == SILENCE or (answer.startswith(HEAD) and not answer.endswith(END)):
                    self.streams.append(writer)
                    self.changed.set()
                    await self.hung_up(reader)
        except (ConnectionError, EOFError):
            pass
        finally:
            writer.close()

    async def hung_up(self, reader: asyncio.StreamReader) -> None:
        try:
            await reader.read()
        finally:
            self.lost.set()

    async def take(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        verb, path, _ = head.split(" ", 2)
        headers = {key.lower(): value for key, value in re.findall(r"\n([^\r\n:]+): ?([^\r\n]*)", head)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(verb, path, headers, json.loads(body) if body else None))
        self.changed.set()
        return self.requests[-1]


def name(request: Request) -> str:
    return request.message.get("method", "") if isinstance(request.message, dict) else ""


async def becomes(holds: Callable[[], object]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def site(respond: Respond) -> AsyncIterator[Site]:
    here = Site(respond)
    listening = await asyncio.start_server(here.connected, "127.0.0.1", 0)
    here.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
    try:
        async with asyncio.timeout(5):
            yield here
            await asyncio.gather(*here.tasks)  # clients leave no connection open
    finally:
        listening.close()
        for task in here.tasks:
            task.cancel()


def request(id: Any, method: str = "tools/call", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": META | params}


def note(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def result(id: Any, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": members}


def problem(code: int, text: str = "no", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": text}, **more}


def reply(message: Any, status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    return head.encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(message: Any, id: str = "", retry: str = "") -> bytes:
    text = message if isinstance(message, str) else json.dumps(message)
    fields = [f"id: {id}"] * bool(id) + [f"retry: {retry}"] * bool(retry) + [f"data: {text}"]
    return chunk(("\n".join(fields) + "\n\n").encode())


INITIALIZED = {"protocolVersion": "2025-11-25", "capabilities": {}}


def legacy(respond: Respond) -> Respond:
    """A server with a session, which asks `respond` about all but the beginning and the end."""

    def answer(asked: Request, here: Site) -> bytes | None:
        if name(asked) == "initialize":
            return reply(result(asked.message["id"], **INITIALIZED), MCP_Session_Id="s1")
        if name(asked).startswith("notifications/"):
            return ACCEPTED
        if asked.verb == "DELETE":
            return reply(b"", 204)
        return respond(asked, here)

    return answer


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """No pause takes any time; the pauses are what the fixture is."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(http_transport, "sleep", pause)
    return pauses


@contextlib.asynccontextmanager
async def opened(respond: Any, **options: Any) -> AsyncIterator[tuple[Site, HttpTransport, AsyncIterator[Any]]]:
    async with site(respond) as here:
        transport = HttpTransport(here.url, **options)
        try:
            yield here, transport, transport.read()
        finally:
            await transport.close()


async def begin(transport: HttpTransport, messages: AsyncIterator[Any]) -> None:
    await transport.write(request(0, "initialize"))
    await anext(messages)
    await transport.write(note("notifications/initialized"))


# --- requests and their answers ------------------------------------------------------------------


async def test_a_modern_request() -> None:
    async with opened(lambda asked, _: reply(result(1, a=1)), headers={"X-Key": "k", "Accept": "x/y"}) as (
        here,
        it,
        got,
    ):
        await it.write(request(1, name="add"))
        assert await anext(got) == result(1, a=1)
    headers = here.requests[0].headers
    assert headers.pop("content-length") == str(len(json.dumps(request(1, name="add"), separators=(",", ":"))) + 1)
    assert headers == {
        "host": here.url[7:-4],
        "accept-encoding": "identity",
        "accept": "x/y",  # what is given counts, and is sent once
        "content-type": "application/json",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "add",
        "x-key": "k",
    }


async def test_arguments_that_are_headers_too(caplog: pytest.LogCaptureFixture) -> None:
    def schema(header: str) -> dict[str, Any]:
        return {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": header}}}

    good = {"name": "sql", "inputSchema": schema("Region")}
    bad = [{"name": "bad", "inputSchema": schema("a b")}, {}, 5, {"name": []}]

    def respond(asked: Request, here: Site) -> bytes:
        listing = HEAD + event(result(1, tools=[good, *bad])) + END
        return listing if name(asked) == "tools/list" else reply(result(asked.message["id"], tools=bad))

    async with opened(respond) as (here, it, got):
        await it.write(request(1, "tools/list"))
        assert await anext(got) == result(1, tools=[good])  # the others do not spoil it
        await it.write(request(2, name="sql", arguments={"r": "é"}))
        await it.write(request(3, "prompts/get", name="sql", arguments={"r": "é"}))
        assert [await anext(got), await anext(got)] == [result(2, tools=bad), result(3, tools=bad)]
    assert [asked.headers.get("mcp-param-region") for asked in here.requests] == [None, "=?base64?w6k=?=", None]
    assert "'a b' is no HTTP header name" in caplog.text


@pytest.mark.parametrize("members", [{}, {"tools": 5}])
async def test_a_list_that_is_none_is_the_clients_affair(members: dict[str, Any]) -> None:
    async with opened(lambda asked, _: reply(result(1, **members))) as (_, it, got):
        await it.write(request(1, "tools/list"))
        assert await anext(got) == result(1, **members)


async def test_a_mismatch_of_headers_teaches_them() -> None:
    schema = {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}

    def respond(asked: Request, here: Site) -> bytes:
        id = asked.message["id"]
        if name(asked) == "tools/list":
            return reply(result(id, tools=[{"name": "sql", "inputSchema": schema}]))
        told = asked.headers.get("mcp-param-region")
        return reply(result(id, content=[told])) if told else reply(problem(-32020, id=id), 400)

    async with site(respond) as here, Client(here.url, protocol_version="2026-07-28") as client:
        assert (await client.call_tool("sql", {"r": "eu"}))["content"] == ["eu"]
    assert [name(asked) for asked in here.requests] == ["tools/call", "tools/list", "tools/call"]


async def test_an_answer_in_events_and_the_connection_is_used_again() -> None:
    messages = [note("notifications/progress", progress=1), result(1)]

    stream = HEAD + b"".join(map(event, messages)) + END
    async with opened(lambda asked, _: stream) as (here, it, got):
        for _ in range(3):
            await it.write(request(1))
            assert [await anext(got), await anext(got)] == messages
            while it._tasks:  # which read the end of the stream
                await asyncio.wait(it._tasks)
    assert here.connections == 1


async def test_what_comes_with_the_answer_and_after_it_is_left() -> None:
    both = chunk(f"data: {json.dumps(result(1))}\n\ndata: {json.dumps(note('late'))}\n\n".encode())
    async with opened(lambda asked, _: HEAD + both) as (_, it, got):
        await it.write(request(1))
        await it.close()
        assert not it._tasks
        assert [message async for message in got] == [result(1)]


async def test_a_stream_that_goes_on_after_its_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "GOODBYE", 0.01)
    async with opened(lambda asked, here: HEAD + event(result(1))) as (here, it, got):
        await it.write(request(1))
        assert await anext(got) == result(1)
        await asyncio.wait_for(here.lost.wait(), 5)


@pytest.mark.parametrize("kind", ["def", "async def", "mapping"])
async def test_who_is_refused_is_asked_again_who_they_are(kind: str) -> None:
    tokens = iter(["old", "new"])

    async def asynchronous() -> dict[str, str]:
        return {"Authorization": next(tokens)}

    headers = {
        "def": lambda: {"Authorization": next(tokens)},
        "async def": asynchronous,
        "mapping": {"Authorization": "old"},
    }

    def respond(asked: Request, here: Site) -> bytes:
        good = asked.headers["authorization"] == "new"
        return reply(result(1)) if good else reply(problem(-32600, "who?"), 401)

    async with opened(respond, headers=headers[kind]) as (here, it, got):
        if kind == "mapping":
            with pytest.raises(Refused, match=r"who\? \(401\)"):
                await it.write(request(1))
        else:
            await it.write(request(1))
            assert await anext(got) == result(1)
        assert len(here.requests) == (1 if kind == "mapping" else 2)
        assert here.connections == 1


async def test_what_a_headers_function_raises_is_the_askers() -> None:
    async with opened(lambda asked, _: reply(result(1)), headers=lambda: {}["token"]) as (_, it, _):
        with pytest.raises(KeyError):
            await it.write(request(1))


MINE, NONE, OTHER = {"id": 1}, {}, {"id": 2}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(problem(-32601, **MINE), 404), None),  # the peer's own word
        (reply(problem(-32603, **MINE), 500), None),
        (reply(problem(-32020, **NONE), 400), None),  # a modern error, of a request that was not read
        (reply(problem(-32600, **NONE)), None),
        (reply(problem(-32600, id=None)), None),
        (reply(problem(-32600, "go", **NONE), 400), r"go \(400\)"),
        (reply(problem(-32000, "go", id=None), 404), r"go \(404\)"),
        (reply(problem(-32000, "go", **OTHER), 400), r"HTTP 400 from .* \(400\): the server answered another request"),
        (reply(result(2)), r"\(200\): the server answered another request"),
        (reply(result("1")), r"\(200\): the server answered another request"),
        (reply(request(1)), r"\(200\): the server answered another request"),
        (reply(b"{"), r"\(200\): the message is not JSON"),
        (reply([result(1)]), r"\(200\): a message is a JSON object"),
        (reply(result(1), kind="text/html"), r"\(200\): the server answered with text/html"),
        (reply(b"no", 500, "text/plain; charset=utf-8"), r"\(500\): the server answered with text/plain"),
        (ACCEPTED, r"\(202\): the server answered with no content type"),
        (reply(event(result(1)), 500, "text/event-stream"), r"\(500\): the server answered with text/event-stream"),
    ],
)
async def test_what_is_an_answer(answer: bytes, said: str | None) -> None:
    async with opened(lambda asked, _: answer) as (_, it, got):
        if said is None:
            await it.write(request(1))
            message = await anext(got)
            assert (message["id"], "error" in message) == (1, True)
        else:
            with pytest.raises(Refused, match=said) as caught:
                await it.write(request(1))
            assert caught.value.sent
            assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("status", "headers", "retry_after", "sent"),
    [
        (429, {}, 0, False),
        (429, {"Retry-After": "7"}, 7, False),
        (503, {}, 0, True),  # of a proxy, perhaps, that has passed the request on
        (503, {"Retry-After": "7"}, 7, False),
        (503, {"Retry-After": "Sat, 01 Jan 2028 00:00:00 GMT"}, 0, True),
        (503, {"Retry-After": "\xb2"}, 0, True),
        (503, {"Retry-After": "9" * 5000}, 0, True),
        (502, {}, 0, True),
        (504, {"Retry-After": "7"}, 7, True),
        (500, {"Retry-After": "7"}, None, True),
        (400, {}, None, True),
    ],
)
async def test_a_status_says_whether_to_come_again(
    status: int, headers: dict[str, str], retry_after: float | None, sent: bool
) -> None:
    async with opened(lambda asked, _: reply(b"", status, "text/plain", **headers)) as (_, it, _):
        with pytest.raises(Refused) as caught:
            await it.write(request(1))
    assert (caught.value.code, caught.value.retry_after, caught.value.sent) == (status, retry_after, sent)


async def test_nobody_there() -> None:
    async with site(lambda asked, _: None) as here:
        it = HttpTransport(here.url)
        with pytest.raises(ConnectionClosed, match="waiting for the answer: the connection was closed") as caught:
            await it.write(request(1))
        assert caught.value.sent
        await it.close()
    it = HttpTransport(here.url)
    with pytest.raises(ConnectionClosed, match="connecting") as caught:
        await it.write(request(1))
    assert not caught.value.sent
    await it.close()


async def test_a_phase_that_takes_too_long_is_a_lost_connection() -> None:
    http = HttpClient(timeouts=Timeouts(head=0.01))
    async with opened(lambda asked, here: SILENCE, http=http) as (_, it, _):
        with pytest.raises(ConnectionClosed, match=r"not done within 0\.01 s"):
            await it.write(request(1))


async def test_notifications(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([ACCEPTED, reply(b"{}", 200), HEAD + END, ACCEPTED, reply(b"not now", 500, "text/plain"), SILENCE])

    async with opened(lambda asked, _: next(answers)) as (here, it, _):
        for _ in range(3):
            await it.write(note("notifications/x"))
        await it.write(result("of the server's"))  # an answer, which is not answered either
        assert not caplog.records
        await it.write(note("notifications/x"))
        assert "did not take a message: HTTP 500 b'not now'" in caplog.text
        monkeypatch.setattr(http_transport, "ACCEPTED", 0.01)
        with pytest.raises(ConnectionClosed, match=r"not taken within 0\.01 s"):
            await it.write(note("notifications/x"))
    assert here.requests[0].headers["mcp-method"] == "notifications/x"


async def test_batches_and_what_is_not_json() -> None:
    async with opened(lambda asked, _: ACCEPTED) as (here, it, _):
        await it.write([note("a"), note("b")])
        with pytest.raises(ValueError, match="not JSON"):
            await it.write(note("a", x=float("nan")))
    assert [asked.message for asked in here.requests] == [[note("a"), note("b")]]


# --- cancelling and closing ----------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_cancelling_closes_the_response(era: str, streaming: bool) -> None:
    def respond(asked: Request, here: Site) -> bytes | None:
        if asked.verb == "GET":
            return NO_STREAM
        return HEAD + event(note("x")) if streaming else SILENCE

    async with opened(legacy(respond)) as (here, it, got):
        if era == "legacy":
            await begin(it, got)
        writing = asyncio.create_task(it.write(request(1)))
        await here.until(lambda: here.asked("tools/call"))
        if streaming:
            await anext(got)
        here.lost.clear()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await asyncio.wait_for(here.lost.wait(), 5)
        await it.write(note("notifications/cancelled", requestId=1))
        # In the modern era that was all; a legacy server wants to be told.
        assert len(here.asked("notifications/cancelled")) == (era == "legacy")


async def test_cancelling_while_nobody_reads() -> None:
    flood = b"".join(event(note("x")) for _ in range(http_transport.MAX_UNREAD + 1))
    async with opened(lambda asked, here: HEAD + flood) as (here, it, got):
        writing = asyncio.create_task(it.write(request(1)))
        await becomes(it._arrived.full)
        writing.cancel()
        await asyncio.wait([writing])
        await asyncio.wait_for(here.lost.wait(), 5)
        assert await anext(got) == note("x")


async def test_close_ends_what_is_being_written_and_read() -> None:
    async with opened(lambda asked, here: SILENCE) as (here, it, got):
        writing = [asyncio.create_task(it.write(request(id))) for id in range(3)]
        reading = asyncio.create_task(anext(got, None))
        await here.until(lambda: len(here.requests) == 3)
        await asyncio.gather(it.close(), it.close())
        for write in writing:
            with pytest.raises(ConnectionClosed, match="the transport was closed"):
                await write
        assert await reading is None
        with pytest.raises(ConnectionClosed, match="the transport is closed"):
            await it.write(request(9))


async def test_close_in_the_moment_that_a_write_expires() -> None:
    async with opened(lambda asked, here: SILENCE) as (here, it, _):
        writing = asyncio.create_task(it.write(note("x")))
        await here.until(lambda: len(here.requests) == 1)
        (scope,) = it._writing
        scope.reschedule(0)
        await becomes(scope.expired)
        await it.close()
        with pytest.raises(ConnectionClosed):
            await writing


async def test_close_though_nobody_reads() -> None:
    flood = b"".join(event(note("x")) for _ in range(http_transport.MAX_UNREAD + 1))
    async with opened(lambda asked, here: HEAD + flood) as (_, it, got):
        writing = asyncio.create_task(it.write(request(1)))
        await becomes(it._arrived.full)
        await it.close()
        with pytest.raises(ConnectionClosed):
            await writing
        assert len([message async for message in got]) < http_transport.MAX_UNREAD


async def test_nothing_is_started_in_the_moment_of_the_close() -> None:
    async with opened(lambda asked, here: NO_STREAM) as (here, it, _):
        it._closed = True
        it._start(it._stand())
        await asyncio.wait(it._tasks)
        assert not here.requests
        it._closed = False


# --- sessions ------------------------------------------------------------------------------------


async def test_a_session() -> None:
    odd = {"name": "odd", "inputSchema": {"x-mcp-header": ""}}  # which has a meaning in the modern era only

    def respond(asked: Request, here: Site) -> bytes | None:
        if asked.verb == "GET":
            return NO_STREAM
        return reply(result(asked.message["id"], tools=[odd]), Mcp_Session_Id="other")

    async with opened(legacy(respond)) as (here, it, got):
        await begin(it, got)
        await it.write(request(3, "tools/list"))
        assert await anext(got) == result(3, tools=[odd])
        await it.write(request(1))
        await it.write(request(2))
        await here.until(lambda: here.asked("GET"))
        await becomes(lambda: not it._tasks)  # no stream, as the server has said
        await it.close()  # and once more at the end of the block
    first, *rest = here.requests
    assert "mcp-session-id" not in first.headers
    assert {(asked.headers["mcp-session-id"], asked.headers["mcp-protocol-version"]) for asked in rest} == {
        ("s1", "2025-11-25")
    }
    assert [asked.verb for asked in rest if asked.verb == "DELETE"] == ["DELETE"]
    assert all("mcp-method" not in asked.headers for asked in rest)


@pytest.mark.parametrize("case", ["refused", "silent", "gone", "unknown"])
async def test_a_goodbye_that_goes_wrong(
    case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_transport, "GOODBYE", 0.01)
    caplog.set_level(logging.DEBUG, "mcp_min")
    known = True
    answers = {"refused": reply(b"", 405), "gone": None}

    def respond(asked: Request, here: Site) -> bytes | None:
        if asked.verb == "DELETE":
            return answers.get(case, SILENCE)
        return legacy(lambda asked, here: NO_STREAM)(asked, here)

    def headers() -> dict[str, str]:
        if not known:
            raise LookupError("no token")
        return {}

    async with opened(respond, headers=headers) as (_, it, got):
        await begin(it, got)
        known = case != "unknown"
        await it.close()
    assert ("the session was left to expire" in caplog.text) == (case != "refused")


async def test_many_hear_that_a_session_has_ended() -> None:
    async with opened(legacy(lambda asked, _: reply(b"", 404))) as (_, it, got):
        await begin(it, got)
        for id in range(http_transport.MAX_UNREAD + 9):  # with nobody who reads
            async with asyncio.timeout(5):
                with pytest.raises(http_transport.SessionEnded):
                    await it.write(request(id))


async def test_a_session_that_has_ended() -> None:
    def respond(asked: Request, here: Site) -> bytes | None:
        return NO_STREAM if asked.verb == "GET" else reply(problem(-32600, id=None), 404)

    async with opened(legacy(respond)) as (_, it, got):
        await begin(it, got)
        with pytest.raises(ConnectionClosed, match="the server has ended the session") as caught:
            await it.write(request(1))
        assert not caught.value.sent  # so that it is sent again, in another session
        with pytest.raises(ConnectionClosed, match="the server has ended the session"):
            await anext(got)


@pytest.mark.parametrize("unhappy", [problem(-32602, id=0), None])
async def test_without_initialize_there_is_no_session(unhappy: Any) -> None:
    def respond(asked: Request, here: Site) -> bytes | None:
        return reply(unhappy or result(asked.message["id"]), 404 if unhappy else 200, Mcp_Session_Id="s")

    async with opened(respond) as (here, it, got):
        await it.write(request(0, "initialize" if unhappy else "server/discover"))
        await anext(got)
        with contextlib.suppress(Refused):
            await it.write(request(1))
    assert not any("mcp-session-id" in asked.headers for asked in here.requests)
    assert not here.asked("DELETE")


# --- streams that end before their answer --------------------------------------------------------


def ending(*streams: bytes | None) -> Respond:
    """Each POST and GET for events gets the next stream; the standing one is refused."""
    left = list(streams)

    def respond(asked: Request, here: Site) -> bytes | None:
        if asked.verb == "GET" and "last-event-id" not in asked.headers:
            return NO_STREAM
        return left.pop(0) if left else NO_STREAM

    return legacy(respond)


PRIMED = HEAD + chunk(b"id: 7\nretry: 450\ndata:\n\n") + END


async def test_a_stream_is_taken_up_where_it_ended(fast: list[float]) -> None:
    cut = HEAD + chunk(b"id: 8\ndata: {}\n") + END
    later = HEAD + event(note("b"), "9") + END
    async with opened(ending(PRIMED, cut, later, HEAD + END, HEAD + event(result(1)) + END)) as (here, it, got):
        await begin(it, got)
        await it.write(request(1))
        assert [await anext(got), await anext(got)] == [note("b"), result(1)]  # an event cut short never was
    resumed = [asked.headers["last-event-id"] for asked in here.asked("GET") if "last-event-id" in asked.headers]
    assert resumed == ["7", "7", "9", "9"]
    assert fast == [0.45, 0.9, 0.45, 0.9]  # as the server said, and longer where it has nothing to say


@pytest.mark.parametrize("id", ["é-1", "\u20ac"])
async def test_an_event_id_goes_back_as_it_came(id: str) -> None:
    async with opened(ending(HEAD + event(note("a"), id) + END, HEAD + event(result(1)) + END)) as (here, it, got):
        await begin(it, got)
        await it.write(request(1))
    assert here.asked("GET")[-1].headers["last-event-id"].encode("latin-1").decode() == id


@pytest.mark.parametrize(
    ("streams", "error", "said"),
    [
        ([HEAD + END], ConnectionClosed, "the stream ended before the answer"),  # nothing to resume from
        ([HEAD + event(note("a"), "\x1b") + END], ConnectionClosed, "the stream ended"),  # what cannot be a header
        ([PRIMED, NO_STREAM], Refused, r"HTTP 405 from .*: no event stream"),
        ([PRIMED, reply(b"", 404)], ConnectionClosed, "the server has ended the session"),
        ([PRIMED, reply(result(1))], Refused, r"HTTP 200 from .*: no event stream"),
        ([PRIMED, reply(b"", 500, "text/event-stream")], Refused, r"HTTP 500 from .*: no event stream"),
        ([PRIMED] + [HEAD + END] * 20, ConnectionClosed, "the stream ended before the answer"),
        ([PRIMED] + [None] * 40, ConnectionClosed, "the stream ended before the answer"),
        ([HEAD + b"zz\r\n"], ConnectionClosed, "the stream ended"),
    ],
)
async def test_a_stream_that_cannot_be_taken_up(streams: Any, error: type[Exception], said: str) -> None:
    async with opened(ending(*streams)) as (here, it, got):
        await begin(it, got)
        with pytest.raises(error, match=said):
            await it.write(request(1))
        resumed = [asked for asked in here.asked("GET") if "last-event-id" in asked.headers]
        assert len(resumed) <= http_transport.MAX_SILENT
        assert len(it._http._connections) == sum(map(len, it._http._idle.values()))  # none is in use


async def test_a_modern_stream_is_never_taken_up() -> None:
    async with opened(lambda asked, _: HEAD + event(note("a"), "1") + END) as (here, it, _):
        with pytest.raises(ConnectionClosed, match="the stream ended before the answer"):
            await it.write(request(1))
    assert len(here.requests) == 1


async def test_events_that_are_no_messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    rubbish = [event(""), event("{"), event({"jsonrpc": "1.0"}), event(result(2)), event([note("a")])]
    async with opened(lambda asked, _: HEAD + b"".join(rubbish) + event(result(1)) + event("late") + END) as (
        _,
        it,
        got,
    ):
        await it.write(request(1))
        assert [await anext(got) for _ in range(3)] == [result(2), [note("a")], result(1)]
        assert caplog.text.count("skipped an event that is no message") == 2
        monkeypatch.setattr(http_transport.sse, "Parser", lambda: Parser(10))
        with pytest.raises(ConnectionClosed, match="the stream ended before"):
            await it.write(request(1))


Parser = http_transport.sse.Parser


# --- the standing stream -------------------------------------------------------------------------


async def test_the_standing_stream_is_asked_for_again_whenever_it_ends(fast: list[float]) -> None:
    streams = iter([HEAD + event(note("a"), "1") + END, HEAD + END, HEAD + END, None, None, HEAD + event(note("b"))])
    async with opened(legacy(lambda asked, _: next(streams))) as (here, it, got):
        await begin(it, got)
        assert [await anext(got), await anext(got)] == [note("a"), note("b")]
        await it.close()
        assert not it._tasks
    asked = here.asked("GET")
    assert [one.headers.get("last-event-id") for one in asked] == [None, "1", "1", "1", "1", "1"]
    assert fast == [1, 2, 4, 8, 16]
    assert asked[0].headers["accept"] == "text/event-stream"


async def test_a_standing_stream_needs_no_event_ids() -> None:
    streams = iter([HEAD + event(note("a")) + END, HEAD + event(note("b"))])
    async with opened(legacy(lambda asked, _: next(streams))) as (_, it, got):
        await begin(it, got)
        assert [await anext(got), await anext(got)] == [note("a"), note("b")]


async def test_a_question_on_the_stream_may_have_the_id_of_the_request() -> None:
    asking = HEAD + event(request(1, "ping")) + event(result(1)) + END
    async with opened(ending(asking)) as (_, it, got):
        await begin(it, got)
        await it.write(request(1))
        assert [await anext(got), await anext(got)] == [request(1, "ping"), result(1)]


async def test_servers_without_a_standing_stream(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mcp_min")
    async with opened(legacy(lambda asked, _: NO_STREAM)) as (here, it, got):
        await begin(it, got)
        await asyncio.wait(it._tasks)
        assert len(here.asked("GET")) == 1
    assert "no standing stream: HTTP 405" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_headers_function_that_fails_the_standing_stream(caplog: pytest.LogCaptureFixture) -> None:
    calls = iter([{}, {}])
    async with opened(legacy(lambda asked, _: NO_STREAM), headers=lambda: next(calls)) as (_, it, got):
        await begin(it, got)
        await asyncio.wait(it._tasks)
    assert "no standing stream" in caplog.text


# --- HTTP+SSE ------------------------------------------------------------------------------------


def older(endpoint: str = "/post", then: Respond = lambda asked, here: ACCEPTED) -> Respond:
    def respond(asked: Request, here: Site) -> bytes | None:
        if asked.verb == "GET":
            return HEAD + chunk(f"event: endpoint\ndata: {endpoint}\n\n".encode())
        return then(asked, here)

    return respond


async def test_the_older_transport() -> None:
    async with site(older("/post?s=1")) as here:
        it = await SseTransport(here.url, headers={"X-Key": "k"}).open()
        assert it.url == here.url.replace("/mcp", "/post?s=1")
        got = it.read()
        await it.write(request(1))  # which is answered by the stream
        here.streams[0].write(
            event(note("a")) + event("{") + chunk(b"event: endpoint\ndata: /else\n\n") + event(result(1))
        )
        assert [await anext(got), await anext(got)] == [note("a"), result(1)]
        await it.write(note("notifications/cancelled", requestId=1))
        assert [asked.path for asked in here.requests] == ["/mcp", "/post?s=1", "/post?s=1"]
        assert "mcp-protocol-version" not in here.requests[1].headers
        assert all(asked.headers["x-key"] == "k" for asked in here.requests)
        here.streams[0].write(END)
        with pytest.raises(ConnectionClosed, match="the server closed its event stream"):
            await anext(got)
        await it.close()


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"rubbish\r\n", "is no chunk size"), (event("x" * 100), "an event has more than 50 bytes")],
)
async def test_the_older_transport_breaks(data: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport.sse, "Parser", lambda: Parser(50))
    async with site(older()) as here:
        it = await SseTransport(here.url).open()
        here.streams[0].write(data)
        with pytest.raises(ConnectionClosed, match=said):
            await anext(it.read())
        await asyncio.wait_for(here.lost.wait(), 5)
        await it.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(problem(-32600, "go", id=1), 400), None),
        (reply(problem(-32600, "go"), 404), r"go \(404\)"),
        (reply(b"", 500, "text/plain"), r"\(500\): the server answered with text/plain"),
    ],
)
async def test_the_older_transport_is_refused(answer: bytes, said: str | None) -> None:
    async with site(older(then=lambda asked, here: answer)) as here:
        it = await SseTransport(here.url).open()
        if said is None:
            await it.write(request(1))
            assert (await anext(it.read()))["error"]["message"] == "go"
        else:
            with pytest.raises(Refused, match=said):
                await it.write(request(1))
        await it.close()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (NO_STREAM, Refused, "HTTP 405 .* no event stream"),
        (reply(b"", 200), Refused, "HTTP 200 .* no event stream"),
        (None, ConnectionClosed, "waiting for the answer: the connection was closed"),
        (HEAD + END, ConnectionClosed, "the server closed its event stream"),
        (HEAD + b"zz\r\n", ConnectionClosed, "is no chunk size"),
        (
            HEAD + chunk(b"event: endpoint\ndata: http://example.com/post\n\n"),
            ConnectionClosed,
            "example.com/post is of another origin",
        ),
        (HEAD + chunk(b"event: endpoint\ndata: //127.0.0.1:1/post\n\n"), ConnectionClosed, "is of another origin"),
        (HEAD + chunk(b"event: endpoint\ndata: http://[\n\n"), ConnectionClosed, "HTTP\\+SSE at"),
        (HEAD + chunk(b"event: endpoint\ndata: file:///etc/passwd\n\n"), ConnectionClosed, "is no URL"),
        (HEAD + chunk(b"data: /post\n\n"), ConnectionClosed, "no endpoint within 0.05 s"),
    ],
)
async def test_what_is_no_older_transport(
    answer: bytes | None, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_transport, "ENDPOINT_TIMEOUT", 0.05)
    async with site(lambda asked, _: answer) as here:
        with pytest.raises(error, match=said):
            await SseTransport(here.url).open()


async def test_opening_is_cancelled() -> None:
    async with site(lambda asked, here: HEAD) as here:
        opening = asyncio.create_task(SseTransport(here.url).open())
        await here.until(lambda: here.requests)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.wait_for(here.lost.wait(), 5)


def test_no_url() -> None:
    with pytest.raises(ValueError, match="is no URL"):
        HttpTransport("example.com")


def test_errors_are_of_the_kinds_that_users_catch() -> None:
    assert issubclass(http_transport.SessionEnded, ConnectionClosed)
    assert issubclass(Refused, RpcError)
