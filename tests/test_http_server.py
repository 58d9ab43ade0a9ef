"""The HTTP server over raw sockets: what it takes, what it refuses, what it survives, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

import pytest

from mcp_min.http_server import Application, Connection, HttpError, HttpServer, Limits, Stream, _field, _request_line

PATIENCE = 5  # seconds after which a test gives up on what should happen at once
Response = tuple[int, dict[str, str], bytes]
TEXT = {"Content-Type": "text/plain"}


def error_body(status: int, sentence: str) -> bytes:
    return json.dumps({"status": status, "sentence": sentence}).encode()


async def echo(request: Connection) -> Response:
    """Answer with all that the server understood."""
    body = (await request.body()).decode("latin-1")
    said = {"method": request.method, "path": request.path, "query": request.query, "body": body}
    return 200, {"Content-Type": "application/json"}, json.dumps(said | {"headers": request.headers}).encode()


async def deaf(request: Connection) -> Response:
    """Answer without a look at the body."""
    return 403, TEXT, b"no"


@asynccontextmanager
async def serving(
    application: Application = echo, *, tls: ssl.SSLContext | None = None, **limits: Any
) -> AsyncIterator[HttpServer]:
    """A server on a free port; when it has closed, nothing may be left of it."""
    server = HttpServer(application, error_body, Limits(**{"tick": 0.01, "linger": 1, **limits}))
    await server.start("127.0.0.1", 0, ssl=tls)
    try:
        yield server
    finally:
        async with asyncio.timeout(PATIENCE):
            await server.close(1)
        assert not server.connections
        assert not server.streams
        assert server.timer.cancelled()


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, *, bytewise: bool = False) -> None:
        with suppress(ConnectionError):
            for start in range(len(data)) if bytewise else [0]:
                self.writer.write(data[start : start + 1] if bytewise else data)
                await self.writer.drain()
                await asyncio.sleep(0)  # a turn of the loop, so that the server sees each byte alone

    async def answer(self, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head[:-4].split("\r\n")
            assert status.startswith("HTTP/1.1 ")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = b"" if method == "HEAD" else await self._body(headers)
            return int(status[9:12]), headers, body

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := await self.chunk():
                body += chunk
            return body
        return await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def chunk(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        """What comes until the server closes; b"reset" at the end if it resets."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while piece := await self.reader.read(2**16):
                    data += piece
            except ConnectionError:
                data += b"reset"
        return data

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Hang up with a reset instead of an end."""
        linger_none = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
        self.writer.transport.abort()


@asynccontextmanager
async def connected(server: HttpServer, **options: Any) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", server.port, **options))
    try:
        yield client
    finally:
        client.close()
        with suppress(OSError):
            await client.writer.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # what happens inside the server has no event
            await asyncio.sleep(0.001)


def post(body: bytes, *lines: str) -> bytes:
    head = ["POST /mcp HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


GET = head("GET / HTTP/1.1", "Host: a")
CHUNKED = head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")


# --- what is taken -------------------------------------------------------------------------------

TAKEN: list[tuple[bytes, dict[str, Any]]] = [
    (GET, {"method": "GET", "path": "/", "query": "", "body": "", "headers": {"host": "a"}}),
    (head("GET /a%2Fb/../c?x=1?&y HTTP/1.1", "Host: a"), {"path": "/a%2Fb/../c", "query": "x=1?&y"}),
    (head("GET //mcp? HTTP/1.1", "Host: a"), {"path": "//mcp", "query": ""}),
    (head("GET http://a:8000/mcp?q HTTP/1.1", "Host: a:8000"), {"path": "/mcp", "query": "q"}),
    (head("OPTIONS * HTTP/1.1", "Host: a"), {"path": "*"}),
    (head("DELETE /mcp HTTP/1.1", "Host: a"), {"method": "DELETE"}),
    (head("GET / HTTP/1.1", "hOsT:a \t", "X-Empty:", "X: \t b  c \xe9"),
     {"headers": {"host": "a", "x-empty": "", "x": "b  c \xe9"}}),
    (head("GET / HTTP/1.1", "Host: a", "Accept: x", "accept: y"), {"headers": {"host": "a", "accept": "x, y"}}),
    (post(b"hello"), {"method": "POST", "body": "hello"}),
    (post(b""), {"body": ""}),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 0005") + b"hello", {"body": "hello"}),
    (post(b"\r\n\r\n\x00\xff"), {"body": "\r\n\r\n\x00\xff"}),
    (post(b"hello", "Content-Encoding: identity"), {"body": "hello"}),
    (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", {"body": "hello"}),
    (CHUNKED + b"0\r\n\r\n", {"body": ""}),
    (CHUNKED + b'1;a=b\r\nh\r\n00a;c="d \xff"\r\nello there\r\n0;\r\n\r\n', {"body": "hello there"}),
    (CHUNKED.replace(b"chunked", b"Chunked") + b"A\r\n0123456789\r\n0\r\n\r\n", {"body": "0123456789"}),
]  # fmt: skip


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(("data", "expected"), TAKEN)
async def test_takes(data: bytes, expected: dict[str, Any], bytewise: bool) -> None:
    async with serving() as server, connected(server) as client:
        for _ in range(2):  # the connection is kept
            await client.send(data, bytewise=bytewise)
            status, headers, body = await client.answer()
            assert status == 200
            assert "connection" not in headers
            said = json.loads(body)
            assert {key: said[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("remembered", "line", "many"), [(_request_line, "GET /{} HTTP/1.1", 16), (_field, "X: {}", 128)]
)
def test_of_the_lines_that_clients_say_again_a_few_are_remembered(remembered: Any, line: str, many: int) -> None:
    parts = [remembered(line.format(number)) for number in range(1000)]
    assert (len(set(parts)), remembered.cache_info().currsize) == (1000, many)


CLOSING = [
    head("GET / HTTP/1.0"),
    head("GET / HTTP/1.0", "Host: a", "Connection: keep-alive"),
    *(head("GET / HTTP/1.1", "Host: a", f"Connection: {value}")
      for value in ("close", "x, Close", "close,x", "a , close ,b")),
    head("GET / HTTP/1.1", "Host: a", "Connection: keep-alive", "Connection: close"),
]  # fmt: skip


@pytest.mark.parametrize("data", CLOSING)
async def test_closes_after_the_answer_when_asked(data: bytes) -> None:
    async with serving() as server, connected(server) as client:
        await client.send(data + GET)  # what follows is not looked at
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.rest() == b""


@pytest.mark.parametrize("value", ["closed", "keep-alive", "x-close", "not close-d"])
async def test_keeps_the_connection_unless_asked(value: str) -> None:
    async with serving() as server, connected(server) as client:
        await client.send(head("GET / HTTP/1.1", "Host: a", f"Connection: {value}") + GET)
        await client.answer()
        assert (await client.answer())[0] == 200


async def test_reads_so_little_at_once_that_no_memory_is_mapped_for_it() -> None:
    async def application(request: Connection) -> Response:
        return 200, TEXT, str(vars(request.writer.transport)["max_size"]).encode()

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        assert (await client.answer())[2] == b"65536"


async def test_answers_pipelined_requests_in_order() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(b"".join(post(b"%d" % number) for number in range(100)))
        for number in range(100):
            _, _, body = await client.answer()
            assert json.loads(body)["body"] == str(number)


async def test_what_is_pipelined_is_not_served_to_a_connection_that_was_cut() -> None:
    served = 0

    async def application(request: Connection) -> Response:
        nonlocal served
        served += 1
        request.writer.transport.abort()
        return 200, {}, b""

    async with serving(application) as server, connected(server) as client:
        await client.send(GET * 10)
        await until(lambda: served and not server.connections)
    assert served == 1


@pytest.mark.parametrize("data", [GET * 400, CHUNKED + b"1\r\nx\r\n" * 400 + b"0\r\n\r\n"])
async def test_what_arrives_at_once_leaves_the_loop_to_others(data: bytes) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        handle[0] = asyncio.get_running_loop().call_soon(turn)

    seen: list[int] = []

    async def application(request: Connection) -> Response:
        seen.append(turns)
        await request.body()
        seen.append(turns)
        return 200, {}, b""

    async with serving(application) as server, connected(server) as client:
        handle = [asyncio.get_running_loop().call_soon(turn)]
        await client.send(data)
        await until(lambda: len(seen) in (2, 800))
        handle[0].cancel()
    assert seen[-1] - seen[0] >= 400 // 16 - 1


async def test_a_head_request_gets_no_body() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(head("HEAD / HTTP/1.1", "Host: a") + GET)
        status, headers, _ = await client.answer("HEAD")
        assert (status, int(headers["content-length"]) > 50) == (200, True)
        assert (await client.answer())[0] == 200  # the next thing on the wire


async def test_what_follows_a_head_request_is_no_head_request() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(head("HEAD / HTTP/1.1", "Host: a") + b"\x00")
        await client.answer("HEAD")
        status, _, body = await client.answer()
        assert (status, json.loads(body)["status"]) == (400, 400)


async def test_an_idle_connection_holds_no_answer() -> None:
    class Answer(bytearray):
        """Bytes that can be watched."""

    answers: list[weakref.ref[Answer]] = []

    async def application(request: Connection) -> Response:
        body = Answer(1000)
        answers.append(weakref.ref(body))
        return 200, {}, body

    async with serving(application) as server, connected(server) as client:
        for _ in range(2):
            await client.send(GET)
            assert (await client.answer())[2] == bytes(1000)
            await asyncio.sleep(0)
            (connection,) = server.connections
            assert answers[-1]() is None
            assert len(b"".join(connection._headers_buffer)) < 200


async def test_says_what_it_must_and_no_more() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(GET)
        _, headers, body = await client.answer()
        assert list(headers) == ["server", "date", "content-type", "content-length"]
        assert headers["server"] == "mcp_min"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
        assert int(headers["content-length"]) == len(body)


async def test_an_answer_without_content_has_no_length() -> None:
    async def application(request: Connection) -> Response:
        return 204, {}, b""

    async with serving(application) as server, connected(server) as client:
        await client.send(GET + GET)
        for _ in range(2):
            status, headers, _ = await client.answer()
            assert (status, "content-length" in headers) == (204, False)


async def test_a_large_answer_arrives_whole() -> None:
    data = bytes(range(256)) * 2**14  # 4 MiB, more than the buffers of the sockets

    async def application(request: Connection) -> Response:
        return 200, {}, data

    async with serving(application) as server, connected(server) as client:
        await client.send(head("GET / HTTP/1.0"))
        assert (await client.answer())[2] == data
        assert await client.rest() == b""


# --- what is refused -----------------------------------------------------------------------------

REFUSED: list[tuple[bytes, int]] = [
    # The first line.
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
    (b"\r\n" + GET, 400),
    (b"\x00" + GET, 400),
    (b"123\r\n\r\n", 400),
    (b"GET\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (head("GET / HTTP/0.9", "Host: a"), 400),
    (head("GET / HTTP/1.10", "Host: a"), 400),
    (head("GET / HTTP/1.2", "Host: a"), 400),
    (head("GET / http/1.1", "Host: a"), 400),
    (head("PRI * HTTP/2.0"), 400),
    (head("GET  / HTTP/1.1", "Host: a"), 400),
    (head("GET /  HTTP/1.1", "Host: a"), 400),
    (head("GET / HTTP/1.1 ", "Host: a"), 400),
    (head("GET\t/ HTTP/1.1", "Host: a"), 400),
    (head("G@T / HTTP/1.1", "Host: a"), 400),
    (head("GET mcp HTTP/1.1", "Host: a"), 400),
    (head("GET /# HTTP/1.1", "Host: a"), 400),
    (head("GET /?# HTTP/1.1", "Host: a"), 400),
    (head('GET /" HTTP/1.1', "Host: a"), 400),
    (head("GET /\xe9 HTTP/1.1", "Host: a"), 400),
    (head("GET /\x00 HTTP/1.1", "Host: a"), 400),
    (head("GET /a b HTTP/1.1", "Host: a"), 400),
    (head("GET http://b/ HTTP/1.1", "Host: a"), 400),
    (head("GET http://a@b/ HTTP/1.1", "Host: a"), 400),
    (head("GET http://a HTTP/1.1", "Host: a"), 400),
    (head("CONNECT a:80 HTTP/1.1", "Host: a"), 400),
    (head("PUT / HTTP/1.1", "Host: a"), 501),
    (head("get / HTTP/1.1", "Host: a"), 501),
    (head("Get / HTTP/1.1", "Host: a"), 501),
    # Lines and headers.
    (b"GET / HTTP/1.1\nHost: a\n\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\r\nX: y\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\rHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", 400),
    (head("GET / HTTP/1.1", "Host: a", "X: a\x00b"), 400),
    (head("GET / HTTP/1.1", "Host: a", "X: a\x0bb"), 400),
    (head("GET / HTTP/1.1", "Host: a", "X: a\x7fb"), 400),
    (head("GET / HTTP/1.1", "Host: a", "X: a", " folded"), 400),
    (head("GET / HTTP/1.1", "Host: a", "X: a", "\tfolded: b"), 400),
    (head("GET / HTTP/1.1", " Host: a"), 400),
    (head("GET / HTTP/1.1", "Host : a"), 400),
    (head("GET / HTTP/1.1", "Host: a", "no colon"), 400),
    (head("GET / HTTP/1.1", "Host: a", ": no name"), 400),
    (head("GET / HTTP/1.1", "Host: a", "a b: c"), 400),
    (head("GET / HTTP/1.1", "Host: a", "\xe9: b"), 400),
    (head("GET / HTTP/1.1", "Host: a", "--x", "Origin: b"), 400),
    (head("GET / HTTP/1.1"), 400),
    (head("GET / HTTP/1.1", "X: y"), 400),
    *((head("GET / HTTP/1.1", "Host: a", f"{name}: b", f"{name.upper()}: b"), 400)
      for name in ("Host", "Origin", "Authorization", "Content-Type", "Mcp-Session-Id", "X-Api-Key", "Accepted")),
    # Which bytes are the body.
    *((head("POST / HTTP/1.1", "Host: a", f"Content-Length: {length}") + b"hello", 400)
      for length in ("", "+5", "-5", "-1", "1_0", "5,5", "5, 5", "0x5", "5.0", "five", "\xb2", "5 5",
                     "\xa05", "1" * 20, "9" * 5000)),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 5") + b"hello", 400),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "content-length: 6") + b"hello", 400),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    (head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 0") + b"0\r\n\r\n", 400),
    (head("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    (CHUNKED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + b"0\r\n\r\n", 400),
    *((head("POST / HTTP/1.1", "Host: a", f"Transfer-Encoding: {coding}") + b"0\r\n\r\n", 501)
      for coding in ("gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1", "")),
]  # fmt: skip


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(("data", "expected"), REFUSED)
async def test_refuses_a_head(data: bytes, expected: int, bytewise: bool) -> None:
    async def never(request: Connection) -> Response:
        raise AssertionError("the application must not see this")

    async with serving(never) as server, connected(server) as client:
        await client.send(data + GET, bytewise=bytewise)
        status, headers, body = await client.answer()
        assert (status, headers["connection"], headers["content-type"]) == (expected, "close", "application/json")
        assert json.loads(body)["status"] == expected
        client.writer.write_eof()
        assert await client.rest() == b""  # and what followed was not taken for a request


REFUSED_BODIES: list[tuple[bytes, int]] = [
    (post(b"hello", "Content-Encoding: gzip"), 415),
    (post(b"hello", "Content-Encoding: "), 415),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 10737418240"), 413),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: " + "9" * 19), 413),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 101"), 413),
    (CHUNKED + b"ffffffff\r\n", 413),
    (CHUNKED + b"33\r\n" + b"x" * 51 + b"\r\n33\r\n", 413),
    (CHUNKED + b"1\r\nx\r\n" * 25 + b"1\r\nx\r\n", 413),  # the framing counts
    *((CHUNKED + line, 400) for line in (
        b"\r\n", b"\n", b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b"1_0\r\n", b" 1\r\n", b"1 \r\n", b"1\t;a\r\n",
        b"\xb2\r\n", b"1\n", b"1;a\n", b"1;\x00\r\n", b"1;a\rb\r\n", b"000000001\r\n", b"fffffffff\r\n", b";a\r\n",
        b"1\r\nxx\r\n", b"1\r\nx\n\n", b"1\r\nx\r\r", b"2\r\nx\r\n\r\n", b"5\r\nhello0\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n", b"0\r\nx\r\n", b"0\r\n\n\r",
    )),
    (CHUNKED + b"1;" + b"x" * 40_000, 431),
]  # fmt: skip


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(("data", "expected"), REFUSED_BODIES)
async def test_refuses_a_body(data: bytes, expected: int, bytewise: bool) -> None:
    async with serving(max_body=100) as server, connected(server) as client:
        await client.send(data, bytewise=bytewise and len(data) < 1000)
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (expected, "close")
        client.writer.write_eof()
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "data", [b"X: " + b"x" * 100_000, b"x" * 100_000, b"X: y\r\n" * 20_000, b"A" * 40_000 + b"\r\n\r\n"]
)
async def test_refuses_a_head_without_end(data: bytes) -> None:
    async with serving() as server, connected(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + data)
        status, _, body = await client.answer()
        assert status == 431
        assert b"max_head" in body


@pytest.mark.parametrize("size", [-1, 0, 1])
async def test_the_longest_head(size: int) -> None:
    start, end = b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"\r\n\r\n"
    filler = b"x" * (1000 + size - len(start) + 1)
    async with serving(max_head=1000) as server, connected(server) as client:
        await client.send(start + filler + end)
        assert (await client.answer())[0] == (431 if size > 0 else 200)


@pytest.mark.parametrize(
    "value", ["x" * 32_000, " " * 32_000 + "\x01", "a " * 15_000 + "\x01", "\t" * 32_000, ":" * 32_000]
)
async def test_no_header_takes_long_to_read(value: str) -> None:
    async with serving() as server, connected(server) as client:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await client.send(head("GET / HTTP/1.1", "Host: a", f"X: {value}"))
        assert (await client.answer())[0] in (200, 400)
        assert loop.time() - before < 1  # a pattern that backtracks would need a minute


async def test_the_longest_body() -> None:
    async with serving(max_body=100) as server, connected(server) as client:
        await client.send(post(b"x" * 100) + CHUNKED + b"5d\r\n" + b"x" * 0x5D + b"\r\n0\r\n\r\n")
        for size in (100, 0x5D):
            status, _, body = await client.answer()
            assert (status, len(json.loads(body)["body"])) == (200, size)


@pytest.mark.parametrize("application", [echo, deaf])
async def test_a_refusal_arrives_while_the_body_is_still_being_sent(application: Application) -> None:
    async with serving(application) as server, connected(server) as client:
        await client.send(head("POST / HTTP/1.1", "Host: a", "Content-Length: 10737418240"))
        sending = asyncio.ensure_future(client.send(b"x" * 2**23))
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (413 if application is echo else 403, "close")
        await sending
        client.writer.write_eof()
        assert await client.rest() == b""  # an end, no reset


async def test_a_refusal_ends_our_side_at_once() -> None:
    async with serving(linger=60) as server, connected(server) as client:
        await client.send(b"\x00")
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""


async def test_a_peer_that_sends_on_after_a_refusal_is_cut_off() -> None:
    async with serving(deaf, linger=0.05) as server, connected(server) as client:
        await client.send(head("POST / HTTP/1.1", "Host: a", "Content-Length: 10737418240"))
        assert (await client.answer())[0] == 403
        await until(lambda: not server.connections)


async def test_no_answer_when_the_input_ends_inside_a_request() -> None:
    for data in (GET[:1], GET[:10], GET[:-1], post(b"hello")[:-1], CHUNKED + b"5\r\nhel", CHUNKED + b"5"):
        async with serving() as server, connected(server) as client:
            await client.send(data)
            client.writer.write_eof()
            assert await client.rest() == b""


async def test_a_half_closed_connection_still_gets_its_answer() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(post(b"hello"))
        client.writer.write_eof()
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""


# --- Expect --------------------------------------------------------------------------------------

EXPECTING = head("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Expect: 100-continue")


async def test_asks_for_the_body_when_the_application_does() -> None:
    async with serving() as server, connected(server) as client:
        await client.send(EXPECTING)
        assert await client.answer() == (100, {}, b"")
        await client.send(b"hello")
        assert json.loads((await client.answer())[2])["body"] == "hello"


@pytest.mark.parametrize(
    ("application", "data", "expected"),
    [
        (deaf, EXPECTING, 403),
        (echo, EXPECTING.replace(b": 5", b": 10737418240"), 413),
        (echo, EXPECTING.replace(b": 5", b": 0"), 200),
        (echo, EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello", 200),
    ],
)
async def test_asks_for_no_body_otherwise(application: Application, data: bytes, expected: int) -> None:
    async with serving(application) as server, connected(server) as client:
        await client.send(data)
        assert (await client.answer())[0] == expected


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "limit", "expected"),
    [
        (b"", "head_timeout", b""),
        (GET[:10], "head_timeout", b"HTTP/1.1 408 "),
        (b"GET / HTTP/1.1\nHost: a\n\n", "head_timeout", b"HTTP/1.1 408 "),
        (post(b"hello")[:-1], "body_timeout", b"HTTP/1.1 408 "),
        (CHUNKED + b"5\r\nhell", "body_timeout", b"HTTP/1.1 408 "),
        (CHUNKED, "body_timeout", b"HTTP/1.1 408 "),
    ],
)
async def test_a_slow_request(data: bytes, limit: str, expected: bytes) -> None:
    async with serving(**{limit: 0.05}) as server, connected(server) as client:
        await client.send(data)
        rest = await client.rest()
        assert rest[: len(expected or b"x")] == expected
        assert not server.connections


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with serving(idle_timeout=0.05) as server, connected(server) as client:
        await client.send(GET)
        await client.answer()
        assert await client.rest() == b""


async def test_work_is_not_counted_as_the_peers_time() -> None:
    done = asyncio.Event()

    async def application(request: Connection) -> Response:
        await request.body()
        await done.wait()
        return 200, {}, b""

    short = {"head_timeout": 0.05, "body_timeout": 0.05, "idle_timeout": 0.05, "write_timeout": 0.05}
    async with serving(application, **short) as server, connected(server) as client:
        await client.send(post(b"hello"))
        asyncio.get_running_loop().call_later(0.2, done.set)
        assert (await client.answer())[0] == 200
        await client.send(GET)
        assert (await client.answer())[0] == 200


async def test_a_head_has_its_own_time() -> None:
    async with serving(idle_timeout=0.05) as server, connected(server) as client:
        await client.send(GET)
        await client.answer()
        await client.send(GET[:1])
        asyncio.get_running_loop().call_later(0.2, client.writer.write, GET[1:])
        assert (await client.answer())[0] == 200


# --- hang-ups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hang_up", ["close", "reset"])
async def test_a_hang_up_is_told_at_once_and_once(hang_up: str) -> None:
    told: list[int] = []
    working, gone = asyncio.Event(), asyncio.Event()

    async def application(request: Connection) -> Response:
        request.on_hangup = lambda: (told.append(1), gone.set())
        working.set()
        await gone.wait()
        return 200, {}, b""

    async with serving(application) as server:
        async with connected(server) as client:
            await client.send(GET)
            await working.wait()
            getattr(client, hang_up)()
            await asyncio.wait_for(gone.wait(), PATIENCE)
        await until(lambda: not server.connections)
    assert told == [1]


async def test_an_end_and_then_a_reset_are_one_hang_up() -> None:
    told: list[int] = []
    done = asyncio.Event()

    async def application(request: Connection) -> Response:
        request.on_hangup = lambda: told.append(1)
        await done.wait()
        return 200, {}, b""

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        client.writer.write_eof()
        await until(lambda: told)
        next(iter(server.connections)).writer.transport.abort()
        asyncio.get_running_loop().call_later(0.01, done.set)
        await until(lambda: not server.connections)
    assert told == [1]


async def test_a_hang_up_can_cancel_the_work() -> None:
    working, cancelled = asyncio.Event(), asyncio.Event()

    async def application(request: Connection) -> Response:
        task = asyncio.current_task()
        assert task is not None
        request.on_hangup = task.cancel
        working.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("not reached")

    async with serving(application) as server:
        async with connected(server) as client:
            await client.send(GET)
            await working.wait()
        await asyncio.wait_for(cancelled.wait(), PATIENCE)
        await until(lambda: not server.connections)


async def test_a_hang_up_before_the_question_can_be_seen() -> None:
    ended = asyncio.Event()

    async def application(request: Connection) -> Response:
        assert not request.hung_up
        await ended.wait()
        assert request.hung_up
        return 200, {}, b""

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        client.writer.write_eof()
        await until(lambda: next(iter(server.connections)).hung_up)
        ended.set()
        assert (await client.answer())[0] == 200


async def test_a_hang_up_after_the_answer_is_nobodys_business() -> None:
    told: list[int] = []

    async def application(request: Connection) -> Response:
        request.on_hangup = lambda: told.append(1)
        return 200, {}, b""

    async with serving(application) as server:
        async with connected(server) as client:
            await client.send(GET)
            await client.answer()
        await until(lambda: not server.connections)
    assert told == []


@pytest.mark.parametrize("data", [b"", GET[:5], GET, post(b"hello")[:-1], EXPECTING, CHUNKED + b"5\r\nhe", GET * 3])
async def test_a_reset_at_any_stage_harms_nobody(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        for _ in range(5):
            async with connected(server) as client:
                await client.send(data)
                client.reset()
        async with connected(server) as client:
            await client.send(GET)
            assert (await client.answer())[0] == 200
        await until(lambda: not server.connections)
    assert [record for record in caplog.records if record.name != "asyncio"] == []


# --- streams -------------------------------------------------------------------------------------


class Streaming:
    """An application that streams what a test tells it to."""

    def __init__(self, keep_alive: bytes = b":\n\n") -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.keep_alive = keep_alive
        self.problem: BaseException | None = None
        self.request: Connection | None = None
        self.ended = asyncio.Event()

    async def __call__(self, request: Connection) -> None:
        self.request = request
        request.on_hangup = lambda: self.pieces.put_nowait(None)
        stream = request.stream(200, {"Content-Type": "text/event-stream"}, keep_alive=self.keep_alive)
        try:
            while (piece := await self.pieces.get()) is not None:
                await stream.write(piece)
        except BaseException as problem:
            self.problem = problem
            raise
        finally:
            self.ended.set()


async def test_a_stream() -> None:
    application = Streaming()
    async with serving(application) as server, connected(server) as client:
        for _ in range(2):  # the connection is kept
            await client.send(GET)
            for piece in (b"one", b"", b"two", None):
                application.pieces.put_nowait(piece)
            status, headers, body = await client.answer()
            assert (status, body) == (200, b"onetwo")
            assert (headers["transfer-encoding"], "connection" in headers) == ("chunked", False)
        assert not server.streams


async def test_the_head_leaves_with_the_first_piece() -> None:
    application = Streaming()
    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        application.pieces.put_nowait(b"one")
        data = await client.reader.read(2**16)
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert data.endswith(b"\r\n\r\n3\r\none\r\n")
        application.pieces.put_nowait(None)


async def test_a_stream_for_http_1_0_ends_with_the_connection() -> None:
    application = Streaming()
    async with serving(application) as server, connected(server) as client:
        await client.send(head("GET / HTTP/1.0"))
        for piece in (b"one", b"two", None):
            application.pieces.put_nowait(piece)
        start, _, rest = (await client.rest()).partition(b"\r\n\r\n")
        assert rest == b"onetwo"
        assert b"Connection: close" in start
        assert b"Transfer-Encoding" not in start


async def test_a_stream_for_head_has_no_body() -> None:
    application = Streaming()
    async with serving(application) as server, connected(server) as client:
        await client.send(head("HEAD / HTTP/1.1", "Host: a", "Connection: close"))
        for piece in (b"one", None):
            application.pieces.put_nowait(piece)
        assert (await client.rest()).endswith(b"\r\n\r\n")


async def test_a_silent_stream_is_kept_alive() -> None:
    application = Streaming(b":ping\n\n")
    async with serving(application, keep_alive=0.05, idle_timeout=0.05, head_timeout=0.05) as server:
        async with connected(server) as client:
            await client.send(GET)
            application.pieces.put_nowait(b"one")
            await client.reader.readuntil(b"\r\n\r\n")
            assert await client.chunk() == b"one"
            for _ in range(3):
                assert await client.chunk() == b":ping\n\n"
            application.pieces.put_nowait(b"two")
            while (piece := await client.chunk()) == b":ping\n\n":
                pass
            assert piece == b"two"
        await asyncio.wait_for(application.ended.wait(), PATIENCE)


async def test_streams_are_counted() -> None:
    application = Streaming()
    async with serving(application, streams=1, connections=1) as server, connected(server) as first:
        await first.send(GET)
        application.pieces.put_nowait(b"one")
        await first.reader.readuntil(b"one\r\n")
        async with connected(server) as second:  # room for one, besides those that stream
            await second.send(GET)
            status, _, body = await second.answer()
            assert status == 503
            assert b"(streams)" in body


async def test_silence_before_the_first_piece_is_the_applications(caplog: pytest.LogCaptureFixture) -> None:
    application = Streaming()
    async with serving(application, keep_alive=0.01) as server, connected(server) as client:
        await client.send(GET)
        await until(lambda: server.streams)
        then = server.now
        await until(lambda: server.now > then + 0.1)
        application.pieces.put_nowait(b"one")
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.chunk() == b"one"
        assert application.request is not None
        assert application.request.headers == {}, "an idle stream weighs little"
        application.pieces.put_nowait(None)
    assert caplog.records == []


@pytest.mark.parametrize("hang_up", ["close", "reset"])
async def test_a_stream_whose_reader_hangs_up(hang_up: str, caplog: pytest.LogCaptureFixture) -> None:
    application = Streaming()
    async with serving(application) as server:
        async with connected(server) as client:
            await client.send(GET)
            application.pieces.put_nowait(b"one")
            await client.reader.readuntil(b"one\r\n")
            getattr(client, hang_up)()
        await asyncio.wait_for(application.ended.wait(), PATIENCE)
        await until(lambda: not server.connections)
    assert application.problem is None
    assert caplog.records == []


async def test_writing_to_a_reader_that_has_gone_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gone = asyncio.Event()
    problems: list[BaseException] = []

    async def application(request: Connection) -> None:
        request.on_hangup = gone.set
        stream = request.stream(200, {}, keep_alive=b":\n\n")
        await stream.write(b"one")
        await gone.wait()
        try:
            while True:
                await stream.write(b"two")
        except OSError as problem:
            problems.append(problem)
            raise

    async with serving(application, keep_alive=0.01) as server:
        async with connected(server) as client:
            await client.send(GET)
            await client.reader.readuntil(b"one\r\n")
            client.reset()
        await until(lambda: not server.connections)
    assert len(problems) == 1
    assert caplog.records == []


async def test_who_has_only_ended_its_side_still_gets_a_stream() -> None:
    ended = asyncio.Event()

    async def application(request: Connection) -> None:
        request.on_hangup = ended.set
        stream = request.stream(200, {}, keep_alive=b":\n\n")
        await ended.wait()
        await stream.write(b"one")

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        await until(lambda: server.streams)
        client.writer.write_eof()
        assert (await client.answer())[2] == b"one"


async def test_who_writes_in_the_moment_of_the_hang_up_is_cancelled_by_it() -> None:
    problems: list[BaseException] = []

    async def application(request: Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        request.on_hangup = task.cancel
        stream = request.stream(200, {}, keep_alive=b":\n\n")
        await stream.write(b"one")
        request.writer.transport.abort()
        try:
            await stream.write(b"two")
            await asyncio.Event().wait()
        except BaseException as problem:
            problems.append(problem)
            raise

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        await until(lambda: problems)
        await until(lambda: not server.connections)
    assert isinstance(problems[0], asyncio.CancelledError)


async def test_an_application_that_goes_on_writing_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def application(request: Connection) -> None:
        gone = asyncio.Event()
        request.on_hangup = gone.set
        stream = request.stream(200, {}, keep_alive=b":\n\n")
        await stream.write(b"one")
        await gone.wait()
        for _ in range(100):
            with suppress(OSError):
                await stream.write(b"two")

    async with serving(application) as server:
        async with connected(server) as client:
            await client.send(GET)
            await client.reader.readuntil(b"one\r\n")
            client.reset()
        await until(lambda: not server.connections)
    assert caplog.records == []


async def test_an_application_that_ignores_the_hang_up_is_left_in_peace(caplog: pytest.LogCaptureFixture) -> None:
    gone, done = asyncio.Event(), asyncio.Event()

    async def application(request: Connection) -> None:
        request.on_hangup = gone.set
        await request.stream(200, {}, keep_alive=b":\n\n").write(b"one")
        await done.wait()

    async with serving(application, keep_alive=0.01) as server:
        async with connected(server) as client:
            await client.send(GET)
            await client.reader.readuntil(b"one\r\n")
            client.reset()
        await asyncio.wait_for(gone.wait(), PATIENCE)
        asyncio.get_running_loop().call_later(0.1, done.set)
        await until(lambda: not server.connections)
    assert caplog.records == []  # keep-alives were not written to a dead socket


async def test_a_late_write_reaches_nobody() -> None:
    streams: list[Stream] = []

    async def application(request: Connection) -> Response | None:
        if streams:
            with pytest.raises(OSError, match="over"):
                await streams[0].write(b"late")
            return 200, {}, b"mine"
        streams.append(request.stream(200, {}, keep_alive=b":\n\n"))
        await streams[0].write(b"one")
        return None

    async with serving(application) as server, connected(server) as client:
        await client.send(GET + GET)
        assert (await client.answer())[2] == b"one"
        assert (await client.answer())[2] == b"mine"


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("size", [3, 2**24])  # the latter is more than the sockets hold
async def test_an_answer_may_end_before_the_work(
    size: int, secure: bool, tls: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []
    begun, done = asyncio.Event(), asyncio.Event()

    async def application(request: Connection) -> None:
        request.on_hangup = lambda: told.append(1)
        stream = request.stream(200, {}, keep_alive=b":ping\n\n")
        stream.put(bytes(size))
        stream.close(b"last")
        for again in (lambda: stream.put(b"late"), lambda: stream.close(b"later")):
            with pytest.raises(OSError, match="over"):
                again()
        begun.set()
        if size == 3:
            await done.wait()

    caplog.set_level(logging.INFO, "mcp_min")
    options: dict[str, Any] = {"ssl": tls[1]} if secure else {}
    async with (
        serving(application, tls=tls[0] if secure else None, keep_alive=0.01) as server,
        connected(server, limit=2**10, **options) as client,
    ):
        client.writer.transport.pause_reading()
        await client.send(GET + GET)
        await begun.wait()
        await until(lambda: size == 3 or not server.streams)
        client.writer.transport.resume_reading()
        assert (await client.answer())[2] == bytes(size) + b"last"
        assert await client.rest() == b"", "one end, no other answer, and the connection goes"
        assert (len(server.streams), told) == (size == 3, [1])
        client.close()
        if size == 3:
            (connection,) = server.connections
            await until(lambda: connection.lost)
            assert server.connections, "while the work goes on"
            done.set()
        await until(lambda: not server.connections)
    assert [record.getMessage()[-20:] for record in caplog.records] == ['"GET / HTTP/1.1" 200']


async def test_a_reader_that_does_not_read_is_waited_for_and_then_dropped() -> None:
    written = 0
    problems: list[BaseException] = []

    async def application(request: Connection) -> None:
        nonlocal written
        stream = request.stream(200, {}, keep_alive=b":\n\n")
        try:
            while True:
                await stream.write(b"x" * 2**20)
                written += 1
        except OSError as problem:
            problems.append(problem)
            raise

    async with serving(application, write_timeout=0.1) as server, connected(server, limit=2**10) as client:
        client.writer.transport.pause_reading()
        await client.send(GET)
        await until(lambda: problems)
        assert written < 32  # what the sockets hold, and no more
        await until(lambda: not server.connections)


async def test_the_end_of_an_answer_is_not_lost_in_our_buffers() -> None:
    written = 0

    async def application(request: Connection) -> None:
        nonlocal written
        stream = request.stream(200, {}, keep_alive=b":\n\n")
        while request.writer.transport.get_write_buffer_size() == 0:
            await stream.write(b"x" * 1000)
            written += 1000

    async with serving(application, connections=1) as server, connected(server, limit=2**10) as client:
        client.writer.transport.pause_reading()
        await client.send(head("GET / HTTP/1.0"))
        await until(lambda: written and not server.streams)
        async with connected(server) as newcomer:  # and not for somebody else's sake
            assert await newcomer.rest() in (b"", b"reset")
        for _ in range(5):
            await asyncio.sleep(0)
        assert server.connections  # still there, for the write timeout and for `close` to see
        client.writer.transport.resume_reading()
        assert len((await client.rest()).partition(b"\r\n\r\n")[2]) == written


async def test_a_peer_that_takes_no_answer_is_not_given_the_next() -> None:
    served = 0

    async def application(request: Connection) -> Response:
        nonlocal served
        served += 1
        return 200, {}, bytes(2**20)

    async with serving(application) as server, connected(server, limit=2**10) as client:
        client.writer.transport.pause_reading()
        await client.send(GET * 200)
        await until(lambda: server.connections)
        (connection,) = server.connections
        await until(lambda: connection.writer.transport.get_write_buffer_size() > 2**16)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert served < 32  # what the sockets hold, and no more
        client.writer.transport.resume_reading()
        for _ in range(200):
            assert len((await client.answer())[2]) == 2**20


async def test_a_peer_that_does_not_take_its_answer_is_dropped() -> None:
    async def application(request: Connection) -> Response:
        return 200, {}, b"x" * 2**25

    for data in (GET, head("GET / HTTP/1.0")):
        async with serving(application, write_timeout=0.1) as server, connected(server, limit=2**10) as client:
            client.writer.transport.pause_reading()
            await client.send(data)
            await until(lambda: server.connections)
            await until(lambda: not server.connections)


# --- applications that fail ----------------------------------------------------------------------


async def failing(request: Connection) -> Response:
    raise RuntimeError("SECRET /etc/passwd")


async def losing(request: Connection) -> Response:
    raise ConnectionRefusedError("SECRET database")  # its own connection, not the peer's


async def injecting(request: Connection) -> Response:
    return 200, {"X-Fine": "y", "X": "SECRET\r\nSet-Cookie: z"}, b""


async def silent(request: Connection) -> None:
    return None


async def unread(request: Connection) -> Response:
    request.stream(200, {}, keep_alive=b":\n\n")
    raise RuntimeError("SECRET before the first byte")


@pytest.mark.parametrize("application", [failing, losing, injecting, silent, unread])
async def test_an_application_that_fails(application: Application, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (500, "close")
        assert "x-fine" not in headers
        assert b"SECRET" not in body
        assert b"Traceback" not in body
        client.writer.write_eof()
        assert await client.rest() == b""
    assert [record.name for record in caplog.records] == ["mcp_min"]
    assert caplog.records[0].exc_info is not None


async def test_a_failure_after_a_hang_up_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    gone = asyncio.Event()

    async def application(request: Connection) -> Response:
        request.on_hangup = gone.set
        await gone.wait()
        raise RuntimeError("SECRET")

    async with serving(application) as server:
        async with connected(server) as client:
            await client.send(GET)
            client.writer.write_eof()
            assert (await client.answer())[0] == 500
        await until(lambda: not server.connections)
    assert [record.name for record in caplog.records] == ["mcp_min"]


async def test_an_application_may_refuse() -> None:
    async def application(request: Connection) -> Response:
        raise HttpError(418, "a teapot")

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        status, _, body = await client.answer()
        assert (status, json.loads(body)["sentence"]) == (418, "a teapot")


@pytest.mark.parametrize("problem", [RuntimeError("SECRET"), HttpError(400, "late")])
async def test_a_stream_that_breaks_off_does_not_look_whole(
    problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def application(request: Connection) -> Response:
        await request.stream(200, {}, keep_alive=b":\n\n").write(b"one")
        raise problem

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        data = await client.rest()
        assert data.endswith(b"3\r\none\r\n")
    assert [record.name for record in caplog.records] == ["mcp_min"] * (not isinstance(problem, HttpError))


async def test_one_request_gets_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def application(request: Connection) -> Response:
        await request.stream(200, {}, keep_alive=b":\n\n").write(b"one")
        return 200, {}, b"two"

    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        assert b"two" not in await client.rest()
    assert "answered" in caplog.text


async def test_a_body_is_read_once() -> None:
    async def application(request: Connection) -> Response:
        return 200, {}, await request.body() + await request.body()

    async with serving(application) as server, connected(server) as client:
        await client.send(post(b"hello") + CHUNKED + b"1\r\nx\r\n0\r\n\r\n")
        assert (await client.answer())[2] == b"hello"
        assert (await client.answer())[2] == b"x"


# --- many ----------------------------------------------------------------------------------------


async def test_half_sent_requests_make_room_for_whole_ones() -> None:
    application = Streaming()

    async def either(request: Connection) -> Response | None:
        return await (echo(request) if request.path == "/echo" else application(request))

    good = head("GET /echo HTTP/1.1", "Host: a")
    async with serving(either, connections=20) as server, connected(server) as stream, connected(server) as kept:
        await stream.send(GET)
        application.pieces.put_nowait(b"one")
        await stream.reader.readuntil(b"one\r\n")
        started = [GET[:10], post(b"hello")[:-1].replace(b"/mcp", b"/echo"), b""]
        streams = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)))
        crowd = [Client(*stream) for stream in streams]
        for number, one in enumerate(crowd):
            await one.send(started[number % 3])
        async with connected(server) as client:
            await client.send(good)
            assert (await client.answer())[0] == 200
        await until(lambda: len(server.connections) <= 21)
        assert await kept.rest() in (b"", b"reset")  # the oldest that owed us something went first
        application.pieces.put_nowait(b"two")
        assert await stream.chunk() == b"two"
        for one in crowd:
            one.close()
        await until(lambda: len(server.connections) == 1)


async def test_when_all_are_at_work_the_newcomer_goes() -> None:
    done = asyncio.Event()

    async def application(request: Connection) -> Response:
        await done.wait()
        return 200, {}, b""

    async with serving(application, connections=2) as server, connected(server) as first, connected(server) as second:
        for client in (first, second):
            await client.send(GET)
        await until(lambda: [one.due for one in server.connections] == [inf, inf])
        async with connected(server) as third:
            assert await third.rest() in (b"", b"reset")
        done.set()
        for client in (first, second):
            assert (await client.answer())[0] == 200


@pytest.mark.parametrize("speaks", [None, "before", "after"])
async def test_work_for_a_peer_that_is_lost_takes_no_place(speaks: str | None) -> None:
    works: list[Connection] = []
    begun, lost, full, done = [asyncio.Event() for _ in range(4)]

    async def speak(request: Connection) -> None:
        await request.stream(200, {}, keep_alive=b":ping\n\n").write(b"one")

    async def application(request: Connection) -> None:
        works.append(request)
        if len(works) == 2:
            await full.wait()
            await speak(request)
            return
        request.on_hangup = lost.set
        if speaks == "before":
            await speak(request)
        begun.set()
        await lost.wait()
        if speaks == "after":
            with pytest.raises(OSError, match="over"):
                await speak(request)
        await done.wait()

    async with serving(application, connections=1, streams=1) as server:
        async with connected(server) as first:
            await first.send(GET)
            await begun.wait()
            first.reset()
        await until(lambda: works[0].lost)
        async with connected(server) as second:
            await second.send(GET)
            await until(lambda: len(works) == 2)
            async with connected(server) as third:
                assert await third.rest() in (b"", b"reset"), "there is room for one"
            full.set()
            assert (await second.answer())[2] == b"one"
        assert works[0] in server.connections
        done.set()
        await until(lambda: not server.connections)


async def test_who_has_ended_its_side_makes_room() -> None:
    application = Working()
    async with (
        serving(application, connections=2) as server,
        connected(server) as first,
        connected(server) as second,
    ):
        for client in (first, second):
            await client.send(GET)
            client.writer.write_eof()
        await until(lambda: [one.hung_up and one.due == inf for one in server.connections] == [True, True])
        # Both at once, as in a crowd: each takes the place of another.
        new = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        await until(lambda: len(server.connections) == 4)
        assert [one.lost for one in server.connections] == [True, True, False, False]
        assert await first.rest() in (b"", b"reset")
        application.done.set()
        await until(lambda: len(server.connections) == 2)
        for one in new:
            one.close()


@pytest.mark.parametrize("data", [GET, head("GET / HTTP/1.0")])
async def test_an_answer_on_its_way_is_not_thrown_away_for_a_newcomer(data: bytes) -> None:
    size = 2**25  # more than the sockets hold

    async def application(request: Connection) -> Response:
        return 200, {}, bytes(size)

    async with serving(application, connections=1) as server, connected(server, limit=2**10) as slow:
        slow.writer.transport.pause_reading()
        await slow.send(data)
        await until(lambda: server.connections)
        (connection,) = server.connections
        await until(lambda: connection.writer.transport.get_write_buffer_size())
        async with connected(server) as newcomer:
            assert await newcomer.rest() in (b"", b"reset")
        slow.writer.transport.resume_reading()
        assert len((await slow.answer())[2]) == size


# --- the end -------------------------------------------------------------------------------------


class Working:
    """An application that reads the body and answers when a test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.done = asyncio.Event()

    async def __call__(self, request: Connection) -> Response:
        self.begun.set()
        await self.done.wait()
        return 200, {}, await request.body()


