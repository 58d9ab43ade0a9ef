"""How a server is found, in which era, and what happens when it is lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcp_min import Client, ConnectionClosed, RpcError, Server, client, connection, serve_http, spec
from mcp_min.dispatcher import Call, Dispatcher
from mcp_min.stream import LineTransport, answer, memory_pair

Answer = Callable[[dict[str, Any], Call], Awaitable[dict[str, Any]]]


class Scripted:
    """A server in memory that answers each method as the test says; a target for a Client."""

    def __init__(self, **answers: Any) -> None:
        self.heard: list[str] = []
        self.methods = {name.replace("__", "/"): self._handler(name, answer) for name, answer in answers.items()}

    def _handler(self, name: str, answer: Any) -> Answer:
        async def handler(params: dict[str, Any], call: Call) -> dict[str, Any]:
            self.heard.append(name)
            if isinstance(answer, RpcError):
                raise answer
            return dict(answer(params) if callable(answer) else answer)

        return handler

    async def dispatch(self, message: dict[str, Any], call: Call) -> Any:
        return await Dispatcher(self.methods).dispatch(message, call)


def initialized(version: str) -> dict[str, Any]:
    return {
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "old"},
        "instructions": "i",
    }


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_legacy_targets", set())


def unsupported(*versions: str) -> RpcError:
    return RpcError(spec.UNSUPPORTED_VERSION, "Unsupported protocol version", {"supported": list(versions)})


@pytest.mark.parametrize(
    ("answers", "version", "heard"),
    [
        ({"server__discover": {"supportedVersions": ["2026-07-28"]}}, "2026-07-28", ["server__discover"]),
        (
            {"server__discover": {"supportedVersions": ["2025-06-18"]}, "initialize": initialized("2025-06-18")},
            "2025-06-18",
            ["server__discover", "initialize"],
        ),
        ({"initialize": initialized("2025-11-25")}, "2025-11-25", ["initialize"]),
        (
            {"server__discover": RpcError(-32602, "what?"), "initialize": initialized("2024-11-05")},
            "2024-11-05",
            ["server__discover", "initialize"],
        ),
        (
            {"server__discover": unsupported("2025-03-26"), "initialize": initialized("2025-03-26")},
            "2025-03-26",
            ["server__discover", "initialize"],
        ),
    ],
)
async def test_the_era_is_found(answers: dict[str, Any], version: str, heard: list[str]) -> None:
    server = Scripted(**answers)
    async with Client(server) as client:
        assert client.protocol_version == version
    assert server.heard == heard


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"server__discover": unsupported("2026-07-28")}, "Unsupported protocol version"),
        ({"server__discover": unsupported("1999-01-01")}, "Unsupported protocol version"),
        ({"server__discover": RpcError(spec.HEADER_MISMATCH, "Header mismatch")}, "Header mismatch"),
        ({"server__discover": {"supportedVersions": ["2099-01-01"]}}, "No protocol version in common"),
        ({"initialize": initialized("1999-01-01")}, "No protocol version in common"),
        ({}, "Method not found"),
    ],
)
async def test_no_era_is_found(answers: dict[str, Any], problem: str) -> None:
    with pytest.raises(RpcError, match=problem):
        await Client(Scripted(**answers)).__aenter__()


async def test_a_silent_server_is_a_legacy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROBE_TIMEOUT", 0.01)
    server = Scripted(initialize=initialized("2025-11-25"))

    async def silent(params: dict[str, Any], call: Call) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    server.methods["server/discover"] = silent
    async with Client(server) as client:
        assert client.protocol_version == "2025-11-25"
        assert (client.server_info, client.instructions) == ({"name": "old"}, "i")


DIES = """
import sys
line = sys.stdin.readline()
if "discover" in line:
    sys.exit(3)
print('{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x"}}}',
      flush=True)
