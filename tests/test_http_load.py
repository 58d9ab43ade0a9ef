"""The front door under load: floods of streams and half-sent heads, a thousand sessions that go, SIGTERM at work.

Bounds are generous, so that a busy machine passes; `pytest -s` shows what was measured. A number that the
process may not have open at once is scaled down, and the test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from mcp_min import Server, serve_http, spec
from mcp_min.http_server import Connection, HttpServer, Stream
from mcp_min.listener import Listener
from mcp_min.peer import Peer
from mcp_min.sessions import EventStream, HttpSession

HOST = "127.0.0.1"
STREAMS = 1000
HALF_SENT = 5000
SESSIONS = 1000
AT_ONCE = 100  # connections that are opened together: fewer than wait to be accepted
ANSWERED_WITHIN = 0.25  # seconds, five times what is promised
WAIT = 30.0  # seconds until a test gives up
SPARE = 200  # descriptors that everything else may need
MODERN = spec.MODERN[0]
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

# --- a client of bytes ---------------------------------------------------------------------------


def http(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def message(method: str, params: dict[str, object], id: int | None = 1) -> bytes:
    numbered = {} if id is None else {"id": id}
    return json.dumps({"jsonrpc": "2.0", **numbered, "method": method, "params": params}).encode()


def modern(port: int, method: str, name: str = "", **params: object) -> bytes:
    headers = {"Host": f"{HOST}:{port}", "Content-Type": "application/json", "Mcp-Method": method}
    headers |= {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": MODERN}
    if name:
        headers["Mcp-Name"] = name
        params |= {"name": name, "arguments": {}}
    return http("POST", "/mcp", headers, message(method, {**params, "_meta": META}))


def legacy(port: int, session: str = "", method: str = "POST", body: bytes = b"", path: str = "/mcp") -> bytes:
    headers = {"Host": f"{HOST}:{port}", "Content-Type": "application/json"}
    headers["Accept"] = "application/json, text/event-stream"
    if session:
        headers |= {"Mcp-Session-Id": session, "MCP-Protocol-Version": spec.LEGACY[0]}
    return http(method, path, headers, body)


def listen(port: int) -> bytes:
    return modern(port, "subscriptions/listen", notifications={"toolsListChanged": True})


OPEN: set[socket.socket] = set()  # what a test that fails leaves open


async def connect(port: int) -> socket.socket:
    connection = socket.socket()
    OPEN.add(connection)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (HOST, port))
    return connection


async def send(connection: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, data)


async def receive(connection: socket.socket, until: bytes) -> bytes:
    """Read until the bytes have come, or the server has closed the connection."""
    received = b""
    async with asyncio.timeout(WAIT):
        while until not in received:
            with contextlib.suppress(ConnectionError):
                if more := await asyncio.get_running_loop().sock_recv(connection, 2**16):
                    received += more
                    continue
            break
    return received


async def exchange(connection: socket.socket, request: bytes) -> tuple[bytes, bytes]:
    """Return the head and the body of a response that has a length; b"" when the server closed instead."""
    await send(connection, request)
    head, _, body = (await receive(connection, b"\r\n\r\n")).partition(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"content-length: ")
    missing = int(length.split(b"\r\n")[0] or 0) - len(body) if length else 0
    while missing > 0:
        more = await asyncio.get_running_loop().sock_recv(connection, missing)
        assert more, "an answer without its end"
        body += more
        missing -= len(more)
    return head, body


async def opened(port: int, number: int, first: bytes, until: bytes = b"") -> list[socket.socket]:
    """Open connections, send the same bytes on each, and read until those that show it has begun."""

    async def open_one() -> socket.socket:
        connection = await connect(port)
        await send(connection, first)
        if until:
            assert until in await receive(connection, until)
        return connection

    connections: list[socket.socket] = []
    while len(connections) < number:
        some = min(AT_ONCE, number - len(connections))
        connections += await asyncio.gather(*(open_one() for _ in range(some)))
    return connections


async def becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110  # what happens inside the server has no event
            await asyncio.sleep(0)


def shut(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()
        OPEN.discard(connection)


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[int]:
    """How many sockets may be open at once: as many as this user can have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(soft, min(hard, 20_000)) if hard != resource.RLIM_INFINITY else 20_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    yield most - SPARE
    shut(list(OPEN))
    OPEN.clear()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server() -> Server:
    server = Server("load", version="1")

    @server.tool
    async def quick() -> str:
        """Answer at once."""
        return "done"

    return server


# --- a good request among bad ones ---------------------------------------------------------------


