"""What every transport must do, as one function for all of them: `check_transport(factory)`.

A factory is an async context manager that serves `every_feature.py` over a transport and gives a
function `connect(**options)`, which returns a Client. A new transport adds a line to FACTORIES; a
transport of one's own may call the function.

Those that carry messages both ways, and nothing else, have both ends at hand here: CHANNELS are
checked more closely, by `check_channel`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest
from every_feature import make_server
from raw_peers import others, until

from mcp_min import Client, RpcError, StdioServerParameters, serve_http, serve_tcp, serve_unix
from mcp_min.jsonrpc import ConnectionClosed
from mcp_min.stdio import FileStream
from mcp_min.stream import ConnectionStream, LineTransport, memory_pair
from mcp_min.targets import connect_tcp, connect_unix

TESTS = Path(__file__).parent
MODERN, LEGACY, OLDEST = "2026-07-28", "2025-11-25", "2024-11-05"

# --- a server behind each transport --------------------------------------------------------------


@contextlib.asynccontextmanager
async def in_memory():
    server = make_server()
    yield lambda **options: Client(server, **options)


@contextlib.asynccontextmanager
async def child_process():
    env = {"PYTHONPATH": str(TESTS.parent)}
    parameters = StdioServerParameters(sys.executable, [str(TESTS / "every_feature.py")], env, grace=0.2)
    yield lambda **options: Client(parameters, **options)


@contextlib.asynccontextmanager
async def unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        async with serve_unix(make_server(), path):
            yield lambda **options: Client(Dialled(lambda: connect_unix(path)), **options)


@contextlib.asynccontextmanager
async def tcp_socket():
    async with serve_tcp(make_server()) as listening:
        host, port = listening.sockets[0].getsockname()
        yield lambda **options: Client(Dialled(lambda: connect_tcp(host, port)), **options)


class Dialled:
    """A transport that connects when it is first read, since a factory's function cannot wait."""

    def __init__(self, dial):
        self.transport = asyncio.ensure_future(dial())

    async def read(self):
        async for message in (await self.transport).read():
            yield message

    async def write(self, message):
        await (await self.transport).write(message)

    async def close(self):
        await (await self.transport).close()


def over_http(path="/mcp", **options):
    @contextlib.asynccontextmanager
    async def factory():
        async with serve_http(make_server(), port=0, **options) as http:
            yield lambda **options: Client(http.url.replace("/mcp", path), **options)

    return factory


FACTORIES = {
    "memory": (in_memory, [MODERN, LEGACY]),
    "stdio": (child_process, [MODERN, LEGACY]),
    "unix": (unix_socket, [MODERN, LEGACY]),
    "tcp": (tcp_socket, [MODERN, LEGACY]),
    "http, stateless": (over_http(stateless=True), [MODERN]),
    "http, with sessions": (over_http(), [MODERN, LEGACY]),
    "http+sse": (over_http("/sse"), [OLDEST]),
}

# --- what holds for all --------------------------------------------------------------------------


async def lists_and_calls(connect):
    async with connect() as client:
        assert client.server_info["name"] == "every feature"
        assert client.instructions == "Try it."
        tools = [tool["name"] for tool in await client.list_tools()]
        assert tools == ["echo", "work", "wait", "release", "was_cancelled", "meet", "ask", "fail", "change"]
        assert text(await client.call_tool("echo", {"text": "é世🎉\u2028\n"})) == "é世🎉\u2028\n"
        await client.ping()


async def reports_progress(connect):
    async with connect() as client:
        seen = []
        result = await client.call_tool("work", {"steps": 3}, on_progress=lambda *told: seen.append(told))
        messages = [None] * 3 if client.protocol_version == OLDEST else ["step 1", "step 2", "step 3"]
        assert seen == [(1, 3, messages[0]), (2, 3, messages[1]), (3, 3, messages[2])]
        assert text(result) == "done"


async def sends_logs(connect):
    logs = []
    async with connect(on_log=logs.append) as client:
        await client.set_log_level("info")
        await client.call_tool("work", {"steps": 2})
        assert logs == [{"level": "warning", "logger": "work", "data": {"step": step}} for step in (1, 2)]


async def cancels(connect):
    async with connect() as client:
        for name in ("by the caller", "by time"):
            began = asyncio.Event()
            timeout = None if name == "by the caller" else 0.1
            waiting = client.call_tool(
                "wait", {"name": name}, timeout=timeout, on_progress=lambda *_, began=began: began.set()
            )
            calling = asyncio.create_task(waiting)
            await began.wait()
            if timeout is None:
                calling.cancel()
            with pytest.raises((asyncio.CancelledError, TimeoutError)):
                await calling
            while text(await client.call_tool("was_cancelled", {"name": name})) != "true":
                pass
        assert text(await client.call_tool("was_cancelled", {"name": "another"})) == "false"


