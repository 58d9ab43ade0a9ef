"""The doors: each transport serves and leaves nothing behind; `run` ends on a signal, in time, whatever still runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mcp_min import Client, Server, serve, serve_http, serve_stdio, serve_tcp, serve_unix, serving
from mcp_min.stream import memory_pair
from mcp_min.targets import connect_tcp, connect_unix

ROOT = Path(__file__).parent.parent
SLEEPER = """
import sys, time
sys.path.insert(0, ROOT)
from mcp_min import Server
server = Server("s")
@server.tool
def sleep(seconds: float) -> str:
    print("asleep", file=sys.stderr, flush=True)
    time.sleep(seconds)
    return "slept"
server.run()
""".replace("ROOT", repr(str(ROOT)))
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"sleep","arguments":{"seconds":SECONDS}}}\n'


LISTEN: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 4,
    "method": "subscriptions/listen",
    "params": {
        "notifications": {"toolsListChanged": True},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}


def make_server() -> Server:
    server = Server("s")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    return server


async def adds(client: Client) -> None:
    async with client:
        assert (await client.call_tool("add", {"a": 1, "b": 2}))["content"][0]["text"] == "3"


async def test_any_transport() -> None:
    ours, theirs = memory_pair()
    serving_it = asyncio.create_task(serve(make_server(), theirs))
    await adds(Client(ours))
    await serving_it


async def test_unix(tmp_path: Path) -> None:
    path, mask = str(tmp_path / "socket"), os.umask(0o022)
    os.umask(mask)
    async with serve_unix(make_server(), path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # nobody else may connect
        assert os.umask(mask) == mask
        await asyncio.gather(*[adds(Client(await connect_unix(path))) for _ in range(3)])
    with pytest.raises(FileNotFoundError):
        await connect_unix(path)


async def test_a_unix_socket_that_a_killed_server_has_left(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
        left.listen()
        with pytest.raises(OSError, match="in use"):
            async with serve_unix(make_server(), path):
                pass
    async with serve_unix(make_server(), path):
        await adds(Client(await connect_unix(path)))


async def test_tcp() -> None:
    async with serve_tcp(make_server()) as listening:
        host, port = listening.sockets[0].getsockname()
        await asyncio.gather(*[adds(Client(await connect_tcp(host, port))) for _ in range(3)])
        still_open = await connect_tcp(host, port)
        await still_open.write({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert await anext(still_open.read()) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert [message async for message in still_open.read()] == []
    await still_open.close()


async def test_the_end_gives_a_subscription_its_final_result() -> None:
    async with serve_tcp(make_server()) as listening:
        client = await connect_tcp(*listening.sockets[0].getsockname())
        await client.write(LISTEN)
        messages = client.read()
        assert (await anext(messages))["method"] == "notifications/subscriptions/acknowledged"
    assert [message["id"] async for message in messages if "result" in message] == [4]
    await client.close()


async def test_the_end_waits_until_its_connections_are_gone() -> None:
    begun, ended, server = asyncio.Event(), asyncio.Event(), make_server()

    @server.method("com.example/wait")
    async def wait(params: Any, ctx: Any) -> Any:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            ended.set()

    async with serve_tcp(server) as listening:
        client = await connect_tcp(*listening.sockets[0].getsockname())
        await client.write({"jsonrpc": "2.0", "id": 1, "method": "com.example/wait"})
        await begun.wait()
    assert ended.is_set()
    await client.close()


async def test_the_end_of_http_gives_a_subscription_its_final_result() -> None:
    async with serve_http(make_server(), port=0) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
        body = json.dumps(LISTEN).encode()
        head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{http.port}\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        head += "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n\r\n"
        writer.write(head.encode() + body)
        await asyncio.wait_for(reader.readuntil(b"subscriptions/acknowledged"), 10)
    assert b'"id":4,"result":' in await reader.read()
    writer.close()


async def test_a_browser_gets_nothing_from_tcp() -> None:
    ran: list[int] = []
    server = Server("s")

    @server.tool
    async def run() -> None:
        ran.append(1)

    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run"}}\n'
    async with serve_tcp(server) as listening:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n" + call)
        assert b'"id"' not in await reader.read()
        writer.close()
    assert ran == []


@pytest.mark.parametrize("serve_it", [serve_tcp, serve_http])
async def test_beyond_loopback_somebody_must_be_known(serve_it: Any) -> None:
    with pytest.raises(ValueError, match="anybody could call"):
        async with serve_it(make_server(), "0.0.0.0", 0):
            pass
    async with serve_it(make_server(), "0.0.0.0", 0, allow_unauthenticated=True):
        pass


@pytest.mark.parametrize("stateless", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_http(stateless: bool, host: str) -> None:
    async with serve_http(make_server(), host, 0, stateless=stateless, max_body=1000, session_idle=9) as http:
        assert http.url.startswith(f"http://{'[::1]' if ':' in host else host}:{http.port}/")
        assert (http.sessions is None) is stateless
        await adds(Client(http.url))
        await adds(Client(http.url, protocol_version="2025-11-25"))
        reader, writer = await asyncio.open_connection(host, http.port)
        writer.write(b"NONSENSE\r\n\r\n")
        assert b'{"jsonrpc":"2.0","error":{"code":-32600' in await reader.read()
        writer.close()


async def test_an_option_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="max_bodies"):
        async with serve_http(make_server(), port=0, max_bodies=1):
            pass


# --- run -----------------------------------------------------------------------------------------


def test_a_transport_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSPORT", "pigeon")
    with pytest.raises(ValueError, match="transport 'pigeon': there are stdio, http"):
        make_server().run()


async def test_run_starts_a_loop_of_its_own() -> None:
    with pytest.raises(RuntimeError, match="inside one, await serve_stdio"):
        make_server().run("stdio")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("transport", ["unix", "tcp", "http", "sse"])
def test_run_serves_until_a_signal(
    transport: str, number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> None:
        while "listening on" not in capsys.readouterr().err:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=end, daemon=True).start()
    make_server().run(transport, **({"path": str(tmp_path / "s")} if transport == "unix" else {"port": 0}))


async def test_stdio_in_a_running_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    saved = os.dup(0), os.dup(1)
    os.dup2(theirs.fileno(), 0)
    os.dup2(theirs.fileno(), 1)
    theirs.close()
    server, asked = make_server(), asyncio.Event()

    @server.method("com.example/wait")
    async def wait(params: Any, ctx: Any) -> Any:
        asked.set()
        await asyncio.Future()

    try:
        serving_it = asyncio.create_task(serve_stdio(server, max_line=100, drain=0))
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        assert await reader.readline() == b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
        writer.write(b" " * 101 + b"\n")
        assert b"more than 100 bytes" in await asyncio.wait_for(reader.readline(), 10)
        writer.write(b'{"jsonrpc":"2.0","id":2,"method":"com.example/wait"}\n')
        await asked.wait()
        writer.write_eof()
        await asyncio.wait_for(serving_it, 10)
        writer.close()
    finally:
        for fd, copy in enumerate(saved):
            os.dup2(copy, fd)
            os.close(copy)


def test_a_thread_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    wake = threading.Event()
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(serving, "THREADS_DEADLINE", 0.01)
    busy = threading.Event()

    async def work() -> None:
        def block() -> None:
            busy.set()
            wake.wait(10)

        blocked = asyncio.get_running_loop().run_in_executor(None, block)
        await asyncio.to_thread(busy.wait, 10)
        monkeypatch.setattr(os, "_exit", lambda status: (ended.append(status), wake.set()))
        blocked.cancel()

    asyncio.run(serving._run(work()))
    assert ended == [0]


def test_a_thread_that_ends_soon_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    wake, busy = threading.Event(), threading.Event()

    class Clock:
        """Looked at when the waiting begins, and only then does the thread go on."""

        @staticmethod
        def monotonic() -> float:
            wake.set()
            return 0

    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(serving, "THREADS_DEADLINE", 10)
    monkeypatch.setattr(serving, "time", Clock)

    def block() -> None:
        busy.set()
        wake.wait(10)
        time.sleep(0.01)

    async def work() -> None:
        asyncio.get_running_loop().run_in_executor(None, block)
        await asyncio.to_thread(busy.wait, 10)

    asyncio.run(serving._run(work()))
    assert ended == []


def spawn() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLEEPER]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_within_a_second_though_a_handler_sleeps(number: signal.Signals) -> None:
    with spawn() as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(CALL.replace(b"SECONDS", b"60.5"))
        process.stdin.flush()
        assert process.stderr.readline() == b"asleep\n"
        start = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - start < 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_a_subscription_its_final_result(number: signal.Signals) -> None:
    with spawn() as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(LISTEN).encode() + b"\n")
        process.stdin.flush()
        assert b"acknowledged" in process.stdout.readline()
        process.send_signal(number)
        assert json.loads(process.stdout.read())["id"] == 4
        assert process.wait(10) == 0


def test_the_end_of_input_lets_calls_be_answered() -> None:
    with spawn() as process:
        calls = b"".join(CALL.replace(b"SECONDS", b"0.1").replace(b'"id":1', b'"id":%d' % id) for id in range(5))
        out, _ = process.communicate(calls, timeout=30)
    assert sorted(out.count(b'"id":%d' % id) for id in range(5)) == [1] * 5
    assert process.returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_descriptors_that_were_closed_at_the_start(closed: str) -> None:
    command = ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, SLEEPER]
    call = CALL.replace(b"SECONDS", b"0")
    ended = subprocess.run(command, input=call, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 0
    assert ended.stderr == (b"" if "2" in closed or "<" in closed else b"asleep\n")
    assert (b'"slept"' in ended.stdout) is (closed == "2>&-")


def test_descriptors_are_taken_before_the_loop_takes_them(tmp_path: Path) -> None:
    saved = os.dup(0)
    os.close(0)
    try:
        with pytest.raises(FileNotFoundError):
            make_server().run("unix", path=str(tmp_path / "missing" / "socket"))
        assert os.path.samestat(os.fstat(0), os.stat(os.devnull))
    finally:
        os.dup2(saved, 0)
        os.close(saved)


async def test_a_connection_accepted_in_the_moment_of_the_end() -> None:
    caught: list[Any] = []

    async def start(connected: Any) -> asyncio.Server:
        caught.append(connected)
        return await asyncio.start_server(connected, "127.0.0.1", 0)

    async with serving._listening(make_server(), "close", 100, start):
        pass
    ours, theirs = socket.socketpair()
    caught[0](*await asyncio.open_connection(sock=theirs))
    with ours:
        assert await asyncio.to_thread(ours.recv, 1) == b""