async def test_closing_closes_idle_connections_at_once() -> None:
    async with serving() as server, connected(server) as fresh, connected(server) as used:
        await used.send(GET)
        await used.answer()
        await until(lambda: len(server.connections) == 2)
        await server.close(60)
        assert await fresh.rest() == await used.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


async def test_closing_lets_work_in_flight_be_answered() -> None:
    application = Working()
    async with serving(application) as server, connected(server) as client:
        await client.send(post(b"hello") + GET)
        await application.begun.wait()
        closing = asyncio.ensure_future(server.close(60))
        await until(lambda: server.closing)
        assert not closing.done()
        application.done.set()
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"hello")
        assert await client.rest() == b""
        await asyncio.wait_for(closing, PATIENCE)


@pytest.mark.parametrize("data", [GET[:10], post(b"hello")[:-1]])
async def test_closing_refuses_what_is_not_whole(data: bytes) -> None:
    async with serving() as server, connected(server) as client:
        await client.send(data)
        await until(lambda: server.connections)
        await asyncio.sleep(0.01)
        await server.close(60)
        assert (await client.answer())[0] == 503
        assert await client.rest() == b""


async def test_closing_cancels_work_after_the_deadline() -> None:
    application = Working()
    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        await application.begun.wait()
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        await asyncio.wait_for(server.close(0.05), PATIENCE)
        assert not server.connections
        assert await client.rest() in (b"", b"reset")
        gc.collect()
        assert complaints == []


