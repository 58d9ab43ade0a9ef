"""What every transport must do, as one function for all of them: `check_transport(factory)`.

A factory is an async context manager that gives the client's and the server's end of a fresh
connection. A new transport adds a line to FACTORIES; a transport of one's own may call the function.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile

import pytest

from mcp_min.jsonrpc import ConnectionClosed
from mcp_min.stdio import FileStream
from mcp_min.stream import ConnectionStream, LineTransport, connect_tcp, connect_unix, memory_pair

# --- the transports ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def memory():
    client, server = memory_pair()
    yield client, server
    await client.close()
    await server.close()


@contextlib.asynccontextmanager
async def sockets(start, connect):
    accepted = asyncio.get_running_loop().create_future()
    listening = await start(lambda *connection: accepted.set_result(connection))
    client = await connect(listening.sockets[0].getsockname())
    server = LineTransport(ConnectionStream(*await accepted), "answer")
    try:
        yield client, server
    finally:
        await client.close()
        await server.close()
        listening.close()
        await listening.wait_closed()


def tcp():
    return sockets(
        lambda connected: asyncio.start_server(connected, "127.0.0.1", 0), lambda name: connect_tcp(name[0], name[1])
    )


@contextlib.asynccontextmanager
async def unix():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        async with sockets(lambda connected: asyncio.start_unix_server(connected, path), connect_unix) as pair:
            yield pair


def pipe():
    source, target = os.pipe()
    return os.fdopen(source, "rb", buffering=0), os.fdopen(target, "wb", buffering=0)


@contextlib.asynccontextmanager
async def pipes():
    """Two pipes, as between a client and its child's standard streams."""
    (there, to_server), (back, to_client) = pipe(), pipe()
    client = LineTransport(FileStream(back, to_server), "skip")
    server = LineTransport(FileStream(there, to_client), "answer")
    yield client, server
    await client.close()
    await server.close()


FACTORIES = {"memory": memory, "unix": unix, "tcp": tcp, "pipes": pipes}

# --- what holds for all --------------------------------------------------------------------------


def note(n, text=""):
    return {"jsonrpc": "2.0", "method": "note", "params": {"n": n, "text": text}}


async def take(reader, count):
    return [await anext(reader) for _ in range(count)]


async def rest(reader):
    """What still comes; a connection that breaks has ended too."""
    messages = []
    with contextlib.suppress(ConnectionClosed):
        async for message in reader:
            messages.append(message)
    return messages


async def stuck(task, progress):
    """Wait until the task makes no more progress; it must not be done then."""
    before = None
    while before != progress():
        before = progress()
        for _ in range(50):
            await asyncio.sleep(0)
    assert not task.done()


async def write_all(transport, messages, written=None):
    for message in messages:
        await transport.write(message)
        if written is not None:
            written.append(message)


async def write_until_refused(transport):
    """What is on its way when the other end closes may be lost without a word, but not for ever."""
    for _ in range(1000):
        await transport.write(note(2))
        await asyncio.sleep(0)


async def keeps_order(client, server):
    messages = [note(n) for n in range(500)]
    for sender, receiver in [(client, server), (server, client)]:
        writing = asyncio.create_task(write_all(sender, messages))
        assert await take(receiver.read(), 500) == messages
        await writing


async def carries_what_is_ready_together(client, server):
    await asyncio.gather(*(client.write(note(n)) for n in range(100)))
    assert [message["params"]["n"] for message in await take(server.read(), 100)] == list(range(100))


async def carries_any_size(client, server):
    reading = server.read()
    for size in [0, 1, 65_535 - 70, 65_536, 65_537, 2**20, 5 * 2**20]:
        writing = asyncio.create_task(client.write(note(1, "x" * size)))
        assert await anext(reading) == note(1, "x" * size)
        await writing


async def carries_any_text(client, server):
    text = "\n\r\n\u2028\u2029\x85\0\x1b é世🎉 \\n \" '"
    for sender, receiver in [(client, server), (server, client)]:
        await sender.write(note(1, text))
        await sender.write({"jsonrpc": "2.0", "method": text})
        assert await take(receiver.read(), 2) == [note(1, text), {"jsonrpc": "2.0", "method": text}]


