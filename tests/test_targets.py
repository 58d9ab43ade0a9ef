"""What a client can be pointed at."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from raw_peers import until

from mcp_min import Client, HttpServerParameters, Server, StdioServerParameters, serve_http, serve_tcp, serve_unix
from mcp_min.stream import LineTransport, memory_pair
from mcp_min.targets import connect_tcp, connect_unix, open_transport

ECHO = "from mcp_min import Server; Server('child').run()"


def server() -> Server:
    server = Server("here")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    return server


async def test_a_server_in_the_same_process() -> None:
    async with Client(server()) as client:
        assert client.server_info["name"] == "here"


@pytest.mark.parametrize("make", [list, tuple, lambda command: StdioServerParameters(command[0], command[1:])])
async def test_a_command(make: Any) -> None:
    async with Client(make([sys.executable, "-c", ECHO]), timeout=30) as client:
        assert client.server_info["name"] == "child"


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_a_socket(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "s")
    serving = serve_unix(server(), path) if kind == "unix" else serve_tcp(server())
    async with serving as listening:
        where = [path] if kind == "unix" else listening.sockets[0].getsockname()
        connect = connect_unix if kind == "unix" else connect_tcp
        async with Client(await connect(*where)) as client:
            assert (await client.call_tool("add", {"a": 1, "b": 2}))["content"][0]["text"] == "3"
        narrow = await connect(*where, max_line=20)
        reading = asyncio.ensure_future(anext(narrow.read(), None))
        await narrow.write({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        await until(lambda: "max_line" in caplog.text)  # the answer, which is longer
        await narrow.close()
        assert await reading is None
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        await connect(*where)


async def test_a_transport_is_taken_as_it_is() -> None:
    ours, _ = memory_pair()
    assert await open_transport(ours) is ours
    assert isinstance(ours, LineTransport)


@pytest.mark.parametrize("version", [None, "2025-11-25", "2024-11-05"])
async def test_a_url(version: str | None) -> None:
    async with serve_http(server(), port=0) as http, Client(http.url, protocol_version=version) as client:
        assert [tool["name"] for tool in await client.list_tools()] == ["add"]


async def test_a_url_of_the_older_transport() -> None:
    async with serve_http(server(), port=0) as http, Client(http.url.replace("/mcp", "/sse")) as client:
        assert client.protocol_version == "2025-11-25"
        assert (await client.call_tool("add", {"a": 1, "b": 2}))["structuredContent"] == {"result": 3}


async def test_options_are_of_http() -> None:
    async with serve_http(server(), port=0) as http, Client(http.url, headers={"X-Mine": "1"}) as client:
        await client.ping()
    with pytest.raises(TypeError, match="headers: for URLs only"):
        await open_transport(["x"], headers={})


async def test_a_url_that_brings_its_headers_along() -> None:
    seen: list[Any] = []
    demo = server()

    @demo.middleware
    async def see(call_next: Any, params: Any, ctx: Any) -> Any:
        seen.append(ctx.call.headers["x-mine"])
        return await call_next(params, ctx)

    async with serve_http(demo, port=0) as http:
        target = HttpServerParameters(http.url, {"X-Mine": "1"})
        async with Client(target) as client, Client(target, headers={"X-Mine": "2"}) as other:
            await client.list_tools()
            await other.list_tools()
            assert (client.protocol_version, set(seen)) == ("2026-07-28", {"1", "2"})


@pytest.mark.parametrize("target", [5, None, object()])
async def test_no_target(target: Any) -> None:
    with pytest.raises(TypeError, match="a client connects to"):
        await open_transport(target)