async def test_closing_does_not_wait_for_work_that_cannot_be_cancelled() -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def application(request: Connection) -> Response:
        begun.set()
        with suppress(asyncio.CancelledError):
            await done.wait()
        await done.wait()
        return 200, {}, b""

    async with serving(application, linger=0.05) as server, connected(server) as client:
        await client.send(GET)
        await begun.wait()
        await asyncio.wait_for(server.close(0.05), PATIENCE)
        assert server.timer.cancelled()
        assert server.connections
        done.set()
        await until(lambda: not server.connections)


async def test_closing_that_is_cancelled_ends_all_at_once() -> None:
    application = Working()
    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        await application.begun.wait()
        closing = asyncio.ensure_future(server.close(60))
        await until(lambda: server.closing)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert server.timer.cancelled()
        await until(lambda: not server.connections)


async def test_closing_with_streams_that_the_application_ends() -> None:
    application = Streaming()
    async with serving(application) as server, connected(server) as client:
        await client.send(GET)
        application.pieces.put_nowait(b"one")
        await client.reader.readuntil(b"one\r\n")
        closing = asyncio.ensure_future(server.close(60))
        await until(lambda: server.closing)
        application.pieces.put_nowait(b"final")
        application.pieces.put_nowait(None)
        await asyncio.wait_for(closing, PATIENCE)
        assert await client.chunk() == b"final"
        assert await client.chunk() == b""
        assert await client.rest() == b""