async def test_a_good_request_among_streams_and_half_sent_heads(server: Server, descriptors: int) -> None:
    """Both ends are in this process, and so is the load: the time is an upper bound."""
    # Each connection has two ends, but the server keeps no more half-sent heads than it takes connections.
    heads = min(HALF_SENT, descriptors - 2 * STREAMS - 1000)
    if heads < 100:
        pytest.skip(f"{descriptors} descriptors are too few for {STREAMS} streams; see ulimit -n")
    times: list[float] = []
    kept: list[socket.socket] = []
    async with serve_http(server, HOST, 0, head_timeout=WAIT) as serving:
        port = serving.port
        kept += await opened(port, STREAMS, listen(port), until=b"subscriptions/acknowledged")
        kept += await opened(port, heads, b"POST /mcp HTTP/1.1\r\nHost: ")
        for _ in range(40):  # each on a connection of its own: that it gets one is part of the promise
            start = time.perf_counter()
            connection = await connect(port)
            head, body = await exchange(connection, modern(port, "tools/call", "quick"))
            times.append(time.perf_counter() - start)
            connection.close()
            assert head.startswith(b"HTTP/1.1 200"), head
            assert b"done" in body
        server_side = [one for one in gc.get_objects() if isinstance(one, HttpServer)][-1]
        assert len(server_side.streams) == STREAMS, "no flood of heads may end a stream"
        assert len(server_side.connections) <= STREAMS + server_side.limits.connections
        shut(kept)
        await becomes(lambda: not server_side.streams and not server_side.connections)
    scaled = "" if heads == HALF_SENT else f", scaled down from {HALF_SENT} by ulimit -n"
    print(f"\n{STREAMS} streams and {heads} half-sent heads{scaled}:", end=" ")
    print(f"median {1000 * median(times):.1f} ms, slowest {1000 * max(times):.1f} ms")
    assert median(times) < ANSWERED_WITHIN


# --- sessions that go ----------------------------------------------------------------------------

KINDS = (HttpSession, EventStream, Peer, Listener, Connection, Stream)


def alive() -> dict[str, int]:
    gc.collect()
    counts = dict.fromkeys((kind.__name__ for kind in KINDS), 0)
    for thing in gc.get_objects():
        if type(thing) in KINDS:
            counts[type(thing).__name__] += 1
    return counts


async def open_session(connection: socket.socket, port: int) -> str:
    hello = {"protocolVersion": spec.LEGACY[0], "capabilities": {}, "clientInfo": {"name": "load", "version": "1"}}
    head, _ = await exchange(connection, legacy(port, body=message("initialize", hello)))
    session = head.lower().partition(b"mcp-session-id: ")[2].split(b"\r\n")[0].decode()
    accepted, _ = await exchange(
        connection, legacy(port, session, body=message("notifications/initialized", {}, id=None))
    )
    assert accepted.startswith(b"HTTP/1.1 202"), accepted
    return session


async def left_by_delete(port: int, number: int) -> int:
    connection = await connect(port)
    sessions = {await open_session(connection, port) for _ in range(number)}
    for session in sessions:
        head, _ = await exchange(connection, legacy(port, session, "DELETE"))
        assert head.startswith(b"HTTP/1.1 204"), head
    connection.close()
    return len(sessions)


async def left_alone(port: int, number: int) -> int:
    connection = await connect(port)
    sessions = {await open_session(connection, port) for _ in range(number)}
    connection.close()
    return len(sessions)


async def left_with_a_stream(port: int, number: int) -> int:
    """Hang up on a GET stream; the session outlives it, until nobody has used it for too long."""
    connection = await connect(port)
    for _ in range(number):
        session = await open_session(connection, port)
        shut(await opened(port, 1, legacy(port, session, "GET"), until=b"\r\n\r\n"))
    connection.close()
    return number


async def left_by_hang_up(port: int, number: int) -> int:
    """Hang up on HTTP+SSE, where the session lasts as long as its stream."""
    streams = await opened(port, number, legacy(port, method="GET", path="/sse"), until=b"session_id=")
    shut(streams)
    return len(streams)


WAYS = {
    "DELETE": (left_by_delete, 1800.0),
    "idle limit": (left_alone, 0.2),
    "hang-up, then idle limit": (left_with_a_stream, 0.2),
    "hang-up of HTTP+SSE": (left_by_hang_up, 1800.0),
}


@pytest.mark.parametrize("way", WAYS)
async def test_sessions_leave_nothing_behind(server: Server, way: str) -> None:
    leave, session_idle = WAYS[way]
    outside = alive()
    async with serve_http(server, HOST, 0, session_idle=session_idle) as serving:
        assert serving.sessions is not None
        table = serving.sessions.table
        server_side = [one for one in gc.get_objects() if isinstance(one, HttpServer)][-1]

        def empty() -> bool:
            return not table and not server_side.connections and not server_side.streams

        await leave(serving.port, 50)  # what is made once, such as caches, is made now
        await becomes(empty)
        await becomes(lambda: alive() == outside)
        objects = len(gc.get_objects())
        assert await leave(serving.port, SESSIONS) == SESSIONS
        await becomes(empty)
        await becomes(lambda: alive() == outside)
        grown = len(gc.get_objects()) - objects
        assert grown < SESSIONS / 2, f"{grown} objects more than before, after {SESSIONS} sessions"


