"""The front door over raw sockets: every route, guard and limit, and a tool that nobody gets to run by a trick."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from mcp_min import Context, Server, ToolError, serve_http, spec
from mcp_min.extras.auth import Auth
from mcp_min.guards import Grant
from mcp_min.serving import HttpServing

MODERN, LEGACY = spec.MODERN[0], spec.LEGACY[0]
META = {spec.PROTOCOL_VERSION: MODERN, spec.CLIENT_CAPABILITIES: {}, spec.LOG_LEVEL: "info"}
PATIENCE = 5  # seconds after which a test gives up on what should happen at once
QUICK = {"tick": 0.01}


class House:
    """A server behind HTTP, and what its tools have been made to do."""

    def __init__(self, http: HttpServing, server: Server) -> None:
        self.http, self.server = http, server
        self.touched = 0
        self.ends: list[str] = []
        self.proceed = asyncio.Event()
        server.tool(self.touch)
        server.tool(self.wait)
        server.tool(self.flood)
        server.tool(self.fail)
        server.tool(self.in_time)
        server.tool(self.let_go)
        server.tool(self.scoped, scopes=("admin",))
        server.methods["broken"] = self.broken

    async def touch(self) -> str:
        self.touched += 1
        return "touched"

    async def wait(self, ctx: Context, tell: bool = False) -> str:
        if tell:
            await ctx.log("info", "begun")
        self.ends.append("begun")
        try:
            await self.proceed.wait()
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("done")
        return "waited"

    async def flood(self, ctx: Context) -> str:
        try:
            for _ in range(400):  # 25 MiB, more than sockets hold
                await ctx.log("info", "x" * 2**16)
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("done")
        return "flooded"

    async def in_time(self) -> str:
        """What only a task that nobody has cancelled can tell."""
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            task = asyncio.current_task()
            return f"in time, {task and task.cancelling()}"
        return ""

    async def let_go(self, ctx: Context, tell: bool) -> str:
        if tell:
            await ctx.log("info", "before")
        ctx.close_stream()
        self.ends.append("begun")
        await self.proceed.wait()
        return "found again"

    async def fail(self, how: str) -> str:
        raise {"tool": ToolError("for the model"), "value": ValueError("SECRET")}.get(how) or SystemExit("SECRET")

    async def scoped(self, ctx: Context) -> str:
        return str(ctx.principal)

    async def broken(self, params: Any, ctx: Context) -> Any:
        return {"value": object()} if "odd" in params else 1 / 0


@asynccontextmanager
async def house(**options: Any) -> AsyncIterator[House]:
    server = Server("house", "1")
    async with asyncio.timeout(60), serve_http(server, port=0, **{"linger": 1, **options}) as http:
        house = House(http, server)
        try:
            yield house
        finally:
            house.proceed.set()


class Visitor:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(PATIENCE):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        return int(first.split(" ")[1]), {
            name.lower(): value for name, value in (line.split(": ", 1) for line in lines[:-1])
        }

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        async with asyncio.timeout(PATIENCE):
            if headers.get("transfer-encoding") == "chunked":
                return status, headers, b"".join([chunk async for chunk in self.chunks()])
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        unfit = [word for word in (b"Traceback", b".py", b'File "', b"/home", b"/tmp", b"SECRET") if word in body]
        assert not unfit, body
        return status, headers, body

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        assert await self.reader.readexactly(2) == b"\r\n"

    async def said(self, word: bytes) -> bytes:
        """Read until the word has come."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(word)

    async def rest(self) -> bytes:
        """What comes until the connection ends."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while piece := await self.reader.read(2**16):
                    data += piece
        return data

    def reset(self) -> None:
        linger_none = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
        self.writer.transport.abort()


@asynccontextmanager
async def visit(house: House, **options: Any) -> AsyncIterator[Visitor]:
    visitor = Visitor(*await asyncio.open_connection("127.0.0.1", house.http.port, **options))
    try:
        yield visitor
    finally:
        visitor.writer.close()
        with suppress(OSError):
            await visitor.writer.wait_closed()


def head(house: House, method: str, path: str, **headers: str | None) -> bytes:
    """A head; a header is left out with None. `content_length` is Content-Length."""
    given = {"host": f"127.0.0.1:{house.http.port}", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def post(house: House, message: Any, path: str = "/mcp", **headers: str | None) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    given = {"content_type": "application/json", "content_length": str(len(body)), **headers}
    return head(house, "POST", path, **given) + body


def tool(name: str = "touch", id: Any = 1, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def modern(house: House, method: str, params: dict[str, Any] | None = None, **headers: str | None) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **(params or {})}}
    repeated = {"mcp_protocol_version": MODERN, "mcp_method": method, "mcp_name": (params or {}).get("name")}
    return post(house, message, **{**repeated, **headers})


async def ask(house: House, data: bytes) -> tuple[int, dict[str, str], bytes]:
    async with visit(house) as visitor:
        await visitor.send(data)
        return await visitor.answer()


async def open_session(house: House, **headers: str) -> str:
    params = {"protocolVersion": LEGACY, "capabilities": {"roots": {}}}
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    _, got, _ = await ask(house, post(house, hello, **headers))
    return got["mcp-session-id"]


async def is_well(house: House) -> None:
    """A good request is served: the point of all the rest."""
    before = house.touched
    status, _, body = await ask(house, modern(house, "tools/call", {"name": "touch"}))
    assert (status, house.touched) == (200, before + 1), body


async def becomes(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # what happens inside the server has no event of its own
            await asyncio.sleep(0)


# --- guards: every route and method --------------------------------------------------------------

ROUTES = [
    *((method, path) for method in ("POST", "GET", "DELETE", "OPTIONS", "HEAD") for path in ("/mcp", "/mcp/")),
    *((method, path) for method in ("GET", "POST", "OPTIONS") for path in ("/sse", "/messages?session_id=1", "/", "*")),
    ("GET", "/.well-known/oauth-protected-resource"),
    ("GET", "/.well-known/oauth-protected-resource/mcp"),
    ("GET", "/favicon.ico"),
]

# (headers, options, status, what the refusal names)
ATTACKS: list[tuple[dict[str, str], dict[str, Any], int, str]] = [
    ({"host": "evil.example:{port}", "origin": "http://evil.example:{port}"}, {}, 421, "allowed_hosts"),
    ({"host": "evil.example", "origin": "http://evil.example"}, {}, 421, "allowed_hosts"),
    ({"origin": "http://evil.example"}, {}, 403, "allowed_origins"),
    ({"origin": "http://evil.example:{port}"}, {}, 403, "allowed_origins"),
    ({"origin": "null"}, {}, 403, "allowed_origins"),
    ({}, {"allowed_addresses": ["192.0.2.0/24"]}, 403, "allowed_addresses"),
    ({}, {"rate": 1e-6}, 429, "rate"),
]


@pytest.mark.parametrize(("headers", "options", "status", "named"), ATTACKS)
async def test_guards_of_every_route(headers: dict[str, str], options: dict[str, Any], status: int, named: str) -> None:
    resource = {"resource": "https://api.example/mcp", "authorization_servers": ["https://login.example"]}
    async with house(auth=Auth(api_keys={"key": "alice"}, **resource), **options) as target:
        if "rate" in options:
            await ask(target, post(target, {}))
        given = {name: value.format(port=target.http.port) for name, value in headers.items()}
        for method, path in ROUTES:
            body = {"content_type": "application/json", "content_length": "0"} if method == "POST" else {}
            async with visit(target) as visitor:
                await visitor.send(head(target, method, path, **given, **body, x_api_key="key"))
                got, got_headers = await visitor.head()
                assert (method, path, got) == (method, path, status)
                assert not [name for name in got_headers if name.startswith("access-control-")]
                length = int(got_headers["content-length"])
                if method != "HEAD":
                    error = json.loads(await visitor.reader.readexactly(length))
                    assert named in error["error"]["message"]
                    assert "id" not in error
        assert target.touched == 0


async def test_a_page_of_another_site_runs_nothing() -> None:
    async with house() as target:
        rebound = {"host": f"evil.example:{target.http.port}", "origin": f"http://evil.example:{target.http.port}"}
        for data in [
            modern(target, "tools/call", {"name": "touch"}, **rebound),
            modern(target, "tools/call", {"name": "touch"}, origin="null"),
            post(target, tool(), **rebound),
            post(target, tool(), origin="https://evil.example"),
            post(target, tool(), content_type="text/plain"),
            post(target, tool(), content_type="text/plain; charset=application/json"),
            post(target, tool(), content_type="application/x-www-form-urlencoded"),
            post(target, tool(), content_type="multipart/form-data; boundary=x"),
            post(target, tool(), content_type=None),
            post(target, tool(), content_type=""),
            post(target, tool(), "/messages?session_id=1", content_type="text/plain"),
        ]:
            status, _, body = await ask(target, data)
            assert status in (403, 415, 421), body
            assert "error" in json.loads(body)
        assert target.touched == 0
        await is_well(target)


async def test_requests_over_the_rate_are_told_when_to_come_back() -> None:
    async with house(rate=0.001) as target:
        assert (await ask(target, modern(target, "tools/list")))[0] == 200
        status, headers, _ = await ask(target, modern(target, "tools/list"))
        assert status == 429
        assert 990 <= int(headers["retry-after"]) <= 1001


# --- pages of allowed origins --------------------------------------------------------------------


async def test_cors_over_the_wire() -> None:
    origin = "https://app.example"
    async with house(allowed_origins=[origin]) as target:
        wanted = {"access_control_request_method": "POST", "access_control_request_headers": "content-type, mcp-method"}
        status, headers, _ = await ask(target, head(target, "OPTIONS", "/mcp", origin=origin, **wanted))
        assert (status, headers["access-control-allow-origin"]) == (204, origin)
        assert headers["access-control-allow-methods"] == "POST, GET, DELETE"
        assert headers["access-control-allow-headers"] == "content-type, mcp-method"
        for data, expected in [
            (modern(target, "tools/call", {"name": "touch"}, origin=origin), 200),
            (modern(target, "tools/call", {"name": "wait", "arguments": {"tell": True}}, origin=origin), 200),
            (post(target, b"{", origin=origin), 400),
            (post(target, {}, content_type="text/plain", origin=origin), 415),
            (head(target, "GET", "/mcp", origin=origin), 405),
            (head(target, "GET", "/mcp", origin=origin, mcp_session_id="x"), 404),
        ]:
            target.proceed.set()
            status, headers, _ = await ask(target, data)
            assert (status, headers["access-control-allow-origin"]) == (expected, origin)
            assert headers["access-control-expose-headers"] == "Mcp-Session-Id, WWW-Authenticate"
            assert headers["vary"] == "Origin"


# --- requests within requests --------------------------------------------------------------------


def smuggled(target: House) -> dict[str, bytes]:
    """Requests that some reader may take for two, the second of which runs the tool."""
    inner = post(target, tool())
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    start = {"content_type": "application/json"}
    plain = head(target, "POST", "/mcp", **start)[:-2]
    return {
        "both lengths": plain + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "both, the other way": plain + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + inner,
        "two lengths": plain + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner,
        "the same length twice": plain + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + inner,
        "a list of lengths": plain + b"Content-Length: 0, %d\r\n\r\n" % len(inner) + inner,
        "a length with a sign": plain + b"Content-Length: +0\r\n\r\n" + inner,
        "a length below nothing": plain + b"Content-Length: -1\r\n\r\n" + inner,
        "a length with an underline": plain + b"Content-Length: 0_0\r\n\r\n" + inner,
        "no length": plain + b"Content-Length: \r\n\r\n" + inner,
        "a longer length in another script": plain + b"Content-Length: \xb2\r\n\r\n" + inner,
        "an unknown coding": plain + b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunk + inner,
        "a coding with a tab": plain + b"Transfer-Encoding:\tx chunked\r\n\r\n" + chunk + inner,
        "two codings": plain + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + inner,
        "a space before the colon": plain + b"Transfer-Encoding : chunked\r\n\r\n" + chunk + inner,
        "a folded line": plain + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n" + chunk + inner,
        "a bare LF": plain + b"X: a\nContent-Length: 0\r\n\r\n" + inner,
        "a bare CR": plain + b"X: a\rContent-Length: 0\r\n\r\n" + inner,
        "a NUL": plain + b"X: a\0\r\nContent-Length: 0\r\n\r\n" + inner,
        "two hosts": plain + b"Host: evil.example\r\nContent-Length: 0\r\n\r\n" + inner,
        "a host in the target": inner.replace(b"POST /mcp", b"POST http://evil.example/mcp"),
        "HTTP/1.0 with a coding": plain.replace(b"1.1", b"1.0", 1) + b"Transfer-Encoding: chunked\r\n\r\n" + chunk,
        "a chunk that is none": plain + b"Transfer-Encoding: chunked\r\n\r\nx\r\n" + inner,
        "a chunk with a sign": plain + b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + inner,
        "a chunk too long for its length": plain + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n" + inner,
        "a chunk with a bare LF": plain + b"Transfer-Encoding: chunked\r\n\r\n0\n\n" + inner,
        "trailers": plain + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n\r\n" + inner,
        "a body that is left unread": head(target, "POST", "/mcp", content_length=str(len(inner))) + inner,
        "a body of no use": head(target, "GET", "/nothing", content_length=str(len(inner))) + inner,
    }  # fmt: skip


async def test_no_request_is_smuggled() -> None:
    async with house() as target:
        for trick, data in smuggled(target).items():
            async with visit(target) as visitor:
                await visitor.send(data)
                status, headers, _ = await visitor.answer()
                assert status in (400, 404, 415, 501), trick
                assert headers["connection"] == "close", trick
                assert await visitor.rest() == b"", trick
        assert target.touched == 0
        await is_well(target)


# --- too much ------------------------------------------------------------------------------------


async def test_what_is_too_large_is_refused_before_it_comes() -> None:
    bomb = gzip.compress(b"[" * 2**20)
    async with house(max_head=32768) as target:
        chunked: dict[str, str | None] = {"content_length": None, "transfer_encoding": "chunked"}
        for data, status, named in [
            (post(target, b"", content_length="10000000000"), 413, "max_body"),
            (post(target, b"", content_length=str(4 * 2**20 + 1)), 413, "max_body"),
            (post(target, b"FFFFFFFF\r\n", **chunked), 413, "max_body"),
            (post(target, bomb, content_encoding="gzip"), 415, "coding"),
            (head(target, "POST", "/mcp", x="x" * 100_000), 431, "max_head"),
            (head(target, "POST", "/" + "x" * 100_000), 431, "max_head"),
        ]:
            async with visit(target) as visitor:
                await visitor.send(data)
                got, headers, body = await visitor.answer()
                assert (got, headers["connection"]) == (status, "close")
                assert named in json.loads(body)["error"]["message"]
        assert target.touched == 0
        await is_well(target)


async def test_a_body_that_is_large_enough_is_taken() -> None:
    async with house(max_body=1000) as target:
        message = json.dumps(tool()).encode()
        assert (await ask(target, post(target, message.ljust(1000))))[0] == 200
        assert (await ask(target, post(target, message.ljust(1001))))[0] == 413
        assert target.touched == 1


@pytest.mark.parametrize("sent", [b"", b"P", b"POST /mcp HTTP/1.1\r\n", b"POST /mcp HTTP/1.1\r\nHost: x\r\nX: y"])
async def test_a_head_that_does_not_come(sent: bytes) -> None:
    async with house(head_timeout=0.05, **QUICK) as target, visit(target) as visitor:
        await visitor.send(sent)
        rest = await visitor.rest()
        assert rest.startswith(b"HTTP/1.1 408 ") if sent else rest == b""
        assert b"head_timeout" in rest or not sent
        await is_well(target)


async def test_a_body_that_does_not_come() -> None:
    async with house(body_timeout=0.05, **QUICK) as target, visit(target) as visitor:
        await visitor.send(post(target, tool())[:-1])
        status, _, body = await visitor.answer()
        assert (status, b"body_timeout" in body) == (408, True)
        assert target.touched == 0
        await is_well(target)


async def test_too_many_streams() -> None:
    async with house(streams=1) as target, visit(target) as first:
        await first.send(modern(target, "subscriptions/listen", {"notifications": {}}))
        await first.said(b"acknowledged")
        wait = {"name": "wait", "arguments": {"tell": True}}
        for data, status in [
            (modern(target, "subscriptions/listen", {"notifications": {}}), 400),
            (modern(target, "tools/call", wait), 400),
            (head(target, "GET", "/sse"), 503),
        ]:
            got, _, body = await ask(target, data)
            assert (got, "(streams)" in json.loads(body)["error"]["message"]) == (status, True)
        session = await open_session(target)
        named = {"mcp_session_id": session, "mcp_protocol_version": LEGACY}
        got, _, body = await ask(target, head(target, "GET", "/mcp", **named))
        assert (got, "(streams)" in json.loads(body)["error"]["message"]) == (503, True)
        got, _, body = await ask(target, post(target, tool("wait", tell=True), **named))
        assert (got, "(streams)" in json.loads(body)["error"]["message"]) == (200, True)
        assert target.http.sessions is not None
        assert not target.http.sessions.table[session].readers
        await is_well(target)


# --- garbage in a body ---------------------------------------------------------------------------

BODIES = [
    b"", b"\xff\xfe", b"{", b"nul", b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"\xc3\x28"}',
    json.dumps(tool()).encode("utf-16"), b"\xef\xbb\xbf" + json.dumps(tool()).encode(),
    b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000,
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e999}}',
    b"5", b"null", b'"x"', b"{}", b"[]", b"[[]]", json.dumps([tool()]).encode(),
    b'{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"touch"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"touch"}}',
    b'{"jsonrpc":"2.0","id":true,"method":"tools/call","params":{"name":"touch"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud800"}}',
    b'{"jsonrpc":"2.0","id":1,"result":{}}',
]  # fmt: skip


async def test_garbage_is_refused_and_the_connection_goes_on() -> None:
    async with house() as target, visit(target) as visitor:
        for body in BODIES:
            for version in (None, LEGACY, MODERN):
                await visitor.send(post(target, body, mcp_protocol_version=version))
                status, headers, answer = await visitor.answer()
                assert (status, headers["content-type"]) == (400, "application/json"), body[:80]
                assert json.loads(answer)["error"]["code"] in (-32700, -32600)
        assert target.touched == 0
        await visitor.send(modern(target, "tools/call", {"name": "touch"}))
        assert (await visitor.answer())[0] == 200


@pytest.mark.parametrize("arguments", ["x", [], 5, True, {"a": 1}])
async def test_arguments_that_are_none(arguments: Any) -> None:
    async with house() as target:
        for data in [
            modern(target, "tools/call", {"name": "touch", "arguments": arguments}),
            post(target, {**tool(), "params": {"name": "touch", "arguments": arguments}}),
        ]:
            _, _, body = await ask(target, data)
            answer = json.loads(body)
            assert answer["id"] == 1
            assert "error" in answer or answer["result"]["isError"]
        assert target.touched == 0
        await is_well(target)


# --- what a client may learn ---------------------------------------------------------------------


async def test_no_failure_tells_of_the_machine(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as target:
        for how in ("tool", "value", "exit"):
            status, _, body = await ask(
                target, modern(target, "tools/call", {"name": "fail", "arguments": {"how": how}})
            )
            result = json.loads(body)["result"]
            expected = "for the model" if how == "tool" else "the tool fail failed"
            assert (status, result["isError"], result["content"][0]["text"]) == (200, True, expected)
        for params, code in [({}, -32603), ({"odd": 1}, -32600)]:
            status, _, body = await ask(target, modern(target, "broken", params))
            assert (status, json.loads(body)["error"]["code"]) == (500 if params else 200, code)
        assert "ZeroDivisionError" in caplog.text, "the log tells it all"
        assert "SECRET" in caplog.text
        await is_well(target)


# --- hanging up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rudely", [False, True])
async def test_hanging_up_at_every_stage(rudely: bool) -> None:
    async with house() as target:
        session = await open_session(target)
        named = {"mcp_session_id": session, "mcp_protocol_version": LEGACY}
        listen = {"notifications": {"toolsListChanged": True}}
        for number in range(2):
            call = post(target, tool("wait", f"a{number}"), **named)
            stages: list[tuple[bytes, bytes]] = [  # what is sent, and what is waited for before the end
                (b"", b""),
                (b"P", b""),
                (call[:40], b""),
                (call[: call.index(b"{")], b""),
                (call[:-1], b""),
                (call, b""),
                (post(target, tool("wait", f"b{number}", tell=True), **named), b"begun"),
                (post(target, tool("wait", tell=True)), b"begun"),
                (head(target, "GET", "/mcp", **named), b"retry: 1000"),
                (head(target, "GET", "/sse"), b"session_id="),
                (modern(target, "tools/call", {"name": "wait"}), b""),
                (modern(target, "tools/call", {"name": "wait", "arguments": {"tell": True}}), b"begun"),
                (modern(target, "subscriptions/listen", listen), b"acknowledged"),
            ]
            for sent, awaited in stages:
                begun = target.ends.count("begun")
                async with visit(target) as visitor:
                    await visitor.send(sent)
                    if awaited:
                        await visitor.said(awaited)
                    elif b'"wait"' in sent and sent.endswith(b"}}}"):
                        await becomes(lambda begun=begun: target.ends.count("begun") > begun)
                    if rudely:
                        visitor.reset()
                await is_well(target)
        assert target.http.sessions is not None
        remembered = target.http.sessions.table[session]
        await becomes(lambda: not remembered.readers)
        await becomes(lambda: target.ends.count("CancelledError") == 4)  # the modern ones
        assert len(target.http.sessions.table) == 1, "what came by /sse has gone with its stream"
        await becomes(lambda: len(target.server.listeners) == 1)  # the session's own
        target.proceed.set()
        await becomes(lambda: target.ends.count("done") == 6)  # for those who may come back, or not


@pytest.mark.parametrize("era", ["modern", "legacy", "session"])
async def test_a_peer_that_never_reads_is_dropped(era: str) -> None:
    async with house(write_timeout=0.05, **QUICK) as target:
        data = {"modern": modern(target, "tools/call", {"name": "flood"}), "legacy": post(target, tool("flood"))}
        if era == "session":
            session = await open_session(target)
            data["session"] = post(target, tool("flood"), mcp_session_id=session, mcp_protocol_version=LEGACY)
        async with visit(target, limit=2**12) as visitor:
            await visitor.send(data[era])
            await becomes(lambda: target.ends)
            assert target.ends == ["CancelledError" if era == "modern" else "done"]
            await is_well(target)


async def test_the_end_of_the_server_does_not_wait_for_a_peer_that_never_reads() -> None:
    async with asyncio.timeout(PATIENCE), house(deadline=0.05, linger=60) as target:
        session = await open_session(target)
        visitor = Visitor(*await asyncio.open_connection("127.0.0.1", target.http.port, limit=2**12))
        await visitor.send(post(target, tool("flood"), mcp_session_id=session, mcp_protocol_version=LEGACY))
        await visitor.said(b"message")
    assert target.ends == ["CancelledError"]
    visitor.writer.close()
    with suppress(OSError):
        await visitor.writer.wait_closed()


# --- a connection and its calls ------------------------------------------------------------------


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("tell", [False, True])
async def test_a_connection_goes_on_after_a_cancelled_call(tell: bool, pipelined: bool) -> None:
    async with house() as target, visit(target) as visitor:
        session = await open_session(target)
        named = {"mcp_session_id": session, "mcp_protocol_version": LEGACY}
        first, second = post(target, tool("wait", tell=tell), **named), post(target, tool("in_time", 2), **named)
        await visitor.send(first + second if pipelined else first)
        await becomes(lambda: target.ends)
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await ask(target, post(target, cancelled, **named)))[0] == 202
        status, _, body = await visitor.answer()
        assert (status, b"begun" in body, b'"result"' in body) == (200 if tell else 202, tell, False)
        if not pipelined:
            await visitor.send(second)
        status, _, body = await visitor.answer()
        assert json.loads(body)["result"]["content"][0]["text"] == "in time, 0"
        assert target.ends == ["begun", "CancelledError"]


@pytest.mark.parametrize("tell", [False, True])
async def test_a_call_that_lets_go_of_its_response(tell: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_min")
    async with house() as target, visit(target) as visitor, visit(target) as later:
        session = await open_session(target)
        named = {"mcp_session_id": session, "mcp_protocol_version": LEGACY}
        await visitor.send(post(target, tool("let_go", tell=tell), **named))
        status, _, body = await visitor.answer()
        seen, *hint = body.rpartition(b"id: ")[2].decode().split("\n")
        assert (status, b"before" in body, hint) == (200, tell, ["retry: 1000", "data: ", "", ""])
        assert await visitor.rest() == b"", "the connection is closed"
        await later.send(head(target, "GET", "/mcp", **named, last_event_id=seen))
        await later.said(b"retry")
        assert target.ends == ["begun"], "while the call goes on"
        target.proceed.set()
        assert b"found again" in await later.said(b"\r\n0\r\n\r\n")
        assert [record.getMessage()[-24:] for record in caplog.records] == [
            '"POST /mcp HTTP/1.1" 200',
            '"POST /mcp HTTP/1.1" 200',
            ' "GET /mcp HTTP/1.1" 200',
        ]


# --- who has authenticated -----------------------------------------------------------------------


async def test_keys_and_principals(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_min.access")

    def verify(token: str) -> Grant | None:
        return {"a": Grant("alice", frozenset({"admin"})), "b": Grant("bob", frozenset())}.get(token)

    resource = {"resource": "https://api.example/mcp", "authorization_servers": ["https://login.example"]}
    async with house(auth=Auth(api_keys={"key": "carol"}, verify=verify, **resource)) as target:
        scoped = {"name": "scoped"}
        metadata = "https://api.example/.well-known/oauth-protected-resource/mcp"
        for headers, expected, challenge in [
            ({}, 401, f'Bearer realm="mcp", resource_metadata="{metadata}"'),
            ({"x_api_key": "wrong"}, 401, "invalid_token"),
            ({"authorization": "Bearer x"}, 401, "invalid_token"),
            ({"authorization": "Bearer b"}, 403, 'error="insufficient_scope", scope="admin"'),
            ({"authorization": "Bearer a"}, 200, None),
            ({"x_api_key": "key"}, 200, None),
        ]:
            status, got, body = await ask(target, modern(target, "tools/call", scoped, **headers))
            assert status == expected
            assert challenge is None or challenge in got["www-authenticate"]
            assert status != 403 or json.loads(body)["id"] == 1
        status, _, body = await ask(target, head(target, "GET", "/.well-known/oauth-protected-resource/mcp"))
        assert (status, json.loads(body)["resource"]) == (200, "https://api.example/mcp")
        lines = [record.getMessage() for record in caplog.records if record.name == "mcp_min.access"]
        assert [line.split()[1] for line in lines] == ["None"] * 3 + ["'bob'", "'alice'", "'carol'", "None"]
        assert all(line.startswith("127.0.0.1 ") for line in lines)


async def test_sessions_streams_and_answers_are_fenced() -> None:
    async with house(auth=Auth(api_keys={"a": "alice", "b": "bob"})) as target:
        session = await open_session(target, x_api_key="a")
        named = {"mcp_session_id": session, "mcp_protocol_version": LEGACY}
        for data in [
            post(target, tool(), **named, x_api_key="b"),
            post(target, {"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}, **named, x_api_key="b"),
            post(target, tool(), f"/messages?session_id={session}", x_api_key="b"),
            head(target, "GET", "/mcp", **named, x_api_key="b"),
            head(target, "GET", "/mcp", **named, x_api_key="b", last_event_id="0-0"),
            head(target, "DELETE", "/mcp", **named, x_api_key="b"),
        ]:
            assert (await ask(target, data))[0] == 404
        assert target.touched == 0
        assert (await ask(target, post(target, tool(), **named, x_api_key="a")))[0] == 200
        async with visit(target) as first, visit(target) as second:
            stream = head(target, "GET", "/mcp", **named, x_api_key="a")
            await first.send(stream)
            await first.said(b"retry")
            await second.send(stream)
            assert (await second.answer())[0] == 409
            target.server.tools_changed()
            await first.said(b"list_changed")


# --- without sessions, and at the end ------------------------------------------------------------


async def test_stateless() -> None:
    async with house(stateless=True) as target:
        assert target.http.sessions is None
        for data, expected in [
            (head(target, "GET", "/mcp", mcp_session_id="x"), 405),
            (head(target, "DELETE", "/mcp", mcp_session_id="x"), 405),
            (head(target, "GET", "/sse"), 404),
            (post(target, tool(), "/messages?session_id=1"), 404),
            (post(target, [tool()]), 400),
            (post(target, tool(), mcp_session_id="x"), 200),
        ]:
            status, headers, _ = await ask(target, data)
            assert status == expected
            assert headers.get("allow") == ("POST" if status == 405 else None)
        params = {"protocolVersion": LEGACY, "capabilities": {}}
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        status, headers, _ = await ask(target, post(target, hello))
        assert (status, "mcp-session-id" in headers) == (200, False)


async def test_the_end_of_the_server_is_the_end_of_every_stream() -> None:
    async with house() as target:
        session = await open_session(target)
        named = {"mcp_session_id": session, "mcp_protocol_version": LEGACY}
        streams = [
            (modern(target, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}), b"acknowledged"),
            (head(target, "GET", "/mcp", **named), b"retry"),
            (head(target, "GET", "/sse"), b"session_id="),
            (post(target, tool("wait"), **named), b""),
            (modern(target, "tools/call", {"name": "wait"}), b""),
        ]
        visitors = []
        for data, awaited in streams:
            visitors.append(Visitor(*await asyncio.open_connection("127.0.0.1", target.http.port)))
            await visitors[-1].send(data)
            if awaited:
                await visitors[-1].said(awaited)
        await becomes(lambda: target.ends == ["begun", "begun"])
        target.proceed.set()
    rests = [await visitor.rest() for visitor in visitors]
    for visitor in visitors:
        visitor.writer.close()
        await visitor.writer.wait_closed()
    assert b'"result"' in rests[0], "a subscription has a final result"
    assert all(rest.endswith(b"\r\n0\r\n\r\n") for rest in rests[:3]), "streams end as streams do"
    assert all(b"waited" in rest for rest in rests[3:]), "what is in flight is answered"