@pytest.mark.parametrize("stage", ["answer", "stream", "end"])
async def test_closing_does_not_wait_for_a_peer_that_does_not_read(stage: str) -> None:
    async def application(request: Connection) -> Response | None:
        if stage == "answer":
            return 200, {}, b"x" * 2**25
        stream = request.stream(200, {}, keep_alive=b":\n\n")
        while request.writer.transport.get_write_buffer_size() == 0:
            await stream.write(b"x" * (2**25 if stage == "stream" else 1000))
        return None

    async with serving(application) as server, connected(server, limit=2**10) as client:
        client.writer.transport.pause_reading()
        await client.send(head("GET / HTTP/1.0"))
        await until(lambda: server.connections)
        (connection,) = server.connections
        await until(lambda: connection.writer.transport.get_write_buffer_size())
        await until(lambda: connection.writer.is_closing() or stage != "end")
        await asyncio.wait_for(server.close(0.1), PATIENCE)
        assert not server.connections
        await until(lambda: connection.hung_up)  # cut off, not only forgotten


async def test_closing_twice() -> None:
    async with serving() as server:
        await server.close()
        await server.close()


async def test_a_port_that_is_taken() -> None:
    async with serving() as server:
        other = HttpServer(echo, error_body)
        with pytest.raises(OSError, match="in use"):
            await other.start("127.0.0.1", server.port)
        assert not hasattr(other, "timer")


