"""The endpoint without sockets: who is let in, which era a message is of, what status and what form an answer has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from http_by_hand import LEGACY, META, MODERN, PATIENCE, ByHand, becomes, call, modern

from mcp_min import Context, RpcError, Server, spec
from mcp_min import guards as front_door
from mcp_min.context import ROOTS
from mcp_min.dispatcher import Call
from mcp_min.guards import Grant, Guards, Refused
from mcp_min.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, ConnectionClosed
from mcp_min.streamable_http import Endpoint, Response

OTHER_ADDRESS = "10.1.2.3"


def guards(**options: Any) -> Guards:
    bound = Guards(**options)
    bound.bind("127.0.0.1", 8000)
    return bound


class Tools:
    """A server whose tools tell what became of them."""

    def __init__(self) -> None:
        self.calls = 0
        self.contexts: list[Context] = []
        self.proceed = asyncio.Event()
        self.ends: list[str] = []
        self.server = Server("tools", "1")
        for function in (self.add, self.tell, self.wait, self.ask, self.stubborn, self.forbidden):
            self.server.tool(function)
        self.server.tool(self.scoped, scopes=("math", "admin"))
        self.server.methods["odd/answer"] = self.odd_answer
        self.server.methods["notifications/odd"] = self.odd_notification

    def endpoint(self, auth: Any = None, **options: Any) -> Endpoint:
        return Endpoint(self.server.dispatch, guards(**options), auth)

    async def add(self, a: int, b: int, ctx: Context) -> int:
        self.calls += 1
        self.contexts.append(ctx)
        return a + b

    async def tell(self, ctx: Context, times: int = 2) -> str:
        for number in range(times):
            await ctx.log("info", f"{number} ä\n")
        return "told"

    async def wait(self, ctx: Context) -> str:
        """Tell that it has begun; then wait."""
        await ctx.log("info", "begun")
        try:
            await self.proceed.wait()
            await ctx.log("info", "still there")
            self.ends.append("done")
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        return "waited"

    async def stubborn(self, ctx: Context) -> str:
        """Do not mind being cancelled."""
        self.contexts.append(ctx)
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            await ctx.log("info", "never")
        return "never"

    async def ask(self, ctx: Context) -> str:
        return str(await ctx.ask({"roots": ROOTS}))

    async def forbidden(self) -> str:
        raise RpcError(403, "of the tool's own making", "with data")

    async def scoped(self) -> str:
        return "within"

    async def odd_answer(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        if params.get("told"):
            await ctx.log("info", 1)
        return {"odd": object()}

    async def odd_notification(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        self.calls += 1
        await ctx.log("info", "nowhere")
        return {}


@pytest.fixture
def tools() -> Tools:
    return Tools()


def body_of(response: Response | None) -> Any:
    assert response is not None
    assert response.headers["Content-Type"] == "application/json"
    return json.loads(response.body)


async def responds(endpoint: Endpoint, request: ByHand) -> Response:
    async with asyncio.timeout(PATIENCE):
        response = await endpoint(request)
    assert response is not None
    return response


LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}

# --- what the contract asks of a modern request, in its order ------------------------------------

NO_META: dict[str, Any] = {"_meta": None}
V999 = {spec.PROTOCOL_VERSION: "v999.0.0", spec.CLIENT_CAPABILITIES: {}}

# (method, params, headers instead of the right ones, error code, status)
ANSWERS: list[tuple[str, dict[str, Any], dict[str, str | None], int | None, int]] = [
    ("server/discover", {}, {}, None, 200),
    ("tools/call", ADD, {}, None, 200),
    ("tools/call", ADD, {"mcp-name": " add"[1:]}, None, 200),
    # Keys of `_meta` come before the headers,
    ("server/discover", {"_meta": {}}, {}, INVALID_PARAMS, 400),
    ("server/discover", {"_meta": {}}, {"mcp-protocol-version": None, "mcp-method": "wrong"}, INVALID_PARAMS, 400),
    ("server/discover", {"_meta": 5}, {}, INVALID_PARAMS, 400),
    ("server/discover", {"_meta": {spec.CLIENT_CAPABILITIES: {}}}, {}, INVALID_PARAMS, 400),
    ("server/discover", {"_meta": {spec.PROTOCOL_VERSION: MODERN}}, {}, INVALID_PARAMS, 400),
    ("tools/list", {"_meta": {}}, {}, INVALID_PARAMS, 400),
    ("tools/list", {"_meta": {}}, {"mcp-protocol-version": "v999.0.0"}, INVALID_PARAMS, 400),
    # the header before the version,
    ("tools/list", {"_meta": V999}, {}, spec.HEADER_MISMATCH, 400),
    ("tools/list", {}, {"mcp-protocol-version": LEGACY}, spec.HEADER_MISMATCH, 400),
    ("tools/list", {}, {"mcp-protocol-version": None}, spec.HEADER_MISMATCH, 400),
    ("tools/list", {}, {"mcp-protocol-version": ""}, spec.HEADER_MISMATCH, 400),
    ("tools/list", {}, {"mcp-protocol-version": "=?base64?MjAyNi0wNy0yOA==?="}, spec.HEADER_MISMATCH, 400),
    # the version before the method,
    ("tools/list", {"_meta": V999}, {"mcp-protocol-version": "v999.0.0", "mcp-method": None},
     spec.UNSUPPORTED_VERSION, 400),
    # Mcp-Method, Mcp-Name before whether there is such a method,
    ("tools/list", {}, {"mcp-method": "TOOLS/LIST"}, spec.HEADER_MISMATCH, 400),
    ("tools/list", {}, {"mcp-method": None}, spec.HEADER_MISMATCH, 400),
    ("tools/call", ADD, {"mcp-name": "other"}, spec.HEADER_MISMATCH, 400),
    ("tools/call", ADD, {"mcp-name": None}, spec.HEADER_MISMATCH, 400),
    ("initialize", {}, {"mcp-method": None}, spec.HEADER_MISMATCH, 400),
    *((method, {}, {}, METHOD_NOT_FOUND, 404) for method in ("initialize", "ping", "logging/setLevel",
      "resources/subscribe", "resources/unsubscribe", "unknown/method")),
    # and the params last.
    ("tools/call", {"name": "nothing"}, {}, INVALID_PARAMS, 400),
    ("tools/call", {"name": "ask"}, {}, spec.MISSING_CLIENT_CAPABILITY, 400),
    ("tools/call", {"name": "forbidden"}, {}, 403, 200),
    ("tools/call", {"name": "add", "arguments": {}}, {}, None, 200),  # the model's affair
]  # fmt: skip


@pytest.mark.parametrize("id", [1, "one"])
@pytest.mark.parametrize(("method", "params", "headers", "code", "status"), ANSWERS)
async def test_modern_statuses(
    tools: Tools, method: str, params: dict[str, Any], headers: dict[str, str], code: int | None, status: int, id: Any
) -> None:
    response = await responds(tools.endpoint(), modern(method, id, headers, **params))
    answer = body_of(response)
    assert response.status == status
    assert answer["id"] == id
    assert answer.get("error", {}).get("code") == code


# (method, params, error code): an error of a legacy request is no error of HTTP
LEGACY_ANSWERS: list[tuple[str, dict[str, Any], int | None]] = [
    ("initialize", {"protocolVersion": LEGACY}, None),
    ("initialize", {}, INVALID_PARAMS),
    ("ping", {}, None),
    ("tools/list", {"_meta": {}}, None),
    ("tools/list", {"_meta": 5}, INVALID_PARAMS),
    ("unknown/method", {}, METHOD_NOT_FOUND),
    ("unknown/method", {"_meta": {"progressToken": 1}}, METHOD_NOT_FOUND),
    ("tools/call", {"name": "nothing"}, INVALID_PARAMS),
    ("tools/call", {"name": "ask"}, INVALID_REQUEST),
]


@pytest.mark.parametrize("version", [None, *spec.LEGACY])
@pytest.mark.parametrize(("method", "params", "code"), LEGACY_ANSWERS)
async def test_legacy_statuses(
    tools: Tools, method: str, params: dict[str, Any], code: int | None, version: str | None
) -> None:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    response = await responds(tools.endpoint(), ByHand(message, {"mcp-protocol-version": version}))
    answer = body_of(response)
    assert (response.status, answer["id"], answer.get("error", {}).get("code")) == (200, 7, code)
    assert "resultType" not in answer.get("result", {})


async def test_initialize_is_legacy_whatever_the_header_says(tools: Tools) -> None:
    message = {"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": {"protocolVersion": LEGACY}}
    response = await responds(tools.endpoint(), ByHand(message, {"mcp-protocol-version": MODERN}))
    assert body_of(response)["result"]["protocolVersion"] == LEGACY
    response = await responds(tools.endpoint(), ByHand(message | {"params": {}}, {"mcp-protocol-version": MODERN}))
    assert (response.status, body_of(response)["error"]["code"]) == (200, INVALID_PARAMS)


async def test_methods_that_only_the_modern_era_has_are_modern(tools: Tools) -> None:
    for method in sorted(spec.MODERN_METHODS):
        response = await responds(tools.endpoint(), ByHand({"jsonrpc": "2.0", "id": 7, "method": method}))
        assert (response.status, body_of(response)["error"]["code"]) == (400, INVALID_PARAMS)


# (body, error code, id of the error)
GARBAGE: list[tuple[bytes, int, Any]] = [
    (b"", PARSE_ERROR, None),
    (b"\xff{}", PARSE_ERROR, None),
    (b"{", PARSE_ERROR, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}', PARSE_ERROR, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', PARSE_ERROR, None),
    (b"[" * 100_000, PARSE_ERROR, None),
    (b"5", INVALID_REQUEST, None),
    (b"null", INVALID_REQUEST, None),
    (b"{}", INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":1,"Method":"tools/call"}', INVALID_REQUEST, 1),
    (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', INVALID_REQUEST, 1),
    (b'{"jsonrpc":"2.0","id":"a","method":5}', INVALID_REQUEST, "a"),
    (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', INVALID_REQUEST, 1),
    # Arrays, and answers, need a session.
    (b"[]", INVALID_REQUEST, None),
    (b'["method", "id"]', INVALID_REQUEST, None),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":1,"result":{}}', INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}', INVALID_REQUEST, None),
]


@pytest.mark.parametrize("version", [None, LEGACY, MODERN])
@pytest.mark.parametrize(("body", "code", "id"), GARBAGE)
async def test_what_is_no_message_for_here(tools: Tools, body: bytes, code: int, id: Any, version: str | None) -> None:
    response = await responds(tools.endpoint(), ByHand(body, {"mcp-protocol-version": version}))
    answer = body_of(response)
    assert (response.status, answer["error"]["code"], answer.get("id")) == (400, code, id)
    assert "id" not in answer or id is not None


@pytest.mark.parametrize("version", [None, MODERN])
async def test_a_notification_is_accepted_and_has_no_body(tools: Tools, version: str | None) -> None:
    params = {"_meta": META} if version else {}
    headers = {"mcp-protocol-version": version, "mcp-method": "notifications/odd"}
    message = {"jsonrpc": "2.0", "method": "notifications/odd", "params": params}
    request = ByHand(message, headers)
    assert await responds(tools.endpoint(), request) == (202, {}, b"")
    assert tools.calls == 1
    assert request.status is None, "a notification about a notification has nowhere to go"


# --- JSON until something is sent ----------------------------------------------------------------


async def test_a_plain_answer_is_json(tools: Tools) -> None:
    request = modern("tools/call", **ADD)
    response = await responds(tools.endpoint(), request)
    assert response.headers == {"Content-Type": "application/json"}
    assert body_of(response)["result"]["structuredContent"] == 3
    assert request.status is None


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_an_answer_after_notifications_is_the_last_event(tools: Tools, era: str) -> None:
    request = modern("tools/call", name="tell", _meta=META | {spec.LOG_LEVEL: "info"})
    if era == "legacy":
        request = ByHand(call("tell"))
    assert await tools.endpoint()(request) is None
    assert request.status == 200
    assert request.sent_headers == {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }
    assert request.streamed[0].startswith(b":\n\nevent: message\ndata: {"), "the head is not held back by a proxy"
    assert len(request.streamed) == 3
    assert b"\nid:" not in b"".join(request.streamed), "such a stream cannot be resumed"
    first, second, answer = request.messages()
    assert [first["params"]["data"], second["params"]["data"]] == ["0 ä\n", "1 ä\n"]
    assert (answer["id"], answer["result"]["content"][0]["text"]) == (1, "told")


async def test_an_error_after_notifications_is_an_event_too(tools: Tools) -> None:
    @tools.server.tool
    async def fail(ctx: Context) -> str:
        await ctx.log("info", 1)
        raise RpcError(INVALID_PARAMS, "no")

    request = ByHand(call("fail"))
    assert await tools.endpoint()(request) is None
    assert request.messages()[-1]["error"]["code"] == INVALID_PARAMS


@pytest.mark.parametrize("told", [False, True])
async def test_what_is_not_json_is_the_servers_failure(tools: Tools, told: bool) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "odd/answer", "params": {"told": told}}
    with pytest.raises(TypeError):  # which a server answers with 500, or by cutting the stream
        await tools.endpoint()(ByHand(message))


async def test_a_server_without_room_for_a_stream_says_so(tools: Tools) -> None:
    class Full(ByHand):
        def stream(self, status: int, headers: Mapping[str, str], *, keep_alive: bytes) -> ByHand:
            raise OSError(503, "too many streams are open (streams)")

    answer = body_of(await responds(tools.endpoint(), Full(call("tell"))))
    assert answer["id"] == 1
    assert answer["error"]["message"] == "there can be no event stream: too many streams are open (streams)"


# --- the client hangs up -------------------------------------------------------------------------

LOGS = META | {spec.LOG_LEVEL: "info"}


async def test_hanging_up_cancels_a_modern_request(tools: Tools) -> None:
    request = modern("tools/call", name="wait", _meta=LOGS)
    answering = asyncio.create_task(tools.endpoint()(request))
    await request.message()
    request.hang_up()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert tools.ends == ["CancelledError"]


async def test_hanging_up_before_the_handler_waits_cancels_too(tools: Tools) -> None:
    request = modern("tools/call", name="stubborn", _meta=LOGS)
    request.hung_up = True
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([answering := asyncio.create_task(tools.endpoint()(request))])
    assert answering.cancelled() or answering.result() is None
    assert request.streamed == []


async def test_a_hang_up_that_comes_too_late_cancels_nothing(tools: Tools) -> None:
    request = modern("tools/call", **ADD)
    request.hung_up = True
    assert await tools.endpoint()(request) is not None
    await asyncio.sleep(0)  # where a late cancellation would end this test


async def test_nothing_is_sent_for_a_cancelled_request(tools: Tools) -> None:
    request = modern("tools/call", name="stubborn", _meta=LOGS)
    answering = asyncio.create_task(tools.endpoint()(request))
    await becomes(lambda: tools.contexts)
    assert request.on_hangup is not None
    request.on_hangup()  # the client has ended its side, but would still read
    await asyncio.wait([answering])
    assert answering.cancelled() or answering.result() is None
    assert request.streamed == []


async def test_before_the_modern_era_work_goes_on(tools: Tools) -> None:
    request = ByHand(call("wait"))
    answering = asyncio.create_task(tools.endpoint()(request))
    await request.message()
    request.hang_up()
    tools.proceed.set()
    with pytest.raises(ConnectionResetError):  # the answer has nobody to go to, which a server knows by now
        await answering
    assert tools.ends == ["done"]


async def test_a_reader_lost_without_a_word_ends_a_modern_handler(tools: Tools) -> None:
    request = modern("tools/call", name="wait", _meta=LOGS)
    answering = asyncio.create_task(tools.endpoint()(request))
    await request.message()
    request.hung_up = True  # and nobody tells
    tools.proceed.set()
    with pytest.raises(ConnectionResetError):
        await answering
    assert tools.ends == ["ConnectionClosed"]


async def test_a_listener_that_goes_away_is_removed(tools: Tools) -> None:
    request = modern("subscriptions/listen", notifications={"toolsListChanged": True})
    answering = asyncio.create_task(tools.endpoint()(request))
    assert (await request.message())["method"] == "notifications/subscriptions/acknowledged"
    tools.server.tools_changed()
    assert (await request.message())["method"] == "notifications/tools/list_changed"
    request.hang_up()
    await asyncio.wait([answering])
    assert not tools.server.listeners


async def test_a_listener_that_the_server_ends_gets_its_result(tools: Tools) -> None:
    request = modern("subscriptions/listen", notifications={"toolsListChanged": True})
    answering = asyncio.create_task(tools.endpoint()(request))
    await request.message()
    tools.server.end_listeners()
    assert await answering is None
    assert request.messages()[-1]["result"]["_meta"][spec.SUBSCRIPTION_ID] == 1


async def test_a_slow_reader_holds_its_own_handler(tools: Tools) -> None:
    request = modern("tools/call", name="tell", arguments={"times": 100}, _meta=LOGS)
    request.read.clear()
    answering = asyncio.create_task(tools.endpoint()(request))
    await request.message()
    other = await responds(tools.endpoint(), modern("tools/call", **ADD))
    assert other.status == 200
    assert len(request.streamed) == 1, "nothing is piled up for it"
    request.read.set()
    await answering
    assert len(request.messages()) == 100


# --- who is let in -------------------------------------------------------------------------------

# (bound to, options, Host, whether it is let in)
HOSTS: list[tuple[tuple[str, int], dict[str, Any], str | None, bool]] = [
    (("127.0.0.1", 8000), {}, "127.0.0.1:8000", True),
    (("127.0.0.1", 8000), {}, "localhost:8000", True),
    (("127.0.0.1", 8000), {}, "LocalHost:8000", True),
    (("127.0.0.1", 8000), {}, "[::1]:8000", False),
    (("127.0.0.1", 8000), {}, "127.0.0.1:8001", False),
    (("127.0.0.1", 8000), {}, "127.0.0.1", False),
    (("127.0.0.1", 8000), {}, "localhost", False),
    (("127.0.0.1", 8000), {}, "evil.example:8000", False),
    (("127.0.0.1", 8000), {}, "localhost.evil.example:8000", False),
    (("127.0.0.1", 8000), {}, "127.0.0.1:8000.evil.example", False),
    (("127.0.0.1", 8000), {}, "", False),
    (("127.0.0.1", 8000), {}, None, False),
    (("127.0.0.1", 80), {}, "127.0.0.1", True),
    (("127.0.0.1", 80), {}, "localhost:80", True),
    (("127.0.0.1", 80), {}, "localhost:8000", False),
    (("localhost", 443), {}, "localhost", True),
    (("localhost", 443), {}, "[::1]", True),
    (("localhost", 8000), {}, "127.0.0.1:8000", True),
    (("LOCALHOST", 8000), {}, "localhost:8000", True),
    (("::1", 8000), {}, "[::1]:8000", True),
    (("::1", 8000), {}, "::1:8000", False),
    (("::1", 8000), {}, "localhost:8000", True),
    (("::1", 8000), {}, "127.0.0.1:8000", False),
    (("192.0.2.1", 8000), {}, "192.0.2.1:8000", True),
    (("192.0.2.1", 8000), {}, "localhost:8000", False),
    (("0.0.0.0", 8000), {}, "192.0.2.1:8000", False),
    (("0.0.0.0", 8000), {"allowed_hosts": ["mcp.example"]}, "mcp.example", True),
    (("0.0.0.0", 8000), {"allowed_hosts": ["mcp.example"]}, "mcp.example:8000", True),
    (("0.0.0.0", 8000), {"allowed_hosts": ["MCP.Example"]}, "mcp.example:443", True),
    (("0.0.0.0", 8000), {"allowed_hosts": ["mcp.example:443"]}, "mcp.example:443", True),
    (("0.0.0.0", 8000), {"allowed_hosts": ["mcp.example:443"]}, "mcp.example:8000", False),
    (("0.0.0.0", 8000), {"allowed_hosts": ["mcp.example:443"]}, "mcp.example", False),
    (("0.0.0.0", 8000), {"allowed_hosts": ["[2001:db8::1]"]}, "[2001:db8::1]:8000", True),
    (("0.0.0.0", 8000), {"allowed_hosts": ["mcp.example"]}, "evil.mcp.example", False),
    (("0.0.0.0", 8000), {"allowed_hosts": "mcp.example"}, "mcp.example:8000", True),
    (("0.0.0.0", 8000), {"allowed_hosts": "mcp.example"}, "mcp", False),
    (("0.0.0.0", 8000), {"allowed_hosts": "mcp.example"}, "m", False),
    (("0.0.0.0", 8000), {"allowed_hosts": [""]}, "evil.example", False),
    (("0.0.0.0", 8000), {"allowed_hosts": [""]}, "", False),
    (("0.0.0.0", 8000), {"allowed_hosts": iter(["a", "b"])}, "b", True),
]  # fmt: skip


@pytest.mark.parametrize(("bound", "options", "host", "let_in"), HOSTS)
async def test_host(
    tools: Tools, bound: tuple[str, int], options: dict[str, Any], host: str | None, let_in: bool
) -> None:
    bouncer = Guards(**options)
    bouncer.bind(*bound)
    response = await responds(Endpoint(tools.server.dispatch, bouncer), ByHand(PING, {"host": host}))
    assert response.status == (200 if let_in else 421)
    assert let_in or "allowed_hosts" in body_of(response)["error"]["message"]


# (options, Origin, whether it is let in); the server is at 127.0.0.1:8000, which requests name in Host
ORIGINS: list[tuple[dict[str, Any], str, bool]] = [
    ({}, "http://127.0.0.1:8000", True),
    ({}, "http://localhost:8000", True),
    ({}, "HTTP://LOCALHOST:8000", True),
    ({}, "https://localhost:8000", True),
    ({}, "http://localhost", False),
    ({}, "http://localhost:9000", False),
    ({}, "null", False),
    ({}, "", False),
    ({}, "file://127.0.0.1:8000", False),
    ({}, "127.0.0.1:8000", False),
    ({}, "http://evil.example", False),
    ({}, "http://evil.example:8000", False),
    ({}, "http://localhost:8000.evil.example", False),
    ({}, "http://evil.example/http://localhost:8000", False),
    ({"allowed_origins": ["https://app.example"]}, "https://app.example", True),
    ({"allowed_origins": ["HTTPS://APP.example"]}, "https://app.example", True),
    ({"allowed_origins": ["https://app.example"]}, "http://app.example", False),
    ({"allowed_origins": ["https://app.example"]}, "https://app.example:8443", False),
    ({"allowed_origins": ["https://app.example"]}, "https://evil.app.example", False),
    ({"allowed_origins": "https://app.example"}, "https://app.example", True),
    ({"allowed_origins": "https://app.example"}, "h", False),
    ({"allowed_origins": [""]}, "", False),
    ({"allowed_hosts": ["app.example"]}, "https://app.example", False),  # a Host is no Origin
]


@pytest.mark.parametrize(("options", "origin", "let_in"), ORIGINS)
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_origin_and_cors(tools: Tools, options: dict[str, Any], origin: str, let_in: bool, method: str) -> None:
    response = await responds(tools.endpoint(**options), ByHand(PING, {"origin": origin}, method=method))
    shared = {name for name in response.headers if name.startswith("Access-Control-") or name == "Vary"}
    if not let_in:
        assert response.status == 403
        assert "allowed_origins" in body_of(response)["error"]["message"]
        assert not shared
        return
    assert response.status == (200 if method == "POST" else 204)
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.headers["Access-Control-Expose-Headers"] == "Mcp-Session-Id, WWW-Authenticate"
    assert response.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in shared


async def test_host_and_origin_of_an_attacker_agree_and_do_not_help(tools: Tools) -> None:
    """DNS rebinding: the browser believes that evil.example is this server."""
    request = ByHand(PING, {"host": "evil.example:8000", "origin": "http://evil.example:8000"})
    assert (await responds(tools.endpoint(), request)).status == 421


async def test_preflight(tools: Tools) -> None:
    asked = {"origin": "http://localhost:8000", "access-control-request-headers": "content-type,mcp-method, x-my"}
    for path, methods in [("/mcp", "POST"), ("/mcp/", "POST"), ("/nothing", "")]:
        response = await responds(tools.endpoint(), ByHand(None, asked, method="OPTIONS", path=path))
        assert (response.status, response.body) == (204, b"")
        assert response.headers["Access-Control-Allow-Methods"] == methods
        assert response.headers["Access-Control-Allow-Headers"] == "content-type,mcp-method, x-my"
        assert response.headers["Access-Control-Max-Age"] == "600"


@pytest.mark.parametrize("wanted", ["x\ty", "x\x80", "x\xa0", "x\r\nSet-Cookie: y"])
async def test_what_no_header_may_hold_is_not_repeated(tools: Tools, wanted: str) -> None:
    asked = {"origin": "http://localhost:8000", "access-control-request-headers": wanted}
    response = await responds(tools.endpoint(), ByHand(None, asked, method="OPTIONS"))
    assert (response.status, response.headers["Access-Control-Allow-Headers"]) == (204, "")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (ByHand(PING, method="GET"), 405),
        (ByHand(PING, path="/nothing"), 404),
        (ByHand(PING, {"content-type": "text/plain"}), 415),
        (ByHand(b"{"), 400),
        (ByHand(PING, {"mcp-protocol-version": "v1"}), 400),
    ],
    ids=str,
)
async def test_a_page_can_read_why_it_was_refused(tools: Tools, request_: ByHand, status: int) -> None:
    request_.headers["origin"] = "http://localhost:8000"
    response = await responds(tools.endpoint(), request_)
    assert response.status == status
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:8000"
    assert response.headers["Content-Type"] == "application/json"


async def test_a_page_can_read_a_stream(tools: Tools) -> None:
    request = ByHand(call("tell"), {"origin": "http://localhost:8000"})
    assert await tools.endpoint()(request) is None
    assert request.sent_headers["Access-Control-Allow-Origin"] == "http://localhost:8000"
    assert request.sent_headers["Content-Type"] == "text/event-stream"


# (allowed_addresses, the client's, whether it is let in)
ADDRESSES: list[tuple[Any, str, bool]] = [
    ((), OTHER_ADDRESS, True),
    (["10.0.0.0/8"], OTHER_ADDRESS, True),
    (["10.0.0.0/8"], "11.1.2.3", False),
    (["10.1.2.3"], OTHER_ADDRESS, True),
    ("10.1.2.3", OTHER_ADDRESS, True),
    (["10.0.0.0/8", "2001:DB8::/32"], "2001:db8::5", True),
    (["10.0.0.0/8", "2001:db8::/32"], "fe80::1%eth0", False),
]


@pytest.mark.parametrize(("allowed", "peer", "let_in"), ADDRESSES)
async def test_addresses(tools: Tools, allowed: Any, peer: str, let_in: bool) -> None:
    # The Host would be refused too: addresses come first.
    response = await responds(tools.endpoint(allowed_addresses=allowed), ByHand(PING, {"host": "evil"}, peer=peer))
    assert response.status == (421 if let_in else 403)
    assert let_in or "allowed_addresses" in body_of(response)["error"]["message"]


@pytest.mark.parametrize(
    "options",
    [{"allowed_addresses": ["10.0.0.1/8"]}, {"allowed_addresses": ["localhost"]}, {"rate": 0}, {"rate": -1}],
)
def test_options_that_make_no_sense_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rate|host bits|appear"):
        Guards(**options)


# --- rates ---------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


# (rate, [(seconds that pass, whether the request is served, Retry-After otherwise)])
RATES: list[tuple[float, list[tuple[float, str | None]]]] = [
    (2, [(0, None), (0, None), (0, "1"), (0.4, "1"), (0.1, None), (0, "1"), (100, None), (0, None), (0, "1")]),
    (0.1, [(0, None), (0, "11"), (5, "6"), (5, None), (0, "11")]),
    (1, [(0, None), (0.5, "1"), (0.5, None)]),
]


@pytest.mark.parametrize(("rate", "requests"), RATES)
async def test_rate(tools: Tools, rate: float, requests: list[tuple[float, str | None]]) -> None:
    clock = Clock()
    endpoint = tools.endpoint(rate=rate, now=clock)
    for passed, retry_after in requests:
        clock.time += passed
        response = await responds(endpoint, ByHand(PING))
        assert response.status == (200 if retry_after is None else 429)
        assert response.headers.get("Retry-After") == retry_after
    refused = body_of(response)["error"] if response.status == 429 else {"message": "(rate)"}
    assert "(rate)" in refused["message"]
    other = await responds(endpoint, ByHand(PING, peer=OTHER_ADDRESS))
    assert other.status == 200, "each address has its own"


async def test_what_is_remembered_of_rates_is_bounded(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "MAX_REMEMBERED", 3)
    bouncer = guards(rate=1, now=Clock())
    endpoint = Endpoint(tools.server.dispatch, bouncer)
    for number in [1, 2, 1, 3, 4]:  # 2 has been silent longest when 4 comes
        await endpoint(ByHand(PING, peer=f"10.0.0.{number}"))
    assert list(bouncer._buckets) == ["10.0.0.1", "10.0.0.3", "10.0.0.4"]


# --- who has authenticated -----------------------------------------------------------------------


class Passwords:
    """Authenticates by `authorization: NAME`, which is no way to do it."""

    metadata: dict[str, Any] | None = None

    async def authenticate(self, headers: Mapping[str, str]) -> Grant:
        name = headers.get("authorization")
        if name is None:
            raise Refused(401, "authentication is needed", {"WWW-Authenticate": "Bearer"})
        if name == "mallory":
            raise Refused(403, "not you", {"WWW-Authenticate": 'Bearer error="insufficient_scope"'})
        return Grant(name, frozenset({"math"}) if name == "bob" else frozenset({"math", "admin"}))

    def insufficient(self, scopes: list[str]) -> Mapping[str, str]:
        return {"WWW-Authenticate": f"Bearer scope={'+'.join(scopes)}"}


@pytest.mark.parametrize(
    ("name", "status", "challenge"),
    [(None, 401, "Bearer"), ("mallory", 403, 'Bearer error="insufficient_scope"'), ("alice", 200, None)],
)
async def test_authentication(tools: Tools, name: str | None, status: int, challenge: str | None) -> None:
    request = modern("tools/call", headers={"authorization": name}, **ADD)
    response = await responds(tools.endpoint(Passwords()), request)
    assert (response.status, response.headers.get("WWW-Authenticate")) == (status, challenge)
    assert tools.calls == (status == 200)
    assert request.principal == (name if status == 200 else None), "the access log shows it"
    assert [ctx.principal for ctx in tools.contexts] == ([name] if status == 200 else [])
    if status != 200:
        assert request.bodies_read == 0
        assert "id" not in body_of(response)


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 403)])
async def test_scopes_of_a_tool(tools: Tools, name: str, status: int, era: str) -> None:
    request = modern("tools/call", headers={"authorization": name}, name="scoped")
    if era == "legacy":
        request = ByHand(call("scoped"), {"authorization": name})
    response = await responds(tools.endpoint(Passwords()), request)
    assert response.status == status
    assert body_of(response)["id"] == 1
    challenge = None if status == 200 else "Bearer scope=admin+math"
    assert response.headers.get("WWW-Authenticate") == challenge


@pytest.mark.parametrize("name", ["forbidden", "unscoped", "nothing"])
@pytest.mark.parametrize("auth", [None, Passwords()])
async def test_other_errors_are_no_challenge(tools: Tools, name: str, auth: Any) -> None:
    @tools.server.tool
    async def unscoped() -> str:
        raise RpcError(404, "of the tool's own making", {"scopes": ["a"]})

    response = await responds(tools.endpoint(auth), ByHand(call(name), {"authorization": "alice"}))
    assert (response.status, response.headers.get("WWW-Authenticate")) == (200, None)


async def test_a_challenge_needs_somebody_who_challenges(tools: Tools) -> None:
    lacking = {"jsonrpc": "2.0", "id": 1, "error": {"code": spec.INSUFFICIENT_SCOPE, "message": "", "data": {}}}
    assert tools.endpoint().finished(lacking, modern=True).status == 200
    assert tools.endpoint(Passwords()).finished(lacking, modern=False).status == 403
    differing = {"jsonrpc": "2.0", "id": 1, "error": {"code": spec.HEADER_MISMATCH, "message": ""}}
    assert tools.endpoint().finished(differing, modern=False).status == 400
    nameless = {"jsonrpc": "2.0", "error": {"code": INVALID_REQUEST, "message": ""}}
    assert tools.endpoint().finished(nameless, modern=False).status == 400


async def test_rate_per_principal(tools: Tools) -> None:
    clock = Clock()
    endpoint = tools.endpoint(Passwords(), rate=1, now=clock)
    statuses = []
    for name, peer in [("alice", "10.0.0.1"), ("alice", "10.0.0.2"), ("bob", "10.0.0.3"), (None, "10.0.0.4")]:
        response = await responds(endpoint, ByHand(PING, {"authorization": name}, peer=peer))
        statuses.append(response.status)
    assert statuses == [200, 429, 200, 401]


@pytest.mark.parametrize("path", ["", "/mcp", "/mcp/", "/prefix/mcp"])
async def test_metadata_needs_no_authentication_but_the_guards(tools: Tools, path: str) -> None:
    auth = Passwords()
    request = {"method": "GET", "path": "/.well-known/oauth-protected-resource" + path}
    assert (await responds(tools.endpoint(auth), ByHand(**request))).status == 401
    auth.metadata = {"resource": "https://api.example/mcp"}
    response = await responds(tools.endpoint(auth), ByHand(**request))
    assert (response.status, body_of(response)) == (200, auth.metadata)
    assert (await responds(tools.endpoint(auth), ByHand(None, {"host": "evil"}, **request))).status == 421
    assert (await responds(tools.endpoint(auth), ByHand(PING))).status == 401
    assert (await responds(tools.endpoint(), ByHand(**request))).status == 404


# --- paths, methods, content types ---------------------------------------------------------------


# (method, path, status, Allow)
ROUTES = [
    ("POST", "/mcp", 200, None),
    ("POST", "/mcp/", 200, None),
    ("GET", "/mcp", 405, "POST"),
    ("HEAD", "/mcp", 405, "POST"),
    ("DELETE", "/mcp/", 405, "POST"),
    ("POST", "/", 404, None),
    ("POST", "/MCP", 404, None),
    ("POST", "//mcp", 404, None),
    ("POST", "/mcp/..", 404, None),
    ("POST", "/%6dcp", 404, None),
    ("POST", "*", 404, None),
    ("GET", "/sse", 404, None),
    ("POST", "/messages", 404, None),
]


@pytest.mark.parametrize(("method", "path", "status", "allow"), ROUTES)
async def test_routes(tools: Tools, method: str, path: str, status: int, allow: str | None) -> None:
    response = await responds(tools.endpoint(), ByHand(PING, method=method, path=path))
    assert (response.status, response.headers.get("Allow")) == (status, allow)
    assert status != 404 or "/mcp" in body_of(response)["error"]["message"]


# (Content-Type, whether it is read)
KINDS = [
    ("application/json", True),
    ("Application/JSON", True),
    ("application/json; charset=utf-8", True),
    (" application/json ;x", True),
    (None, False),
    ("", False),
    ("text/plain", False),
    ("text/plain; application/json", False),
    ("application/jsonx", False),
    ("application/json-rpc", False),
    ("application/x-www-form-urlencoded", False),
    ("multipart/form-data", False),
]


@pytest.mark.parametrize(("kind", "read"), KINDS)
@pytest.mark.parametrize("version", [None, MODERN])
async def test_content_types(tools: Tools, kind: str | None, read: bool, version: str | None) -> None:
    request = modern("tools/call", headers={"content-type": kind}, **ADD) if version else ByHand(
        call("add", a=1, b=2), {"content-type": kind}
    )  # fmt: skip
    response = await responds(tools.endpoint(), request)
    assert response.status == (200 if read else 415)
    assert tools.calls == request.bodies_read == int(read)
    assert read or "application/json" in body_of(response)["error"]["message"]


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/event-stream", "text/html"])
async def test_whatever_a_client_accepts(tools: Tools, accept: str | None) -> None:
    assert (await responds(tools.endpoint(), ByHand(PING, {"accept": accept}))).status == 200


# Each fault is added to those before it; the one that is checked first decides.
FAULTS: list[tuple[dict[str, Any], int]] = [
    ({"body": b"{"}, 400),
    ({"content-type": "text/plain"}, 415),
    ({"method": "GET"}, 405),
    ({"path": "/nothing"}, 404),
    ({"authorization": None}, 401),
    ({"origin": "null"}, 403),
    ({"host": "evil"}, 421),
    ({"peer": "192.0.2.1"}, 403),
]


async def test_the_order_of_checks(tools: Tools) -> None:
    endpoint = tools.endpoint(Passwords(), allowed_addresses=[OTHER_ADDRESS])
    headers: dict[str, str | None] = {"authorization": "alice"}
    where: dict[str, Any] = {"peer": OTHER_ADDRESS}
    body: Any = PING
    for fault, status in FAULTS:
        body = fault.get("body", body)
        where |= {name: value for name, value in fault.items() if name in ("method", "path", "peer")}
        headers |= {name: value for name, value in fault.items() if name not in ("body", "method", "path", "peer")}
        response = await responds(endpoint, ByHand(body, headers, **where))
        assert response.status == status, fault


# --- what stands behind --------------------------------------------------------------------------


async def test_only_what_needs_a_memory_goes_to_who_has_one(tools: Tools) -> None:
    endpoint = tools.endpoint()
    seen: list[Any] = []

    async def legacy(message: Any, request: ByHand, call: Call) -> Response:
        assert call.headers is request.headers
        seen.append(message if isinstance(message, list) else message.get("method"))
        return Response(204)

    endpoint.legacy = legacy
    endpoint.routes["/messages"] = {"POST": endpoint.post}
    session = {"mcp-session-id": "1"}
    hello = {**PING, "method": "initialize"}
    for request in [ByHand(PING, session), ByHand([PING], session), ByHand(hello), ByHand(PING, path="/messages")]:
        assert await endpoint(request) == (204, {}, b"")
    assert seen == ["ping", [PING], "initialize", "ping"]
    # MAY ignore a session id in the modern era, which has none (streamable-http#backward-compatibility).
    for request in [modern("tools/list", headers=session), ByHand(LIST, {"mcp-protocol-version": "v2"}), ByHand(
        {"jsonrpc": "2.0", "id": 1, "method": "server/discover"}
    ), ByHand(LIST), ByHand([PING]), ByHand({"jsonrpc": "2.0", "method": "initialize"})]:  # fmt: skip
        assert (await responds(endpoint, request)).status in (200, 202, 400)
    assert len(seen) == 4


async def test_a_handler_is_told_why_it_cannot_go_on() -> None:
    """What a handler sees when its reader is lost is what every other transport raises too."""
    raised: list[BaseException] = []

    async def dispatch(message: Any, call: Call) -> Any:
        assert call.send is not None
        call.stands_alone = "_meta" in message["params"]
        try:
            await call.send({"jsonrpc": "2.0", "method": "x"})
        except Exception as error:
            raised.append(error)
        return {"jsonrpc": "2.0", "id": 1, "result": {}}

    for request in [modern("tools/list"), ByHand({**LIST, "params": {}})]:
        request.hung_up = True
        with pytest.raises(ConnectionResetError):
            await Endpoint(dispatch, guards())(request)
    assert [type(error) for error in raised] == [ConnectionClosed]
