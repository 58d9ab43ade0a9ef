"""Lines over byte streams: framing, garbage, closing, a server of one connection. More is in test_transports.py."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import tracemalloc
from types import SimpleNamespace

import pytest
from framing import read_all

from mcp_min import stream
from mcp_min.dispatcher import Dispatcher
from mcp_min.jsonrpc import ConnectionClosed, RpcError, decode, encode
from mcp_min.stream import ConnectionStream, LineTransport, answer, memory_pair
from mcp_min.targets import connect_tcp

A, B = {"jsonrpc": "2.0", "method": "a"}, {"jsonrpc": "2.0", "method": "b"}


def request(method, params=None, id=1):
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}


class Script:
    """A byte stream that receives what the test says, and keeps what is sent."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)
        self.sent = b""
        self.closed = False

    async def receive(self):
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def send(self, data):
        self.sent += data

    async def close(self):
        self.closed = True


async def read(transport):
    return [message async for message in transport.read()]


# --- lines ---------------------------------------------------------------------------------------


async def test_lines_are_messages_both_ways():
    script = Script(encode(A)[:5], encode(A)[5:] + encode(B))
    transport = LineTransport(script, "answer")
    assert await read(transport) == [A, B]
    await transport.write(A)
    await transport.write([A, B])
    assert script.sent == encode(A) + encode([A, B])
    await transport.close()
    assert script.closed


async def test_the_last_line_may_lack_its_newline():
    assert await read(LineTransport(Script(encode(A) + encode(B)[:-1]), "skip")) == [A, B]


async def test_a_broken_stream_raises():
    reading = LineTransport(Script(encode(A), ConnectionClosed("reset")), "skip").read()
    assert await anext(reading) == A
    with pytest.raises(ConnectionClosed, match="reset"):
        await anext(reading)


GARBAGE = [b"print()\n", b'{"id":7}\n', b"x" * 100 + b"\n"]


async def test_a_client_skips_garbage(caplog):
    script = Script(*GARBAGE, encode(A))
    assert await read(LineTransport(script, "skip", max_line=99)) == [A]
    assert script.sent == b""
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert "max_line" in caplog.records[2].getMessage()


async def test_a_server_answers_garbage():
    script = Script(*GARBAGE, encode(A))
    assert await read(LineTransport(script, "answer", max_line=99)) == [A]
    answers = [decode(line) for line in script.sent.splitlines()]
    assert [(message.get("id"), message["error"]["code"]) for message in answers] == [
        (None, -32700),
        (7, -32600),
        (None, -32600),
    ]


async def test_a_server_on_a_port_answers_garbage_once_and_reads_no_further():
    """A web page can have a browser post JSON to any port; the first line is HTTP then."""
    post = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n\r\n" + encode(request("tools/call"))
    script = Script(post)
    with pytest.raises(ConnectionClosed, match="no message"):
        await read(LineTransport(script, "close"))
    assert decode(script.sent)["error"]["code"] == -32700


# --- sockets -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def connected():
    """A client transport, and the server's socket as a stream of ours."""
    accepted = asyncio.get_running_loop().create_future()
    listening = await asyncio.start_server(lambda *pair: accepted.set_result(pair), "127.0.0.1", 0)
    client = await connect_tcp(*listening.sockets[0].getsockname())
    reader, writer = await accepted
    try:
        yield SimpleNamespace(client=client, server=ConnectionStream(reader, writer), reader=reader, writer=writer)
    finally:
        await client.close()
        writer.close()
        listening.close()
        await listening.wait_closed()


async def test_a_reset_connection_is_closed():
    async with connected() as pair:
        pair.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.writer.transport.abort()
        with pytest.raises(ConnectionClosed, match="the connection broke"):
            await pair.client.stream.receive()
        with pytest.raises(ConnectionClosed):
            await pair.client.write(A)


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNRESET])
async def test_what_the_network_reports_is_a_closed_connection(number):
    async with connected() as pair:
        pair.reader.set_exception(OSError(number, "the network said so"))
        with pytest.raises(ConnectionClosed, match="the network said so"):
            await pair.server.receive()
        with pytest.raises(ConnectionClosed, match="the network said so"):
            await pair.server.send(b"a")