sys.stdin.read()
"""


async def test_a_child_that_dies_of_the_question_is_started_again() -> None:
    async with Client([sys.executable, "-c", DIES], timeout=30) as client:
        assert client.protocol_version == "2025-11-25"


@pytest.mark.parametrize("version", spec.SUPPORTED)
async def test_a_wanted_version_is_not_searched(version: str) -> None:
    server = Scripted(initialize=lambda params: initialized(params["protocolVersion"]))
    async with Client(server, protocol_version=version) as client:
        assert client.protocol_version == version
    assert server.heard == ([] if version in spec.MODERN else ["initialize"])


def test_a_version_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="protocol_version 'x': there are 2026-07-28"):
        Client(Server("s"), protocol_version="x")


class Flaky:
    """Transports to a server that loses the first `losses` requests of a method."""

    def __init__(self, method: str, losses: int) -> None:
        self.opened, self._method, self._losses = 0, method, losses
        self.server = Server("s")

        @self.server.tool
        async def add(a: int, b: int) -> int:
            return a + b

    async def open(self, target: Any, **options: Any) -> LineTransport:
        self.opened += 1
        ours, theirs = memory_pair()

        async def dispatch(message: dict[str, Any], call: Call) -> Any:
            if message["method"] == self._method and self._losses:
                self._losses -= 1
                await theirs.close()
                return None
            return await self.server.dispatch(message, call)

        self.task = asyncio.create_task(answer(theirs, dispatch))
        return ours


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(client, "sleep", sleep)
    return slept


async def test_a_lost_connection_is_opened_again(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    flaky = Flaky("tools/list", 2)
    monkeypatch.setattr(connection, "open_transport", flaky.open)
    async with Client("x") as client:
        assert len(await client.list_tools()) == 1
    assert flaky.opened == 3
    assert len(pauses) == 2
    assert 0.1 <= pauses[0] <= 0.2 <= pauses[1] <= 0.4


@pytest.mark.parametrize(("method", "losses", "retries"), [("tools/call", 1, 3), ("tools/list", 3, 2)])
async def test_what_is_not_tried_again(
    method: str, losses: int, retries: int, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(method, losses)
    monkeypatch.setattr(connection, "open_transport", flaky.open)
    async with Client("x", retries=retries) as client:
        with pytest.raises(ConnectionClosed):
            await (client.call_tool("add", {"a": 1, "b": 2}) if method == "tools/call" else client.list_tools())


async def test_a_server_that_is_not_there_is_waited_for_only_on_the_network(pauses: list[float]) -> None:
    with pytest.raises(ConnectionClosed):
        await Client("http://127.0.0.1:9/mcp").__aenter__()
    assert len(pauses) == 3
    with pytest.raises(FileNotFoundError):
        await Client(["/nowhere/to/be/found"]).__aenter__()


async def test_every_message_is_seen() -> None:
    seen: list[tuple[str, str]] = []
    async with Client(Server("s"), on_message=lambda way, message: seen.append((way, message.get("method", "")))):
        pass
    assert seen == [("→", "server/discover"), ("←", "")]


async def test_on_http_the_older_transport_comes_last() -> None:
    server = Server("s")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    async with serve_http(server, port=0) as http, Client(http.url.replace("/mcp", "/sse")) as client:
        assert client.protocol_version == "2025-11-25"
        assert (await client.call_tool("add", {"a": 1, "b": 2}))["structuredContent"] == {"result": 3}


async def test_an_error_that_says_nothing_of_the_endpoint_is_the_users() -> None:
    server = Scripted(server__discover=RpcError(-32601, "no"), initialize=RpcError(-32000, "not today"))
    with pytest.raises(RpcError, match="not today"):
        await Client(server).__aenter__()


async def test_a_log_level_goes_with_each_modern_request() -> None:
    levels: list[Any] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "→":
            levels.append(message["params"]["_meta"].get(spec.LOG_LEVEL))

    async with Client(Server("s"), on_message=look) as client:
        await client.set_log_level("error")
        await client.ping()
    assert levels == [None, "error"]