# --- SIGTERM -------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys
from mcp_min import Server

server = Server("load", version="1")
begun = answered = 0

@server.tool
async def work() -> str:
    global begun, answered
    begun += 1
    await asyncio.sleep(0.5)
    answered += 1
    return "done"

@server.tool
async def quick() -> str:
    global answered
    answered += 1
    return "done"

@server.tool
async def working() -> str:
    return f"begun={begun}."

@server.tool
async def endless() -> str:
    global begun
    begun += 1
    await asyncio.Event().wait()

server.run("http", port=0, deadline=float(sys.argv[1]))
print("answered", answered)
"""


@contextlib.asynccontextmanager
async def child(deadline: float) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A real server process, and its port."""
    command = [sys.executable, "-c", PROGRAM, str(deadline)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    pipes = {"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, env=environment, **pipes)
    try:
        assert process.stderr is not None
        line = await process.stderr.readline()
        yield process, int(line.rpartition(b":")[2].partition(b"/")[0])
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def has_begun(port: int, number: int) -> None:
    """Ask the child until so many handlers are at work."""
    connection = await connect(port)
    async with asyncio.timeout(WAIT):
        body = b""
        while f"begun={number}.".encode() not in body:
            head, body = await exchange(connection, modern(port, "tools/call", "working"))
            assert head.startswith(b"HTTP/1.1 200"), (head, body)
    connection.close()


async def hammer(port: int) -> int:
    """Call, one call after the other, until the server closes; return how many answers came, each of them whole."""
    connection, answers = await connect(port), 0
    with contextlib.suppress(ConnectionError):
        while True:
            head, body = await exchange(connection, modern(port, "tools/call", "quick"))
            if not head.startswith(b"HTTP/1.1 200"):
                break
            assert b"done" in body
            answers += 1
            if b"connection: close" in head.lower():
                break
    connection.close()
    return answers


async def test_sigterm_under_load_loses_no_answer() -> None:
    deadline = 10.0
    async with child(deadline) as (process, port):
        keeper = await connect(port)
        sessions = [await open_session(keeper, port) for _ in range(25)]
        streams = await opened(port, 50, listen(port), until=b"subscriptions/acknowledged")
        half_sent = await opened(port, 100, b"POST /mcp HTTP/1.1\r\nHost: ")
        calls = [modern(port, "tools/call", "work")] * 25
        body = message("tools/call", {"name": "work", "arguments": {}})
        calls += [legacy(port, session, body=body) for session in sessions]
        connections = [await connect(port) for _ in calls]
        hammers = [asyncio.ensure_future(hammer(port)) for _ in range(8)]
        working = [
            asyncio.ensure_future(exchange(connection, call))
            for connection, call in zip(connections, calls, strict=True)
        ]
        await has_begun(port, len(calls))
        start = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*working)
        rapid = await asyncio.gather(*hammers)
        # A stream ends with its result and its last chunk, and not just with the connection.
        ends = await asyncio.gather(*(receive(stream, b"\r\n0\r\n\r\n") for stream in streams))
        out, err = await process.communicate()
        took = time.perf_counter() - start
        shut([*connections, *streams, *half_sent, keeper])
    assert [head.split(b" ")[1] for head, _ in answers] == [b"200"] * len(calls)
    assert all(b"done" in body for _, body in answers)
    assert all(b'"result"' in end and end.endswith(b"\r\n0\r\n\r\n") for end in ends)
    assert out.decode().split() == ["answered", str(len(calls) + sum(rapid))], "every handler that ran was heard"
    assert process.returncode == 0
    assert b"Traceback" not in err, err
    print(f"\nSIGTERM with {len(calls)} calls at work and {sum(rapid)} answered on the way: ended after {took:.2f} s")
    assert took < deadline


@pytest.mark.parametrize("era", ["modern", "session", "HTTP+SSE"])
async def test_sigterm_ends_within_its_deadline(era: str) -> None:
    deadline = 0.5
    async with child(deadline) as (process, port):
        connection = await connect(port)
        body = message("tools/call", {"name": "endless", "arguments": {}})
        if era == "modern":
            await send(connection, modern(port, "tools/call", "endless"))
        elif era == "session":
            await send(connection, legacy(port, await open_session(connection, port), body=body))
        else:
            await send(connection, legacy(port, method="GET", path="/sse"))
            told = await receive(connection, b"session_id=")  # the event is written whole
            where = told.partition(b"data: ")[2].split()[0].decode()
            poster = await connect(port)
            hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
            for posted in (message("initialize", hello), body):
                head, _ = await exchange(poster, legacy(port, body=posted, path=where))
                assert head.startswith(b"HTTP/1.1 202"), head
            poster.close()
        await has_begun(port, 1)
        start = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        took = time.perf_counter() - start
        connection.close()
    print(f"\nended {took:.2f} s after SIGTERM, the deadline being {deadline} s")
    assert process.returncode == 0
    assert b"Traceback" not in err, err
    assert took < deadline + 2