async def test_a_peer_without_an_address(tmp_path: Path) -> None:
    peers: list[str] = []

    async def application(request: Connection) -> Response:
        peers.append(request.peer)
        return await echo(request)

    async with serving(application) as server:
        path = str(tmp_path / "socket")
        listener = await asyncio.get_running_loop().create_unix_server(lambda: Connection(server), path)
        client = Client(*await asyncio.open_unix_connection(path))
        await client.send(GET)
        assert (await client.answer())[0] == 200
        client.close()
        listener.close()
    assert peers == [""]


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT here")
async def test_two_servers_share_a_port() -> None:
    first, second = HttpServer(echo, error_body), HttpServer(echo, error_body)
    await first.start("127.0.0.1", 0, reuse_port=True)
    await second.start("127.0.0.1", first.port, reuse_port=True)
    await first.close()
    async with connected(second) as client:
        await client.send(GET)
        assert (await client.answer())[0] == 200
    await second.close()


# --- the log -------------------------------------------------------------------------------------


async def test_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    async def application(request: Connection) -> Response:
        request.principal = "alice\n"
        return 200, {}, b""

    caplog.set_level(logging.INFO, "mcp_min.access")
    async with serving(application) as server, connected(server) as client:
        await client.send(head("GET /x?y HTTP/1.1", "Host: a") + b"G\nT / HTTP/1.1\r\n\r\n")
        await client.answer()
        await client.answer()
    assert [record.getMessage() for record in caplog.records] == [
        """127.0.0.1 'alice\\n' "GET /x HTTP/1.1" 200""",
        """127.0.0.1 None "" 400""",
    ]