async def asks_the_client(connect):
    names = iter(["Ada", "Bo"])
    sampled = {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"}
    options = {
        "on_elicit": lambda params: {"action": "accept", "content": {"name": next(names)}},
        "on_sample": lambda params: sampled,
        "roots": [{"uri": "file:///a"}],
    }
    async with connect(**options) as client:
        result = await client.call_tool("ask")
        answers = result["structuredContent"] if client.protocol_version != OLDEST else None
        assert answers in (
            None,
            {
                "who": {"action": "accept", "content": {"name": "Ada"}},
                "what": sampled,
                "where": {"roots": [{"uri": "file:///a"}]},
                "else": {"action": "accept", "content": {"name": "Bo"}},
            },
        )
        assert '"Bo"' in text(result)
    async with connect() as client:  # who has declared nothing is not asked
        with pytest.raises(RpcError) as caught:
            await client.call_tool("ask")
        assert caught.value.code == (-32021 if client.protocol_version == MODERN else -32600)


async def tells_of_changes(connect):
    async with connect() as client:
        async with client.listen(tools=True, resources=["note://text"]) as changes:
            for what in ("note://bytes", "note://text", "tools"):
                await client.call_tool("change", {"what": what})
            heard = [await anext(changes) for _ in range(2)]
            assert [change["params"].get("uri", change["method"]) for change in heard] == [
                "note://text",
                "notifications/tools/list_changed",
            ]
        await client.ping()


async def reads_resources(connect):
    async with connect() as client:
        assert [resource["uri"] for resource in await client.list_resources()] == ["note://text", "note://bytes"]
        assert len(await client.list_resource_templates()) == 1
        (read,) = (await client.read_resource("note://text"))["contents"]
        assert read["text"] == "é世🎉"
        (read,) = (await client.read_resource("note://bytes"))["contents"]
        assert base64.b64decode(read["blob"]) == bytes(range(256))
        (read,) = (await client.read_resource("note://7/part"))["contents"]
        assert read["text"] == "7"


async def gets_prompts_and_completes(connect):
    async with connect() as client:
        assert [prompt["name"] for prompt in await client.list_prompts()] == ["review"]
        prompt = await client.get_prompt("review", {"code": "x"})
        assert prompt["messages"][0]["content"]["text"] == "Review x"
        ref = {"type": "ref/prompt", "name": "review"}
        found = await client.complete(ref, {"name": "code", "value": "a"})
        assert found["completion"]["values"] == ["ax", "ay", "az"]


async def reports_errors(connect):
    async with connect() as client:
        for arguments, said in [({"how": "tool"}, "too bad"), ({"how": "other"}, "failed"), ({}, "'how' is required")]:
            result = await client.call_tool("fail", arguments)
            assert result["isError"]
            assert said in text(result)
            assert "secret" not in text(result)
        resource = -32602 if client.protocol_version == MODERN else -32002
        for asking, code in [
            (client.call_tool("absent"), -32602),
            (client.request("absent/method"), -32601),
            (client.read_resource("note://absent"), resource),
            (client.get_prompt("absent"), -32602),
        ]:
            with pytest.raises(RpcError) as caught:
                await asking
            assert caught.value.code == code
        await client.ping()


async def carries_a_large_message_both_ways(connect):
    async with connect() as client:
        large = "é" * 2**19  # a MiB in UTF-8
        assert text(await client.call_tool("echo", {"text": large})) == large


async def leaves_nothing_to_the_garbage_collector(connect):
    """A message in a cycle, which may be of many megabytes, would stay until the collector comes by."""

    async def calls(client):
        for tool, arguments in [("echo", {"text": "x"}), ("work", {"steps": 2}), ("fail", {"how": "tool"})]:
            await client.call_tool(tool, arguments)
        await client.read_resource("note://text")

    async with connect() as client:
        await calls(client)
        gc.collect()
        gc.disable()
        try:
            await calls(client)
            assert gc.collect() == 0
        finally:
            gc.enable()


async def answers_fifty_calls_at_once(connect):
    async with connect() as client:
        meeting = [client.call_tool("meet", {"name": "m", "number": number, "of": 50}) for number in range(50)]
        results = await asyncio.gather(*meeting, *(client.call_tool("echo", {"text": str(n)}) for n in range(50)))
        assert [text(result) for result in results] == [str(number) for number in range(50)] * 2


async def closes_though_calls_are_in_flight(connect):
    async with connect() as client:
        began = asyncio.Event()
        waiting = client.call_tool("wait", {"name": "c"}, on_progress=lambda *_, began=began: began.set())
        calling = asyncio.create_task(waiting)
        await began.wait()
        await client.close()
        with pytest.raises(ConnectionClosed):
            await calling
        with pytest.raises(ConnectionClosed, match="the client is closed"):
            await client.ping()
    async with connect() as client:  # a server goes on with what it was asked for
        await client.call_tool("release", {"name": "c"})


def text(result):
    return result["content"][0]["text"]


CHECKS = [
    lists_and_calls,
    reports_progress,
    sends_logs,
    cancels,
    asks_the_client,
    tells_of_changes,
    reads_resources,
    gets_prompts_and_completes,
    reports_errors,
    carries_a_large_message_both_ways,
    leaves_nothing_to_the_garbage_collector,
    answers_fifty_calls_at_once,
    closes_though_calls_are_in_flight,
]


async def check_transport(factory, versions=(MODERN, LEGACY), checks=CHECKS):
    """Run every check in each revision, each with a server of its own, and see that no task is left."""
    for version in versions:
        for check in checks:
            before = others()
            async with asyncio.timeout(30), factory() as connect:
                # What is modern is found, and so is what the server says of itself.
                wanted = None if version == MODERN else version
                await check(lambda **options: connect(protocol_version=wanted, **options))  # noqa: B023
            await until(lambda: others() <= before)  # noqa: B023


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    ("factory", "version"),
    [
        pytest.param(factory, version, id=f"{name}-{version}")
        for name, (factory, versions) in FACTORIES.items()
        for version in versions
    ],
)
async def test_transport(factory, version, check):
    await check_transport(factory, [version], [check])


# --- channels, with both ends at hand ---------------------------------------------------------------


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


CHANNELS = {"memory": memory, "unix": unix, "tcp": tcp, "pipes": pipes}


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


CHANNEL_CHECKS = [
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


async def check_channel(channel, checks=CHANNEL_CHECKS):
    """Run every check, each on a connection of its own."""
    for check in checks:
        async with asyncio.timeout(30), channel() as (client, server):
            await check(client, server)


@pytest.mark.parametrize("check", CHANNEL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS)
async def test_channel(channel, check):
    await check_channel(channel, [check])