async def test_close_does_not_wait_for_a_reader_that_does_not_read(monkeypatch):
    monkeypatch.setattr(stream, "CLOSE_TIMEOUT", 0.01)
    async with connected() as pair:
        sending = asyncio.create_task(pair.server.send(b"x" * 2**26))
        await asyncio.sleep(0)
        assert not sending.done()
        impatient, closing = (asyncio.create_task(pair.server.close()) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(ConnectionClosed, match="the connection is closed"):
            await pair.server.send(b"a")
        await closing
        await pair.server.close()
        await asyncio.wait([sending])
        with pytest.raises(ConnectionClosed):
            await pair.server.send(b"a")


async def test_close_waits_for_nothing_else(monkeypatch):
    monkeypatch.setattr(stream, "CLOSE_TIMEOUT", 1000)
    async with connected() as pair:
        assert pair.writer.transport.get_write_buffer_limits()[1] == stream.HIGH_WATER
        async with asyncio.timeout(10):
            await pair.server.close()
            assert await pair.client.stream.receive() == b""


# --- memory --------------------------------------------------------------------------------------


async def test_memory_carries_bytes():
    client, server = memory_pair()
    await client.stream.send(encode(A)[:-1])
    await client.close()
    assert await read(server) == [A]
    assert await client.stream.receive() == b""
    with pytest.raises(ConnectionClosed):
        await server.write(A)


async def test_memory_waits_past_the_high_water_mark():
    client, server = memory_pair()
    await client.stream.send(b"x" * stream.HIGH_WATER)
    sending = asyncio.create_task(client.stream.send(b"y"))
    await asyncio.sleep(0)
    assert not sending.done()
    assert len(await server.stream.receive()) == stream.HIGH_WATER + 1
    await sending
    sending = asyncio.create_task(client.stream.send(b"x" * (stream.HIGH_WATER + 1)))
    await asyncio.sleep(0)
    await server.close()  # nobody will read it, so nobody waits
    await sending


# --- a server ------------------------------------------------------------------------------------


class Slow:
    """A handler that ends when told."""

    def __init__(self):
        self.begun, self.go, self.ended = asyncio.Event(), asyncio.Event(), ""

    async def __call__(self, params, call):
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        return params


async def echo(params, call):
    return params


async def test_a_server_answers_until_its_client_closes():
    client, server = memory_pair()
    serving = asyncio.create_task(answer(server, Dispatcher({"echo": echo}).dispatch))
    reading = client.read()
    await client.write(request("echo", {"a": 1}))
    assert await anext(reading) == {"jsonrpc": "2.0", "id": 1, "result": {"a": 1}}
    await client.close()
    await serving


async def test_the_end_of_input_ends_reading_only():
    slow, script = Slow(), Script(encode(request("slow", {"n": 1})))
    transport, dispatch = LineTransport(script, "answer"), Dispatcher({"slow": slow}).dispatch
    serving = asyncio.create_task(answer(transport, dispatch, drain=30, grace=0))
    await slow.begun.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not serving.done()
    slow.go.set()
    await serving
    assert decode(script.sent) == {"jsonrpc": "2.0", "id": 1, "result": {"n": 1}}
    assert script.closed


async def test_what_does_not_finish_after_the_end_of_input_is_cancelled():
    slow, script = Slow(), Script(encode(request("slow")))
    await answer(LineTransport(script, "answer"), Dispatcher({"slow": slow}).dispatch, drain=0.01)
    assert (slow.ended, script.sent, script.closed) == ("cancelled", b"", True)


async def test_a_cancelled_server_gives_what_is_in_flight_a_moment():
    client, server = memory_pair()
    quick, slow = Slow(), Slow()
    dispatch = Dispatcher({"quick": quick, "slow": slow}).dispatch
    serving = asyncio.create_task(answer(server, dispatch, drain=1000, grace=0.01))
    await client.write(request("quick", id=1))
    await client.write(request("slow", id=2))
    await asyncio.gather(quick.begun.wait(), slow.begun.wait())
    serving.cancel()
    quick.go.set()
    assert [message["id"] for message in await read(client)] == [1]
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert slow.ended == "cancelled"


async def test_a_cancelled_server_reads_no_more():
    class Endless(Script):
        async def receive(self):
            await asyncio.Event().wait()

    script = Endless()
    serving = asyncio.create_task(answer(LineTransport(script, "answer"), Dispatcher({}).dispatch))
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait([serving])
    await asyncio.sleep(0)
    assert script.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_transport_that_fails_is_closed_and_heard_of():
    script = Script(encode(request("echo")), RuntimeError("a bug in the transport"))
    with pytest.raises(RuntimeError, match="a bug in the transport"):
        await answer(LineTransport(script, "answer"), Dispatcher({"echo": echo}).dispatch)
    assert decode(script.sent)["result"] == {}
    assert script.closed


async def test_a_server_whose_connection_breaks_closes_it():
    script = Script(encode(request("echo")), ConnectionClosed("reset"))
    await answer(LineTransport(script, "answer"), Dispatcher({"echo": echo}).dispatch)
    assert decode(script.sent)["result"] == {}
    assert script.closed


# --- framing -------------------------------------------------------------------------------------


def shown(items):
    """Items with errors as their codes, so that they can be compared."""
    return [item.code if isinstance(item, RpcError) else item for item in items]


@pytest.mark.parametrize(
    ("stream", "items"),
    [
        (b"", []),
        (b"\n\n \n\t\r\n", []),
        (encode(A), [A]),
        (encode(A) + encode(B), [A, B]),
        (encode(A)[:-1] + b"\r\n" + encode(B), [A, B]),
        (encode(A) + encode(B)[:-1], [A, B]),
        (b"print()\n" + encode(A), [-32700, A]),
        (b"{}\n" + encode(A), [-32600, A]),
        (b"[]\n" + encode([A, B]) + b"[1]\n", [[], [A, B], [1]]),
        (b"[1\n", [-32700]),
        ('{"jsonrpc":"2.0","method":"\u2028\u0085"}\n'.encode(), [{"jsonrpc": "2.0", "method": "\u2028\u0085"}]),
        (b"\xff\n" + encode(A), [-32700, A]),
        (b"\0\n" + encode(A), [-32700, A]),
    ],
)
def test_framing(stream, items):
    assert shown(read_all([stream] if stream else [])) == items
    assert shown(read_all([bytes([byte]) for byte in stream])) == items


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 16 * 2**20])
def test_long_lines(length):
    message = {"jsonrpc": "2.0", "method": "a", "params": {"x": ""}}
    message["params"]["x"] = "x" * (length - len(encode(message)) + 1)
    line = encode(message)
    assert len(line) == length + 1
    assert read_all([line[start : start + 65_536] for start in range(0, len(line), 65_536)]) == [message]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_a_line_over_the_limit_is_skipped_and_the_next_one_read(chunk):
    stream = encode(A) + b"x" * 65 + b"\n" + encode(B) + b"y" * 1000 + b"\n\n" + b"z" * 64 + b"\n" + encode(A)
    items = read_all([stream[start : start + chunk] for start in range(0, len(stream), chunk)], 64)
    assert shown(items) == [A, -32600, B, -32600, -32700, A]
    assert items[1].data == {"details": "a line has more than 64 bytes (option max_line)"}


@pytest.mark.parametrize(("piece", "count", "most"), [(b"x" * 2**16, 1000, 2**19), (b"xy", 2**15, 2**18)])
def test_a_line_that_never_ends_takes_little_memory(piece, count, most):
    tracemalloc.start()
    items = read_all([piece] * count, 2**16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown(items) in ([-32600], [-32700])
    assert peak < most + 8 * count