async def test_the_access_log_names_who_hung_up_before_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    working = asyncio.Event()

    async def application(request: Connection) -> Response:
        request.principal = "mallory"
        await request.body()
        task = asyncio.current_task()
        assert task is not None
        request.on_hangup = task.cancel
        working.set()
        await asyncio.Event().wait()
        raise AssertionError("not reached")

    caplog.set_level(logging.INFO, "mcp_min.access")
    async with serving(application) as server:
        for data in (GET[:-1], post(b"hello")[:-1], GET):
            async with connected(server) as client:
                await client.send(data)
                if data == GET:
                    await working.wait()
            await until(lambda: not server.connections)
        async with connected(server) as client:
            await client.send(b"GET /\n HTTP/1.1\r\n\r\n")
            assert (await client.answer())[0] == 400
    assert [record.getMessage() for record in caplog.records] == [
        """127.0.0.1 'mallory' "POST /mcp HTTP/1.1" -""",
        """127.0.0.1 'mallory' "GET / HTTP/1.1" -""",
        """127.0.0.1 None "" 400""",
    ]


async def test_a_request_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    application = Streaming()

    async def either(request: Connection) -> Response | None:
        return await (echo(request) if request.path == "/echo" else application(request))

    caplog.set_level(logging.INFO, "mcp_min.access")
    async with serving(either) as server, connected(server) as client, connected(server) as other:
        await other.send(head("GET /echo HTTP/1.1", "Host: a"))
        await other.answer()
        other.close()
        await client.send(head("GET /echo HTTP/1.1", "Host: a") + GET)
        await client.answer()
        application.pieces.put_nowait(b"one")
        await client.reader.readuntil(b"one\r\n")
        client.close()
        await until(lambda: not server.connections)
    assert [record.getMessage()[-3:] for record in caplog.records] == ["200"] * 3


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context, for a certificate made now."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", *subject]
    command = [openssl, "req", "-x509", *made, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


async def test_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    gone = asyncio.Event()

    async def application(request: Connection) -> Response | None:
        if request.path == "/stream":
            request.on_hangup = gone.set
            await request.stream(200, {}, keep_alive=b":\n\n").write(b"one")
            await gone.wait()
            return None
        return await echo(request)

    async with serving(application, tls=tls[0], linger=0.1) as server, connected(server, ssl=tls[1]) as idle:
        async with connected(server, ssl=tls[1]) as client:
            await client.send(post(b"x" * 2**20))
            assert len((await client.answer())[2]) > 2**20
            await client.send(head("GET /stream HTTP/1.1", "Host: a"))
            await client.reader.readuntil(b"one\r\n")
        await asyncio.wait_for(gone.wait(), PATIENCE)
        async with connected(server, ssl=tls[1]) as refused:
            await refused.send(b"\x00")
            assert (await refused.answer())[0] == 400
            assert await refused.rest() == b""
        await asyncio.wait_for(server.close(60), PATIENCE)
        assert await idle.rest() == b""


async def test_tls_with_a_peer_that_never_begins(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with serving(tls=tls[0], head_timeout=0.05) as server, connected(server) as mute:
        assert await mute.rest() in (b"", b"reset")


async def test_tls_with_a_peer_that_takes_its_time(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    size = 2**24  # more than the sockets hold

    async def application(request: Connection) -> Response:
        return 200, {}, bytes(size)

    limits = {"tls": tls[0], "linger": 0.05}
    async with serving(application, **limits) as server, connected(server, ssl=tls[1], limit=2**10) as slow:
        slow.writer.transport.pause_reading()
        await slow.send(head("GET / HTTP/1.0"))
        asyncio.get_running_loop().call_later(0.3, slow.writer.transport.resume_reading)
        assert len((await slow.answer())[2]) == size


async def handshake(wire: Client, context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """Begin TLS by hand, to say no more than a test wants; what there is to send comes out of the second."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = context.wrap_bio(received, sent, server_hostname="localhost")
    while not peer.version():
        with suppress(ssl.SSLWantReadError):
            peer.do_handshake()
        await wire.send(sent.read())
        if not peer.version():
            received.write(await wire.reader.read(2**16))
    return peer, sent


async def test_tls_with_a_peer_that_never_says_goodbye(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """It keeps nobody out."""
    async with serving(tls=tls[0], connections=1) as server, connected(server) as wire:
        mute, sent = await handshake(wire, tls[1])
        mute.write(head("GET / HTTP/1.0"))
        await wire.send(sent.read())
        await until(lambda: server.connections)
        (connection,) = server.connections
        await until(connection.writer.is_closing)
        async with connected(server, ssl=tls[1]) as client:
            await client.send(GET)
            assert (await client.answer())[0] == 200


async def test_tls_with_a_peer_that_says_goodbye_and_does_not_read(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    """It stops no clock."""

    async def application(request: Connection) -> Response:
        return 200, {}, b"x" * 2**25

    async with serving(application, tls=tls[0], head_timeout=0.2) as server, connected(server, limit=2**10) as wire:
        deaf, sent = await handshake(wire, tls[1])
        wire.writer.transport.pause_reading()
        deaf.write(GET)
        with suppress(ssl.SSLWantReadError):
            deaf.unwrap()
        await wire.send(sent.read())
        await until(lambda: server.connections)
        (connection,) = server.connections
        await until(lambda: connection.hung_up and connection.writer.is_closing())
        async with connected(server, ssl=tls[1]) as slow:
            await slow.send(GET[:10])
            assert (await slow.answer())[0] == 408
    assert caplog.records == []


async def test_tls_with_a_peer_that_never_ends(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with serving(tls=tls[0], write_timeout=0.05) as server, connected(server, ssl=tls[1]) as deaf:
        await deaf.send(GET)
        await deaf.answer()
        deaf.writer.transport.pause_reading()
        await asyncio.wait_for(server.close(60), PATIENCE)
        deaf.writer.transport.abort()


async def test_plain_text_on_a_tls_port_harms_nobody(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with serving(tls=tls[0]) as server:
        async with connected(server) as plain:
            await plain.send(GET)
            assert b"HTTP" not in await plain.rest()
        async with connected(server, ssl=tls[1]) as client:
            await client.send(GET)
            assert (await client.answer())[0] == 200
