"""The endpoint under the stock ThreadingHTTPServer: the same answers, guards and streams."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_min import Context, Server, spec, sse
from mcp_min.examples import classic

MODERN = spec.MODERN[0]
META = {spec.PROTOCOL_VERSION: MODERN, spec.CLIENT_CAPABILITIES: {}, spec.LOG_LEVEL: "info"}
PATIENCE = 10  # seconds


@pytest.fixture
def port() -> Iterator[int]:
    server = Server("classic", "1")

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def count(ctx: Context, to: int) -> str:
        for number in range(to):
            await ctx.log("info", number)
        return "counted"

    listening = classic.classic(server, 0)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield listening.server_port
    listening.shutdown()
    thread.join(PATIENCE)
    listening.server_close()


def ask(
    port: int, body: Any = None, method: str = "POST", path: str = "/mcp?x=1", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, json.dumps(body), headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response, data


def call(port: int, name: str, **arguments: Any) -> tuple[http.client.HTTPResponse, bytes]:
    params = {"name": name, "arguments": arguments, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return ask(port, message, Mcp_Protocol_Version=MODERN, Mcp_Method="tools/call", Mcp_Name=name)


def test_a_call(port: int) -> None:
    response, body = call(port, "add", a=1, b=2)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["result"]["structuredContent"] == 3


def test_a_stream(port: int) -> None:
    response, body = call(port, "count", to=3)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
    messages = [json.loads(event.data) for event in sse.Parser().feed(body)]
    assert [message["params"]["data"] for message in messages[:3]] == [0, 1, 2]
    assert messages[3]["result"]["content"][0]["text"] == "counted"


def test_a_legacy_client_is_served_without_a_session(port: int) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}}
    response, body = ask(port, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    assert json.loads(body)["result"]["protocolVersion"] == "2025-11-25"
    assert "Mcp-Session-Id" not in response.headers
    response, body = ask(port, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (response.status, body) == (202, b"")


# (method, path, headers, status)
REFUSED: list[tuple[str, str, dict[str, str], int]] = [
    ("GET", "/mcp", {}, 405),
    ("DELETE", "/mcp", {}, 405),
    ("PUT", "/mcp", {}, 501),
    ("POST", "/", {}, 404),
    ("POST", "/mcp", {"Host": "evil.example"}, 421),
    ("POST", "/mcp", {"Origin": "null"}, 403),
    ("POST", "/mcp", {"Content-Type": "text/plain"}, 415),
    ("OPTIONS", "/mcp", {}, 204),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), REFUSED)
def test_guards(port: int, method: str, path: str, headers: dict[str, str], status: int) -> None:
    assert ask(port, {}, method, path, **headers)[0].status == status


@pytest.mark.parametrize("length", ["10000000000", str(classic.MAX_BODY + 1), "-1", "+5", "x", "²"])
def test_bodies_that_are_not_read(port: int, length: str) -> None:
    head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {length}"
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode("latin-1"))
        assert connection.recv(2**16).startswith(b"HTTP/1.0 413 ")
    assert call(port, "add", a=1, b=2)[0].status == 200


def test_the_command() -> None:
    command = [sys.executable, "-m", "mcp_min.examples.classic", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().partition("127.0.0.1:")[2].partition("/")[0])
        assert ask(port, {"jsonrpc": "2.0", "id": 1, "method": "ping"})[0].status == 200
        process.kill()