async def carries_both_directions_at_once(client, server):
    messages = [note(n, "x" * 20_000) for n in range(200)]
    ours, theirs, *_ = await asyncio.gather(
        take(client.read(), 200), take(server.read(), 200), write_all(client, messages), write_all(server, messages)
    )
    assert ours == theirs == messages


async def carries_batches_as_lists(client, server):
    batch = [note(1), note(2)]
    for sender, receiver in [(client, server), (server, client)]:
        await sender.write(batch)
        await sender.write(note(3))
        assert await take(receiver.read(), 2) == [batch, note(3)]


async def refuses_what_is_not_json_and_goes_on(client, server):
    for value in [object(), float("nan"), "\ud800"]:
        with pytest.raises((TypeError, ValueError)):
            await client.write(note(1, value))
    await client.write(note(2))
    assert await anext(server.read()) == note(2)


async def makes_a_fast_writer_wait(client, server):
    for sender, receiver in [(client, server), (server, client)]:
        messages, written = [note(n, "x" * 2**16) for n in range(500)], []
        writing = asyncio.create_task(write_all(sender, messages, written))
        await stuck(writing, lambda written=written: len(written))
        assert len(written) < 350  # 22 MB at most are on their way, those in the kernel included
        assert await take(receiver.read(), 500) == messages
        await writing


async def survives_the_cancellation_of_a_write(client, server):
    written = []
    messages = [note(n, "x" * 2**16) for n in range(500)]
    writing = asyncio.create_task(write_all(client, messages, written))
    await stuck(writing, lambda: len(written))
    writing.cancel()
    await asyncio.wait([writing])
    last = asyncio.create_task(client.write(note(-1)))
    # The message that was being written has been sent whole or will be.
    assert await take(server.read(), len(written) + 2) == [*messages[: len(written) + 1], note(-1)]
    await last


async def delivers_what_was_written_before_the_close(client, server):
    for n in range(100):
        await client.write(note(n))
    closing = asyncio.create_task(client.close())
    assert [message["params"]["n"] for message in await rest(server.read())] == list(range(100))
    await closing


async def closes_from_the_client(client, server):
    await _closes(client, server)


async def closes_from_the_server(client, server):
    await _closes(server, client)


async def _closes(closer, other):
    reading = asyncio.create_task(rest(other.read()))
    own = asyncio.create_task(rest(closer.read()))
    await asyncio.sleep(0)
    await closer.close()
    assert await reading == []
    assert await own == []
    with pytest.raises(ConnectionClosed):
        await closer.write(note(1))
    with pytest.raises(ConnectionClosed):
        await write_until_refused(other)
    await other.close()
    with pytest.raises(ConnectionClosed):
        await other.write(note(3))


async def closes_twice_and_from_any_task(client, server):
    reading = asyncio.create_task(rest(client.read()))
    await asyncio.sleep(0)
    await asyncio.gather(client.close(), client.close(), asyncio.create_task(client.close()))
    await client.close()
    assert await reading == []
    await asyncio.gather(server.close(), client.close())


async def a_cancelled_close_does_not_spoil_the_next(client, server):
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await client.close()
    with pytest.raises(ConnectionClosed):
        await client.write(note(1))
    assert await rest(server.read()) == []


CHECKS = [
    keeps_order,
    carries_what_is_ready_together,
    carries_any_size,
    carries_any_text,
    carries_both_directions_at_once,
    carries_batches_as_lists,
    refuses_what_is_not_json_and_goes_on,
    makes_a_fast_writer_wait,
    survives_the_cancellation_of_a_write,
    delivers_what_was_written_before_the_close,
    closes_from_the_client,
    closes_from_the_server,
    closes_twice_and_from_any_task,
    a_cancelled_close_does_not_spoil_the_next,
]


async def check_transport(factory, checks=CHECKS):
    """Run every check, each on a connection of its own."""
    for check in checks:
        async with asyncio.timeout(30), factory() as (client, server):
            await check(client, server)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
async def test_transport(factory, check):
    await check_transport(factory, [check])
