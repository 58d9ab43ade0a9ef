"""Every revision of a client against every kind of server: what should work does, the rest gives one clear error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from every_feature import make_server
from one_revision import MODERN, OneRevision
from raw_peers import Answer, Request, others, site, until

from mcp_min import Client, RpcError, StdioServerParameters, connection, serve_http, spec

TESTS = Path(__file__).parent
ALL = "all"  # our own server, which knows every revision
OLDEST = "2024-11-05"  # the one of HTTP+SSE
HEADERS_SINCE = "2025-06-18"  # each request over HTTP names the revision

# --- servers -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def on_stdio(revision: str) -> AsyncIterator[Any]:
    command = ["every_feature.py"] if revision == ALL else ["one_revision.py", revision]
    env = {"PYTHONPATH": str(TESTS.parent)}
    yield StdioServerParameters(sys.executable, [str(TESTS / command[0]), *command[1:]], env)


@contextlib.asynccontextmanager
async def on_http(revision: str) -> AsyncIterator[Any]:
    if revision == ALL:
        async with serve_http(make_server(), port=0) as http:
            yield http.url
    else:
        async with site(OneEndpoint(revision).respond) as there:
            yield there.url


class OneEndpoint:
    """Streamable HTTP, as a server of one revision has it."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.server = OneRevision(revision)

    def respond(self, request: Request) -> Answer:
        if request.verb != "POST":
            return Answer(status=405)
        headers, message = request.headers, request.message
        answer = self.server.answer(message)
        if self.revision == MODERN:
            refused = headers.get("mcp-protocol-version") != MODERN or headers.get("mcp-method") != request.method
            return Answer(status=400 if refused else 200, message=answer)
        if request.method == "initialize":
            return Answer(message=answer, headers={"Mcp-Session-Id": "1"})
        if headers.get("mcp-session-id") != "1":
            return Answer(status=400)
        if self.revision >= HEADERS_SINCE and headers.get("mcp-protocol-version") != self.revision:
            return Answer(status=400)
        return Answer(status=202) if answer is None else Answer(message=answer)


@contextlib.asynccontextmanager
async def on_sse(revision: str) -> AsyncIterator[Any]:
    if revision == ALL:
        async with serve_http(make_server(), port=0) as http:
            yield http.url.replace("/mcp", "/sse")
    else:
        async with site(OneStream(revision).respond) as there:
            yield there.url.replace("/mcp", "/sse")


class OneStream:
    """HTTP+SSE: everything that comes, comes by the stream."""

    def __init__(self, revision: str) -> None:
        self.server = OneRevision(revision)

    async def respond(self, request: Request) -> Answer:
        if (request.verb, request.path) == ("GET", "/sse"):
            self.writer = request.writer
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            self.writer.write(head + b"event: endpoint\ndata: /messages?session_id=1\n\n")
            await asyncio.Event().wait()
        if (request.verb, request.path) != ("POST", "/messages?session_id=1"):
            return Answer(status=405)
        answer = self.server.answer(request.message)
        if answer is not None:
            self.writer.write(b"event: message\ndata: " + json.dumps(answer).encode() + b"\n\n")
        return Answer(status=202)


# --- the table -----------------------------------------------------------------------------------

TRANSPORTS = {"stdio": on_stdio, "http": on_http, "sse": on_sse}
CLIENTS = [None, *spec.SUPPORTED]
SERVERS = {
    "stdio": [ALL, *spec.SUPPORTED],
    "http": [ALL, *(revision for revision in spec.SUPPORTED if revision != OLDEST)],
    "sse": [ALL, OLDEST],
}
REFUSED = {
    ("stdio", "modern"): "initialize first (-32600)",
    ("stdio", "legacy"): "Unsupported protocol version (-32022)",
    ("http", "modern"): "HTTP 400 from http://",
    ("http", "legacy"): "Unsupported protocol version (-32022)",
    ("sse", "modern"): "(405)",
}


def outcome(transport: str, client: str | None, server: str) -> str:
    """The revision that both will speak, or the error."""
    if transport == "sse" and client == MODERN:
        return REFUSED["sse", "modern"]  # which has no such transport
    if server == ALL:
        return client or (MODERN if transport != "sse" else spec.LEGACY[0])
    if (client == MODERN) == (server == MODERN) or client is None:
        return server  # it is for the server to say which of the legacy ones it will be
    return REFUSED[transport, "modern" if client == MODERN else "legacy"]


PAIRS = [
    pytest.param(transport, client, server, outcome(transport, client, server), id=f"{transport}: {client} to {server}")
    for transport, servers in SERVERS.items()
    for server in servers
    for client in CLIENTS
]


def test_the_table_is_whole() -> None:
    assert len(PAIRS) == 6 * (6 + 5 + 2)
    outcomes = [pair.values[3] for pair in PAIRS]
    assert {outcome for outcome in outcomes if outcome in spec.SUPPORTED} == set(spec.SUPPORTED)
    assert sum(outcome not in spec.SUPPORTED for outcome in outcomes) == 2 * 4 + 4 + 3 + 2


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_legacy_targets", set())


async def use(client: Client) -> None:
    assert "echo" in [tool["name"] for tool in await client.list_tools()]
    assert (await client.call_tool("echo", {"text": "x"}))["content"][0]["text"] == "x"


@pytest.mark.parametrize(("transport", "client", "server", "expected"), PAIRS)
async def test_pair(transport: str, client: str | None, server: str, expected: str) -> None:
    before = others()
    async with asyncio.timeout(20), TRANSPORTS[transport](server) as target:
        if expected in spec.SUPPORTED:
            async with Client(target, protocol_version=client) as connected:
                await use(connected)
                assert connected.protocol_version == expected
        else:
            refused = Client(target, protocol_version=client)
            with pytest.raises(RpcError) as caught:
                await use(refused)
            assert expected in str(caught.value)
            await refused.close()
    await until(lambda: others() <= before)
