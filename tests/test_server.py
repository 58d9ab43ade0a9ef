"""What a server answers, to clients of every revision: mostly one dict in, one dict out."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest

import mcp_min.server
import mcp_min.serving
from mcp_min import Client, Context, RpcError, Server, ToolError, audio, image, resource_link, spec, text
from mcp_min.content import ToolResult
from mcp_min.dispatcher import Call, Handler, Session
from mcp_min.jsonrpc import Message, Params, Result
from mcp_min.request_state import RequestState
from mcp_min.stream import answer as serve_connection
from mcp_min.stream import memory_pair

MODERN, LEGACY = "2026-07-28", "2025-11-25"
VERSIONS = [MODERN, *spec.LEGACY]
META = {spec.PROTOCOL_VERSION: MODERN, spec.CLIENT_CAPABILITIES: {}}
INFO = {"name": "c", "version": "1"}
EVERYTHING = {"elicitation": {}, "sampling": {}, "roots": {}}


def request(method: str, params: Params | None = None, version: str = MODERN, id: Any = 1) -> Message:
    params = dict(params or {})
    if version == MODERN:
        params["_meta"] = META | params.get("_meta", {})
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def ask(server: Server, method: str, params: Params | None = None, version: str = MODERN) -> Message:
    """The answer to a client of this revision, which has sent `initialize` if it is a legacy one."""
    call = Call()
    if version != MODERN:
        call.session = Session(nowhere)
        opening = {"protocolVersion": version, "capabilities": EVERYTHING, "clientInfo": INFO}
        await server.dispatch(request("initialize", opening, version), Call(session=call.session))
    try:
        answer = await server.dispatch(request(method, params, version), call)
    finally:
        if call.session is not None:
            call.session.close()
    assert answer is not None
    return answer


async def result(server: Server, method: str, params: Params | None = None, version: str = MODERN) -> Result:
    answer = await ask(server, method, params, version)
    assert "result" in answer, answer
    return answer["result"]  # type: ignore[no-any-return]


async def error(server: Server, method: str, params: Params | None = None, version: str = MODERN) -> Any:
    answer = await ask(server, method, params, version)
    assert "error" in answer, answer
    return answer["error"]


async def nowhere(message: Message) -> None: ...


def calculator(**options: Any) -> Server:
    server = Server("calculator", "1.2", **options)

    @server.tool
    async def add(a: int, b: int = 1) -> int:
        """Add two numbers."""
        return a + b

    return server


def returning(value: Any, annotation: Any = None, **options: Any) -> Server:
    """A server whose tool `f` returns this value, or raises it."""
    server = Server("s", **{key: options.pop(key) for key in ("show_errors",) if key in options})

    async def f() -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    if annotation is not None:
        f.__annotations__["return"] = annotation
    server.tool(**options)(f)
    return server


# --- which era -----------------------------------------------------------------------------------


async def test_a_modern_result() -> None:
    answer = await calculator(info={"title": "Calculator"}).handle(request("tools/call", ADD))
    assert answer == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "resultType": "complete",
            "content": [{"type": "text", "text": "3"}],
            "structuredContent": 3,
            "_meta": {spec.SERVER_INFO: {"name": "calculator", "version": "1.2", "title": "Calculator"}},
        },
    }


ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}


async def test_a_legacy_result() -> None:
    assert await ask(calculator(), "tools/call", ADD, LEGACY) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"content": [{"type": "text", "text": "3"}], "structuredContent": {"result": 3}},
    }


async def test_without_any_version_a_request_is_of_2025_03_26() -> None:
    assert await calculator().handle(request("tools/call", ADD, "none")) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"content": [{"type": "text", "text": "3"}]},
    }


WITHOUT_VERSION = {spec.CLIENT_CAPABILITIES: {}}
WITHOUT_CAPABILITIES = {spec.PROTOCOL_VERSION: MODERN}

# (method, params, HTTP version header, code or the revision that answers)
ERAS: list[tuple[str, Params, str | None, int | str]] = [
    ("tools/list", {}, None, "2025-03-26"),
    ("tools/list", {"_meta": META}, None, MODERN),
    ("tools/list", {"_meta": WITHOUT_VERSION}, None, "2025-03-26"),
    ("tools/list", {"_meta": WITHOUT_CAPABILITIES}, None, -32602),
    ("tools/list", {"_meta": META | {spec.PROTOCOL_VERSION: 5}}, None, -32602),
    ("tools/list", {"_meta": META | {spec.CLIENT_CAPABILITIES: []}}, None, -32602),
    ("tools/list", {"_meta": META | {spec.CLIENT_INFO: "c"}}, None, -32602),
    ("tools/list", {"_meta": META | {spec.LOG_LEVEL: "loud"}}, None, -32602),
    ("tools/list", {"_meta": META | {spec.LOG_LEVEL: ["info"]}}, None, -32602),
    ("tools/list", {"_meta": 5}, None, -32602),
    ("tools/list", {"_meta": META | {spec.PROTOCOL_VERSION: "v999.0.0"}}, None, -32022),
    ("tools/list", {"_meta": META | {spec.PROTOCOL_VERSION: LEGACY}}, None, -32022),
    ("server/discover", {}, None, -32602),
    ("subscriptions/listen", {}, None, -32602),
    # With headers, as HTTP has them.
    ("tools/list", {}, LEGACY, LEGACY),
    ("tools/list", {}, "2025-06-18", "2025-06-18"),
    ("tools/list", {}, MODERN, -32602),
    ("tools/list", {}, "v999.0.0", -32602),
    ("tools/list", {"_meta": META}, MODERN, MODERN),
    ("tools/list", {"_meta": META}, LEGACY, -32020),
    ("tools/list", {"_meta": META | {spec.PROTOCOL_VERSION: "v999.0.0"}}, MODERN, -32020),
    ("tools/list", {"_meta": META | {spec.PROTOCOL_VERSION: "v999.0.0"}}, "v999.0.0", -32022),
    ("initialize", {"protocolVersion": LEGACY}, MODERN, LEGACY),
]


@pytest.mark.parametrize(("method", "params", "header", "expected"), ERAS)
async def test_which_era_a_request_is_of(method: str, params: Params, header: str | None, expected: int | str) -> None:
    server = calculator()
    seen = []

    @server.middleware
    async def look(call_next: Handler, params: Params, ctx: Context) -> Result:
        seen.append(ctx.protocol_version)
        return await call_next(params, ctx)

    call = Call(headers={spec.VERSION_HEADER: header, spec.METHOD_HEADER: method}) if header else Call()
    answer = await server.dispatch({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, call)
    assert answer is not None
    if isinstance(expected, int):
        assert answer["error"]["code"] == expected
        assert seen == []
    elif method == "initialize":
        assert answer["result"]["protocolVersion"] == expected
    else:
        assert seen == [expected]


async def test_an_unsupported_version_names_those_that_are() -> None:
    problem = await error(calculator(), "tools/list", {"_meta": {spec.PROTOCOL_VERSION: "1900-01-01"}})
    assert problem["data"] == {"supported": [MODERN], "requested": "1900-01-01"}


@pytest.mark.parametrize("name", [None, "subtract"])
async def test_headers_are_compared_with_the_body(name: str | None) -> None:
    headers = {spec.VERSION_HEADER: MODERN, spec.METHOD_HEADER: "tools/call"}
    if name is not None:
        headers[spec.NAME_HEADER] = name
    answer = await calculator().dispatch(request("tools/call", ADD), Call(headers=headers))
    assert answer is not None
    assert answer["error"]["code"] == -32020


@pytest.mark.parametrize(("region", "code"), [("eu", None), ("us", -32020), (None, -32020)])
async def test_arguments_that_are_headers_too(region: str | None, code: int | None) -> None:
    server = Server("s")
    server.prompt(name="query")(lambda region="": region)

    @server.tool
    async def query(region: Annotated[str, {"x-mcp-header": "Region"}]) -> str:
        return region

    headers = {spec.VERSION_HEADER: MODERN, spec.METHOD_HEADER: "tools/call", spec.NAME_HEADER: "query"}
    headers |= {} if region is None else {"mcp-param-region": region}
    message = request("tools/call", {"name": "query", "arguments": {"region": "eu"}})
    answer = await server.dispatch(message, Call(headers=headers))
    assert answer is not None
    assert answer.get("error", {}).get("code") == code
    headers = headers | {spec.METHOD_HEADER: "prompts/get"}
    headers.pop("mcp-param-region", None)
    message = request("prompts/get", {"name": "query", "arguments": {"region": "eu"}})
    prompt = await server.dispatch(message, Call(headers=headers))
    assert prompt is not None
    assert "result" in prompt, "the argument of a prompt of that name has no header"


async def test_headers_of_what_is_no_tool() -> None:
    headers = {spec.VERSION_HEADER: MODERN, spec.METHOD_HEADER: "tools/call", spec.NAME_HEADER: "subtract"}
    answer = await calculator().dispatch(request("tools/call", {"name": "subtract"}), Call(headers=headers))
    assert answer is not None
    assert "there is no tool 'subtract'" in answer["error"]["data"]["details"]
    headers = {spec.VERSION_HEADER: MODERN, spec.METHOD_HEADER: "tools/list"}
    answer = await calculator().dispatch(request("tools/list"), Call(headers=headers))
    assert answer is not None
    assert "result" in answer


@pytest.mark.parametrize("method", sorted(spec.LEGACY_METHODS))
async def test_what_ended_with_the_legacy_era(method: str) -> None:
    server = calculator()
    server.resource("a://b")(lambda: "")
    problem = await error(server, method, {"uri": "a://b", "level": "info", "protocolVersion": LEGACY})
    assert problem["code"] == -32601
    assert MODERN in problem["data"]["details"], "a legacy client's user should learn what would work"


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_unknown_method(version: str) -> None:
    assert (await error(calculator(), "unknown/method", {}, version))["code"] == -32601


async def test_both_eras_share_a_connection() -> None:
    ours, theirs = memory_pair()
    serving = asyncio.create_task(serve_connection(theirs, calculator().dispatch))
    messages = ours.read()
    kinds = []
    opening = request("initialize", {"protocolVersion": LEGACY}, LEGACY)
    for message in (opening, request("tools/call", ADD), request("tools/call", ADD, LEGACY)):
        await ours.write(message)
        kinds.append((await anext(messages))["result"].get("structuredContent"))
    assert kinds == [None, 3, {"result": 3}]
    await ours.close()
    await serving


# --- handle --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "id"),
    [
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, -32600, 1),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, -32600, None),
        ([request("ping", {}, LEGACY)], -32600, None),
        ("ping", -32600, None),
    ],
)
async def test_handle_refuses_what_is_no_message(message: Any, code: int, id: Any) -> None:
    answer = await calculator().handle(message)
    assert answer is not None
    assert (answer["error"]["code"], answer.get("id")) == (code, id)


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/unknown"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}},
    ],
)
async def test_handle_has_no_answer_to_what_wants_none(message: Message) -> None:
    assert await calculator().handle(message) is None


async def test_handle_knows_who_asks() -> None:
    server = Server("s")

    @server.tool
    async def whoami(ctx: Context) -> str:
        await ctx.progress(1)  # goes nowhere
        return str(ctx.principal)

    message = request("tools/call", {"name": "whoami", "_meta": {"progressToken": 1}})
    answer = await server.handle(message, principal="ann")
    assert answer is not None
    assert answer["result"]["content"][0]["text"] == "ann"


# --- initialize, discover, ping ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requested", "agreed"),
    [*[(version, version) for version in spec.LEGACY], ("1900-01-01", LEGACY), (MODERN, LEGACY), ("", LEGACY)],
)
async def test_initialize_agrees_on_a_version(requested: str, agreed: str) -> None:
    server = calculator(instructions="Add.", info={"title": "Calculator"})
    session = Session(nowhere)
    params = {"protocolVersion": requested, "capabilities": {}, "clientInfo": INFO}
    answer = await server.dispatch(request("initialize", params, LEGACY), Call(session=session))
    assert answer is not None
    assert answer["result"] == {
        "protocolVersion": agreed,
        "serverInfo": {"name": "calculator", "version": "1.2"}
        | ({"title": "Calculator"} if agreed >= "2025-06-18" else {}),
        "capabilities": {"logging": {}, "tools": {"listChanged": True}},
        "instructions": "Add.",
    }
    assert session.batches == (agreed == "2025-03-26")
    assert len(server.listeners) == 1
    session.close()
    assert await server.handle(request("initialize", params, LEGACY)) == answer, "without a session nothing is kept"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"protocolVersion": 5},
        {"protocolVersion": LEGACY, "capabilities": []},
        {"protocolVersion": LEGACY, "clientInfo": "c"},
    ],
)
async def test_initialize_refuses_what_it_cannot_read(params: Params) -> None:
    answer = await calculator().handle(request("initialize", params, LEGACY))
    assert answer is not None
    assert answer["error"]["code"] == -32602


async def test_discover() -> None:
    server = calculator(instructions="Add.", extensions={"com.example/x": {}}, ttl_ms=5, cache_scope="public")
    assert await result(server, "server/discover") == {
        "resultType": "complete",
        "supportedVersions": VERSIONS,
        "capabilities": {"logging": {}, "tools": {"listChanged": True}, "extensions": {"com.example/x": {}}},
        "instructions": "Add.",
        "ttlMs": 5,
        "cacheScope": "public",
        "_meta": {spec.SERVER_INFO: {"name": "calculator", "version": "1.2"}},
    }


async def test_nothing_is_to_be_cached_by_default() -> None:
    discovered = await result(calculator(), "server/discover")
    assert (discovered["ttlMs"], discovered["cacheScope"]) == (0, "private")


async def test_without_instructions_there_are_none() -> None:
    assert "instructions" not in await result(calculator(), "server/discover")


@pytest.mark.parametrize("version", spec.LEGACY)
async def test_ping_is_answered_by_nothing(version: str) -> None:
    assert await result(calculator(), "ping", {}, version) == {}


# --- lists ---------------------------------------------------------------------------------------


def shelf(count: int, **options: Any) -> Server:
    server = Server("s", **options)
    for number in range(count):
        server.tool(name=f"t{number}")(lambda: "")
    return server


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
async def test_pages(version: str, count: int, sizes: list[int]) -> None:
    server = shelf(count + 1, page_size=3)
    server.remove_tool(f"t{count}")
    names, pages, params = [], [], dict[str, Any]()
    while True:
        page = await result(server, "tools/list", params, version)
        pages.append(len(page["tools"]))
        names += [tool["name"] for tool in page["tools"]]
        if version == MODERN:
            assert page["cacheScope"] == "private", "one scope for all pages"
        if "nextCursor" not in page:
            break
        params = {"cursor": page["nextCursor"]}
    assert (pages, names) == (sizes, [f"t{number}" for number in range(count)])


async def test_an_empty_cursor_is_a_cursor() -> None:
    assert len((await result(shelf(2), "tools/list", {"cursor": ""}))["tools"]) == 2


@pytest.mark.parametrize("cursor", ["garbage", "MA==", "LTE=", "OTk=", "é", "=", 5, None, ["Mw=="], {}])
async def test_a_bad_cursor(cursor: Any) -> None:
    problem = await error(shelf(4, page_size=3), "tools/list", {"cursor": cursor})
    assert problem["code"] == -32602
    assert "begin again" in problem["data"]["details"]


async def test_every_list_has_pages_and_caching_hints() -> None:
    server = Server("s", page_size=1, ttl_ms=60_000, cache_scope="public")
    for number in ("1", "2"):
        server.resource(f"a://{number}")(lambda: "")
        server.resource(f"a{number}://{{b}}")(lambda b: "")
        server.prompt(name=number)(lambda: "")
        server.tool(name=number)(lambda: "")
    kinds = {"tools/list": "tools", "prompts/list": "prompts"}
    kinds |= {"resources/list": "resources", "resources/templates/list": "resourceTemplates"}
    for method, kind in kinds.items():
        first = await result(server, method)
        assert (len(first[kind]), first["ttlMs"], first["cacheScope"]) == (1, 60_000, "public")
        last = await result(server, method, {"cursor": first["nextCursor"]})
        assert len(last[kind]) == 1
        assert "nextCursor" not in last
        legacy = await result(server, method, {}, LEGACY)
        assert legacy.keys() == {kind, "nextCursor"}, "no hints before 2026"


async def test_lists_know_the_revision() -> None:
    server = Server("s")
    server.tool(name="t", title="T")(lambda: "")
    assert (await result(server, "tools/list", {}, "2025-06-18"))["tools"][0]["title"] == "T"
    assert "title" not in (await result(server, "tools/list", {}, "2025-03-26"))["tools"][0]


@pytest.mark.parametrize("options", [{"page_size": 0}, {"ttl_ms": -1}, {"cache_scope": "everybody"}])
def test_options_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        Server("s", **options)


# --- tools: what goes in -------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "name: there is no tool None"),
        ({"name": 5}, "name: there is no tool 5"),
        ({"name": ["add"]}, "name: there is no tool"),
        ({"name": "subtract"}, "name: there is no tool 'subtract'"),
        ({"name": "add", "arguments": [1, 2]}, "arguments must be an object"),
        ({"name": "add", "arguments": "a"}, "arguments must be an object"),
        ({"name": "add", "arguments": 0}, "arguments must be an object"),
    ],
)
async def test_a_malformed_call_is_an_error(version: str, params: Params, words: str) -> None:
    problem = await error(calculator(), "tools/call", params, version)
    assert problem["code"] == -32602
    assert words in problem["data"]["details"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "a"),
        ({"a": "1"}, "arguments.a"),
        ({"a": 1, "c": 2}, "c"),
        (None, "a"),
    ],
)
async def test_arguments_that_do_not_fit_are_for_the_model_to_mend(version: str, arguments: Any, words: str) -> None:
    answer = await result(calculator(), "tools/call", {"name": "add", "arguments": arguments}, version)
    assert answer["isError"] is True
    assert words in answer["content"][0]["text"]


async def test_arguments_may_be_left_out() -> None:
    server = returning("done")
    for params in ({"name": "f"}, {"name": "f", "arguments": None}, {"name": "f", "arguments": {}}):
        assert (await result(server, "tools/call", params))["content"][0]["text"] == "done"


async def test_a_tool_may_need_scopes() -> None:
    server = Server("s")
    server.tool(name="f", scopes=("write", "read"))(lambda: "done")
    message = request("tools/call", {"name": "f"})
    for scopes, code in ((None, None), (frozenset({"read", "write", "x"}), None), (frozenset({"read"}), 403)):
        answer = await server.dispatch(message, Call(scopes=scopes))
        assert answer is not None
        assert answer.get("error", {}).get("code") == code
    assert answer["error"]["data"]["scopes"] == ["read", "write"]


# --- tools: what comes out -----------------------------------------------------------------------


class Color(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: int
    color: Color = Color.RED


# (value, return annotation, text, structuredContent in 2026, before)
RETURNED: list[tuple[Any, Any, str, Any, Any]] = [
    (3, int, "3", 3, {"result": 3}),
    (None, int | None, "null", None, {"result": None}),
    ([1, "é"], list[int | str], '[1, "é"]', [1, "é"], {"result": [1, "é"]}),
    ((1, 2), tuple[int, int], "[1, 2]", [1, 2], {"result": [1, 2]}),
    ({"a": 1}, dict[str, int], '{"a": 1}', {"a": 1}, {"a": 1}),
    ({"a": 1}, dict[str, int] | None, '{"a": 1}', {"a": 1}, {"result": {"a": 1}}),
    (Point(1), Point, '{"x": 1, "color": "red"}', {"x": 1, "color": "red"}, {"x": 1, "color": "red"}),
    ([Point(1)], list[Point], '[{"x": 1, "color": "red"}]', [{"x": 1, "color": "red"}], None),
    (Color.RED, Color, '"red"', "red", {"result": "red"}),
    ("a", Literal["a", "b"], '"a"', "a", {"result": "a"}),
    ([], list[str], "[]", [], {"result": []}),
    # Without a schema: data is structured all the same.
    ([1], list, "[1]", [1], {"result": [1]}),
    ({"a": 1}, None, '{"a": 1}', {"a": 1}, {"a": 1}),
    ([1], None, "[1]", [1], {"result": [1]}),
    (1.5, Any, "1.5", 1.5, {"result": 1.5}),
    (True, None, "true", True, {"result": True}),
    (Point(1), None, '{"x": 1, "color": "red"}', {"x": 1, "color": "red"}, {"x": 1, "color": "red"}),
    ({1: 2}, None, '{"1": 2}', {"1": 2}, {"1": 2}),
]


@pytest.mark.parametrize(("value", "annotation", "written", "modern", "legacy"), RETURNED)
async def test_values_are_structured_content(
    value: Any, annotation: Any, written: str, modern: Any, legacy: Any
) -> None:
    server = returning(value, annotation)
    content = [{"type": "text", "text": written}]
    answer = await result(server, "tools/call", {"name": "f"})
    assert (answer["content"], answer["structuredContent"], "isError" in answer) == (content, modern, False)
    assert json.dumps(answer["structuredContent"], ensure_ascii=False) == written
    legacy = {"result": modern} if legacy is None else legacy
    for version in ("2025-11-25", "2025-06-18"):
        assert await result(server, "tools/call", {"name": "f"}, version) == {
            "content": content,
            "structuredContent": legacy,
        }
    for version in ("2025-03-26", "2024-11-05"):
        assert await result(server, "tools/call", {"name": "f"}, version) == {"content": content}


@pytest.mark.parametrize(
    ("value", "annotation", "content"),
    [
        ("5", str, [{"type": "text", "text": "5"}]),
        ("5", None, [{"type": "text", "text": "5"}]),
        ("", str, [{"type": "text", "text": ""}]),
        (None, type(None), []),
        (None, None, []),
        (text("a"), None, [{"type": "text", "text": "a"}]),
        ([text("a"), "b"], list, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ([image(b"a", "image/png")], None, [{"type": "image", "data": "YQ==", "mimeType": "image/png"}]),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
async def test_text_and_content_are_not_structured(version: str, value: Any, annotation: Any, content: Any) -> None:
    server = returning(value, annotation)
    answer = await result(server, "tools/call", {"name": "f"}, version)
    assert {key: answer[key] for key in answer if key not in ("_meta", "resultType")} == {"content": content}


@pytest.mark.parametrize(
    ("version", "kinds"),
    [
        (MODERN, ["audio", "resource_link"]),
        ("2025-06-18", ["audio", "resource_link"]),
        ("2025-03-26", ["audio", "text"]),
        ("2024-11-05", ["text", "text"]),
    ],
)
async def test_content_that_a_revision_does_not_know_is_a_text(version: str, kinds: list[str]) -> None:
    server = returning([audio(b"", "audio/wav"), resource_link("a://b", "b")])
    answer = await result(server, "tools/call", {"name": "f"}, version)
    assert [block["type"] for block in answer["content"]] == kinds


async def test_a_whole_result() -> None:
    whole = ToolResult(content=[text("three")], structuredContent=3, _meta={"a": 1})
    assert (await result(returning(ToolResult()), "tools/call", {"name": "f"}))["content"] == []
    sound = returning(ToolResult(content=[audio(b"", "audio/wav")]))
    assert (await result(sound, "tools/call", {"name": "f"}, "2024-11-05"))["content"][0]["type"] == "text"
    server = returning(whole, int)
    modern = await result(server, "tools/call", {"name": "f"})
    assert modern.pop("_meta").pop("a") == 1
    assert modern == {"resultType": "complete", "content": [text("three")], "structuredContent": 3}
    legacy = await result(server, "tools/call", {"name": "f"}, LEGACY)
    assert legacy == {"content": [text("three")], "structuredContent": {"result": 3}, "_meta": {"a": 1}}
    assert await result(server, "tools/call", {"name": "f"}, "2024-11-05") == {"content": [text("three")]}
    assert whole["structuredContent"] == 3, "what the tool holds on to is not changed"


# (value or exception, options, what the text says)
FAILURES: list[tuple[Any, dict[str, Any], str]] = [
    (ToolError("no such file: a.txt"), {}, "^no such file: a.txt$"),
    (ValueError("secret"), {}, "^the tool f failed$"),
    (ValueError("secret"), {"show_errors": True}, "^the tool f failed: secret$"),
    (SystemExit(3), {}, "^the tool f failed$"),
    (float("nan"), {}, "^the tool f failed$"),
    ([float("inf")], {}, "^the tool f failed$"),
    (object(), {}, "^the tool f failed$"),
    ({"a": {1, 2}}, {}, "^the tool f failed$"),
    (b"bytes", {}, "^the tool f failed$"),
    ("\ud800", {}, "^the tool f failed$"),
    ({"a": "\ud800"}, {}, "^the tool f failed$"),
    ("three", {"output_schema": {"type": "integer"}}, "does not fit its output schema:\nresult: 'three'"),
    (text("three"), {"output_schema": {"type": "integer"}}, "does not fit its output schema:\nresult: None|null"),
    (ToolResult(content=[], structuredContent="3"), {"output_schema": {"type": "integer"}}, "output schema:\nresult"),
]


@pytest.mark.parametrize(("value", "options", "words"), FAILURES)
@pytest.mark.parametrize("version", [MODERN, LEGACY])
async def test_failures_are_results(version: str, value: Any, options: dict[str, Any], words: str) -> None:
    answer = await result(returning(value, **options), "tools/call", {"name": "f"}, version)
    assert answer["isError"] is True
    assert re.search(words, answer["content"][0]["text"]), answer
    assert "structuredContent" not in answer


async def test_a_failure_of_ones_own_making_needs_no_structured_content() -> None:
    failed = ToolResult(content=[text("no")], isError=True)
    answer = await result(returning(failed, int), "tools/call", {"name": "f"})
    assert (answer["content"], answer["isError"]) == ([text("no")], True)


async def test_the_reason_of_an_unexpected_failure_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "mcp_min"):
        await result(returning(ValueError("secret")), "tools/call", {"name": "f"})
        await result(returning(ToolError("expected")), "tools/call", {"name": "f"})
    (record,) = caplog.records
    assert record.getMessage() == "the tool f failed"
    assert "ValueError: secret" in caplog.text


async def test_an_error_of_the_protocol_passes_through() -> None:
    problem = await error(returning(RpcError(-32000, "Busy", {"retryAfter": 1})), "tools/call", {"name": "f"})
    assert problem == {"code": -32000, "message": "Busy", "data": {"retryAfter": 1}}


# --- how functions are called --------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Adder:
    """An object that can be called."""

    def __call__(self, a: int) -> int:
        return a + 1

    async def later(self, a: int) -> int:
        return a + 1

    @staticmethod
    def static(a: int) -> int:
        return a + 1


async def increment(a: int) -> int:
    return a + 1


@functools.wraps(increment)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return increment(*args, **kwargs)


@pytest.mark.parametrize(
    "function",
    [
        increment,
        lambda a: a + 1,
        wrapped,
        Adder(),
        Adder().later,
        Adder.static,
        functools.partial(lambda a, b: a + b, b=1),
        functools.partial(increment),
    ],
    ids=["async def", "def", "def that returns a coroutine", "object", "method", "static", "partial", "async partial"],
)
@pytest.mark.parametrize("in_thread", [True, False])
async def test_everything_that_can_be_called(function: Any, in_thread: bool) -> None:
    server = Server("s")
    server.tool(name="f", run_in_thread=in_thread)(function)
    answer = await result(server, "tools/call", {"name": "f", "arguments": {"a": 1}})
    assert answer["content"][0]["text"] == "2"


@pytest.mark.parametrize("in_thread", [True, False])
async def test_arguments_arrive_as_their_annotations_say(in_thread: bool) -> None:
    seen: list[Any] = []
    server = Server("s")

    @server.tool
    async def later(a: int, b: float, color: Color = Color.RED) -> None:
        seen.append((a, b, color))

    @server.tool(run_in_thread=in_thread)
    def now(a: int, b: float, color: Color = Color.RED) -> None:
        seen.append((a, b, color))

    for name in ("later", "now"):
        await result(server, "tools/call", {"name": name, "arguments": {"a": 2.0, "b": 1}})
        await result(server, "tools/call", {"name": name, "arguments": {"a": 2, "b": 1.0, "color": "red"}})
    assert [repr(values) for values in seen] == ["(2, 1.0, <Color.RED: 'red'>)"] * 4


async def test_where_functions_run() -> None:
    server = Server("s")

    @server.tool
    def thread() -> bool:
        return threading.current_thread() is threading.main_thread()

    @server.tool(run_in_thread=False)
    def inline() -> bool:
        return threading.current_thread() is threading.main_thread()

    for name, on_loop in (("thread", False), ("inline", True)):
        assert (await result(server, "tools/call", {"name": name}))["structuredContent"] is on_loop


async def test_a_blocked_thread_stalls_nobody() -> None:
    server = calculator()
    free = threading.Event()

    @server.tool
    def wait() -> bool:
        return free.wait(5)

    waiting = asyncio.create_task(result(server, "tools/call", {"name": "wait"}))
    assert (await result(server, "tools/call", ADD))["structuredContent"] == 3
    assert not waiting.done()
    free.set()
    assert (await waiting)["structuredContent"] is True


async def test_context_variables_reach_threads() -> None:
    server = Server("s")
    server.tool(name="f")(lambda: variable.get())
    variable.set("set")
    assert (await result(server, "tools/call", {"name": "f"}))["content"][0]["text"] == "set"


async def test_sys_exit_in_a_thread() -> None:
    server = Server("s")

    @server.tool
    def leave() -> str:
        sys.exit(3)

    assert (await result(server, "tools/call", {"name": "leave"}))["isError"] is True


async def test_without_threads_a_def_runs_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    mcp_min.server._threads_start.cache_clear()
    server = Server("s")

    @server.tool
    def f(ctx: Context) -> str:
        try:
            ctx.wait(ctx.progress(1))
        except RuntimeError as problem:
            return str(problem)
        return "waited"

    try:
        answer = await result(server, "tools/call", {"name": "f"})
    finally:
        mcp_min.server._threads_start.cache_clear()
    assert "use await here" in answer["content"][0]["text"]


async def test_the_context_reaches_the_function_by_its_annotation() -> None:
    server = Server("s")

    @server.tool
    def f(whatever: Context, a: int) -> str:
        return f"{whatever.request_id} {a}"

    answer = await result(server, "tools/call", {"name": "f", "arguments": {"a": 2}})
    assert answer["content"][0]["text"] == "1 2"


# --- resources -----------------------------------------------------------------------------------


def library(**options: Any) -> Server:
    server = Server("s", **options)

    @server.resource("config://app", mime_type="application/json")
    def config() -> dict[str, int]:
        return {"a": 1}

    @server.resource("image://logo", mime_type="image/png", ttl_ms=5, cache_scope="public")
    async def logo() -> bytes:
        return b"a"

    @server.resource("note://{id}")
    def note(id: str, ctx: Context) -> str:
        return f"note {id} for {ctx.principal}"

    @server.resource("file:///{+path}")
    def file(path: str) -> list[Any]:
        return [mcp_min.content.contents(f"file:///{path}/{name}", name) for name in "ab"]

    @server.resource("size://{kind}")
    def size(kind: Literal["small", "large"]) -> str:
        return kind

    @server.resource("lost://{id}")
    def lost(id: str) -> str:
        raise FileNotFoundError(id)

    @server.resource("broken://")
    def broken() -> str:
        raise ValueError("secret")

    return server


@pytest.mark.parametrize(
    ("uri", "contents"),
    [
        ("config://app", [{"uri": "config://app", "mimeType": "application/json", "text": '{"a": 1}'}]),
        ("image://logo", [{"uri": "image://logo", "mimeType": "image/png", "blob": "YQ=="}]),
        ("note://7", [{"uri": "note://7", "mimeType": "text/plain", "text": "note 7 for None"}]),
        ("note://a%20b", [{"uri": "note://a%20b", "mimeType": "text/plain", "text": "note a b for None"}]),
        (
            "file:///x/y",
            [{"uri": f"file:///x/y/{name}", "mimeType": "text/plain", "text": name} for name in "ab"],
        ),
        ("size://small", [{"uri": "size://small", "mimeType": "text/plain", "text": "small"}]),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
async def test_reading(version: str, uri: str, contents: list[Any]) -> None:
    assert (await result(library(), "resources/read", {"uri": uri}, version))["contents"] == contents


UNKNOWN = [
    "lost://1",
    "note://",
    "nothing://here",
    "size://medium",
    "file:///../etc/passwd",
    "file:///%2e%2e/etc",
    "note://a%2Fb",
    "",
]


@pytest.mark.parametrize("uri", UNKNOWN)
@pytest.mark.parametrize(("version", "code"), [(MODERN, -32602), *[(version, -32002) for version in spec.LEGACY]])
async def test_an_unknown_resource_is_named(version: str, code: int, uri: str) -> None:
    problem = await error(library(), "resources/read", {"uri": uri}, version)
    assert (problem["code"], problem["data"]["uri"]) == (code, uri)


@pytest.mark.parametrize("uri", [None, 5, ["config://app"]])
async def test_a_uri_is_a_string(uri: Any) -> None:
    problem = await error(library(), "resources/read", {"uri": uri}, LEGACY)
    assert (problem["code"], problem["data"]["details"]) == (-32602, "uri must be a string")


async def test_a_resource_that_fails_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    problem = await error(library(), "resources/read", {"uri": "broken://"})
    assert problem == {"code": -32603, "message": "Internal error"}
    assert "ValueError: secret" in caplog.text


@pytest.mark.parametrize(
    ("uri", "hints"),
    [("config://app", {"ttlMs": 7, "cacheScope": "private"}), ("image://logo", {"ttlMs": 5, "cacheScope": "public"})],
)
async def test_a_resource_may_have_caching_hints_of_its_own(uri: str, hints: dict[str, Any]) -> None:
    server = library(ttl_ms=7)
    answer = await result(server, "resources/read", {"uri": uri})
    assert {key: answer[key] for key in hints} == hints
    assert (await result(server, "resources/read", {"uri": uri}, LEGACY)).keys() == {"contents"}


# --- prompts and completion ----------------------------------------------------------------------


def prompting() -> Server:
    server = Server("s")

    @server.prompt
    def review(code: str, style: Literal["kind", "strict"] = "kind") -> list[Any]:
        """Review code."""
        answer = {"role": "assistant", "content": audio(b"", "audio/wav")}
        return [f"Review this, be {style}: {code}", answer]

    @server.prompt
    async def bad() -> Any:
        return 5

    @server.completion
    async def complete(ref: dict[str, Any], argument: dict[str, Any], context: dict[str, Any]) -> list[str]:
        return [f"{argument['value']}{number}" for number in range(context.get("many", 3))]

    return server


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_prompt(version: str) -> None:
    params = {"name": "review", "arguments": {"code": "1/0", "style": "strict"}}
    answer = await result(prompting(), "prompts/get", params, version)
    first, second = answer["messages"]
    assert first == {"role": "user", "content": {"type": "text", "text": "Review this, be strict: 1/0"}}
    assert second["role"] == "assistant"
    assert second["content"]["type"] == ("text" if version == "2024-11-05" else "audio")
    assert answer["description"] == "Review code."


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "there is no prompt None"),
        ({"name": ["review"]}, "there is no prompt"),
        ({"name": "write"}, "there is no prompt 'write'"),
        ({"name": "review"}, "code"),
        ({"name": "review", "arguments": {"code": 5}}, "arguments.code"),
        ({"name": "review", "arguments": {"code": "", "style": "rude"}}, "arguments.style"),
        ({"name": "review", "arguments": {"code": "", "other": ""}}, "other"),
        ({"name": "review", "arguments": ["1/0"]}, "arguments"),
    ],
)
async def test_a_prompt_that_cannot_be_got(params: Params, words: str) -> None:
    problem = await error(prompting(), "prompts/get", params)
    assert problem["code"] == -32602
    assert words in problem["data"]["details"]


async def test_what_a_prompt_returns_is_not_changed() -> None:
    server, kept = Server("s"), [{"role": "user", "content": audio(b"", "audio/wav")}]
    server.prompt(name="p")(lambda: kept)
    for version, kind in (("2024-11-05", "text"), (MODERN, "audio")):
        assert (await result(server, "prompts/get", {"name": "p"}, version))["messages"][0]["content"]["type"] == kind


async def test_a_prompt_without_a_docstring_has_no_description() -> None:
    server = Server("s")
    server.prompt(name="p")(lambda: "hello")
    assert "description" not in await result(server, "prompts/get", {"name": "p"})


async def test_a_prompt_that_returns_something_else(caplog: pytest.LogCaptureFixture) -> None:
    assert (await error(prompting(), "prompts/get", {"name": "bad", "arguments": None}))["code"] == -32603
    assert "a prompt returns strings" in caplog.text


@pytest.mark.parametrize(
    ("many", "values", "more"), [(0, 0, False), (3, 3, False), (100, 100, False), (101, 100, True), (500, 100, True)]
)
async def test_completion_has_a_cap(many: int, values: int, more: bool) -> None:
    params = {"ref": {"type": "ref/prompt"}, "argument": {"name": "code", "value": "x"}, "context": {"many": many}}
    completion = (await result(prompting(), "completion/complete", params))["completion"]
    assert completion == {"values": [f"x{number}" for number in range(values)], "total": many, "hasMore": more}


@pytest.mark.parametrize(
    "params", [{}, {"ref": {}}, {"ref": {}, "argument": "a"}, {"ref": {}, "argument": {}, "context": []}]
)
async def test_a_malformed_completion(params: Params) -> None:
    assert (await error(prompting(), "completion/complete", params))["code"] == -32602


# --- logging, progress ---------------------------------------------------------------------------


def chatty() -> Server:
    server = Server("s")

    @server.tool
    async def f(ctx: Context) -> str:
        for level in spec.LOG_LEVELS:
            await ctx.log(level, level)
        return "done"

    return server


@pytest.mark.parametrize(
    ("level", "heard"), [(None, []), ("debug", list(spec.LOG_LEVELS)), ("alert", ["alert", "emergency"])]
)
async def test_modern_logs_only_where_a_request_wants_them(level: str | None, heard: list[str]) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    meta = {} if level is None else {spec.LOG_LEVEL: level}
    await chatty().dispatch(request("tools/call", {"name": "f", "_meta": meta}), Call(send))
    assert [message["params"]["level"] for message in sent] == heard


async def test_legacy_logs_from_info_on_until_told_otherwise() -> None:
    async with Client(chatty(), protocol_version=LEGACY, on_log=lambda params: heard.append(params["level"])) as client:
        for level, expected in (
            (None, spec.LOG_LEVELS[1:]),
            ("debug", spec.LOG_LEVELS),
            ("alert", spec.LOG_LEVELS[6:]),
        ):
            heard: list[str] = []
            if level is not None:
                await client.set_log_level(level)
            await client.call_tool("f")
            await client.ping()
            assert tuple(heard) == tuple(expected)


@pytest.mark.parametrize("level", [None, "warn", 5, ["info"]])
async def test_an_unknown_log_level(level: Any) -> None:
    assert (await error(calculator(), "logging/setLevel", {"level": level}, LEGACY))["code"] == -32602


async def test_a_log_level_without_a_session_is_forgotten() -> None:
    assert (await calculator().handle(request("logging/setLevel", {"level": "debug"}, LEGACY)))["result"] == {}  # type: ignore[index]


async def test_nothing_is_sent_after_the_answer() -> None:
    server, sent = Server("s"), list[Message]()
    kept: list[Context] = []

    @server.tool
    async def f(ctx: Context) -> str:
        await ctx.progress(1)
        kept.append(ctx)
        return "done"

    async def send(message: Message) -> None:
        sent.append(message)

    await server.dispatch(request("tools/call", {"name": "f", "_meta": {"progressToken": 1}}), Call(send))
    await kept[0].progress(2)
    await kept[0].log("emergency", "late")
    assert [message["params"]["progress"] for message in sent] == [1]


# --- input: requestState -------------------------------------------------------------------------

FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
ANN = {"1": {"action": "accept", "content": {"name": "Ann"}}}
CAPABLE = {spec.CLIENT_CAPABILITIES: {"elicitation": {}}}


def asking(**options: Any) -> Server:
    server = Server("s", **options)

    @server.tool
    async def greet(ctx: Context, greeting: str = "Hello") -> str:
        first = await ctx.elicit("First name?", FORM)
        last = await ctx.elicit("Last name?", FORM)
        return f"{greeting}, {first['content']['name']} {last['content']['name']}"

    @server.tool
    async def forever(ctx: Context) -> str:
        for _ in range(1000):
            await ctx.elicit("Again?", FORM)
        return "done"

    @server.prompt
    async def hello(ctx: Context) -> str:
        return str((await ctx.elicit("Name?", FORM))["content"]["name"])

    @server.resource("hello://")
    async def page(ctx: Context) -> str:
        return str((await ctx.elicit("Name?", FORM))["content"]["name"])

    @server.completion
    async def complete(ref: Any, argument: Any, context: Any, ctx: Context) -> list[str]:
        await ctx.elicit("Name?", FORM)
        return []

    return server


async def round_of(server: Server, principal: str | None = None, method: str = "tools/call", **params: Any) -> Message:
    params = {"name": "greet", "_meta": CAPABLE} | params
    answer = await server.handle(request(method, params), principal=principal)
    assert answer is not None
    return answer


async def test_an_answer_that_needs_input() -> None:
    answer = await round_of(asking(ttl_ms=9))
    state = answer["result"].pop("requestState")
    assert isinstance(state, str)
    assert answer["result"] == {
        "resultType": "input_required",
        "inputRequests": {
            "1": {"method": "elicitation/create", "params": {"message": "First name?", "requestedSchema": FORM}}
        },
        "_meta": {spec.SERVER_INFO: {"name": "s", "version": "0"}},
    }


async def test_several_rounds() -> None:
    server = asking()
    first = (await round_of(server))["result"]["requestState"]
    second = (await round_of(server, inputResponses=ANN, requestState=first))["result"]["requestState"]
    assert first != second
    last = {"2": {"action": "accept", "content": {"name": "Lee"}}}
    answer = await round_of(server, inputResponses=last, requestState=second)
    assert answer["result"]["content"][0]["text"] == "Hello, Ann Lee"


@pytest.mark.parametrize(
    ("method", "params", "member"),
    [
        ("prompts/get", {"name": "hello"}, "messages"),
        ("resources/read", {"uri": "hello://"}, "contents"),
    ],
)
async def test_prompts_and_resources_may_ask_too(method: str, params: Params, member: str) -> None:
    server = asking(ttl_ms=9)
    asked = (await round_of(server, None, method, **params))["result"]
    assert asked["resultType"] == "input_required"
    assert not asked.keys() & {"ttlMs", "cacheScope"}, "nothing to cache"
    done = (await round_of(server, None, method, **params, inputResponses=ANN, requestState=asked["requestState"]))[
        "result"
    ]
    assert "Ann" in json.dumps(done[member])


async def test_nothing_else_may_ask() -> None:
    answer = await round_of(asking(), None, "completion/complete", ref={}, argument={})
    assert answer["error"]["code"] == -32600
    assert "cannot ask for input" in answer["error"]["data"]["details"]


async def test_an_undeclared_capability() -> None:
    answer = await round_of(asking(), _meta={})
    assert answer["error"]["code"] == -32021
    assert answer["error"]["data"]["requiredCapabilities"] == {"elicitation": {}}


@pytest.mark.parametrize("responses", [None, {}, {"other": 5}, {"1": 12345}, {"1": {"action": "accept"}}])
async def test_answers_that_are_none_are_asked_for_again(responses: Any) -> None:
    server = asking()
    state = (await round_of(server))["result"]["requestState"]
    again = await round_of(server, inputResponses=responses, requestState=state)
    assert again["result"]["resultType"] == "input_required"
    assert list(again["result"]["inputRequests"]) == ["1"]


async def test_an_answer_may_come_unasked() -> None:
    answer = await round_of(asking(), inputResponses=ANN)
    assert list(answer["result"]["inputRequests"]) == ["2"]


@pytest.mark.parametrize("responses", [[], ["Ann"], "", "Ann", 0, True])
async def test_answers_that_are_no_object(responses: Any) -> None:
    answer = await round_of(asking(), inputResponses=responses)
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"]["details"] == "inputResponses must be an object"


async def test_the_state_belongs_to_its_request_and_caller() -> None:
    server, other = asking(), asking()
    state = (await round_of(server, "ann"))["result"]["requestState"]
    attempts: dict[str, Any] = {
        "tampered": round_of(server, "ann", requestState=state + "-TAMPERED"),
        "no string": round_of(server, "ann", requestState=5),
        "null": round_of(server, "ann", requestState=None),
        "another principal": round_of(server, "bob", requestState=state),
        "nobody": round_of(server, None, requestState=state),
        "other arguments": round_of(server, "ann", requestState=state, arguments={"greeting": "Bye"}),
        "another tool": round_of(server, "ann", requestState=state, name="forever"),
        "another method": round_of(server, "ann", "prompts/get", requestState=state, name="greet"),
        "another server": round_of(other, "ann", requestState=state),
    }
    for name, attempt in attempts.items():
        answer = await attempt
        assert answer["error"]["code"] == -32602, name
    assert "result" in await round_of(server, "ann", requestState=state)


async def test_servers_with_one_key_are_one_server() -> None:
    state = (await round_of(asking(state_key=b"k" * 32)))["result"]["requestState"]
    answer = await round_of(asking(state_key=b"k" * 32), inputResponses=ANN, requestState=state)
    assert list(answer["result"]["inputRequests"]) == ["2"]


async def test_a_state_expires() -> None:
    server, now = asking(), [0.0]
    server.request_state = RequestState(b"k" * 32, lifetime=10, now=lambda: now[0])
    state = (await round_of(server))["result"]["requestState"]
    now[0] = 11
    answer = await round_of(server, requestState=state)
    assert "expired" in answer["error"]["data"]["details"]


async def test_nobody_is_asked_for_ever() -> None:
    server, state, count = asking(), dict[str, Any](), 0
    while True:
        answer = await round_of(server, name="forever", **state)
        if "error" in answer:
            break
        count += 1
        key = next(iter(answer["result"]["inputRequests"]))
        state = {"requestState": answer["result"]["requestState"], "inputResponses": {key: ANN["1"]}}
    assert (answer["error"]["code"], count) == (-32602, 32)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_answers_by_the_same_callback(version: str) -> None:
    names = iter(["Ann", "Lee"])

    def fill_in(params: Params) -> Result:
        return {"action": "accept", "content": {"name": next(names)}}

    async with Client(asking(), protocol_version=version, on_elicit=fill_in) as client:
        answer = await client.call_tool("greet", {"greeting": "Hi"})
    assert answer["content"][0]["text"] == "Hi, Ann Lee"


async def test_a_legacy_answer_that_does_not_fit_fails_the_tool() -> None:
    def misunderstand(params: Params) -> Result:
        return {"action": "accept", "content": {"name": 5}}

    async with Client(asking(), protocol_version=LEGACY, on_elicit=misunderstand) as client:
        answer = await client.call_tool("greet")
    assert answer["isError"] is True
    assert "does not fit" in answer["content"][0]["text"]


# --- middleware, methods, the way out ------------------------------------------------------------


@pytest.mark.parametrize("version", [MODERN, LEGACY])
async def test_middleware_stands_around_every_handler(version: str) -> None:
    server, steps = calculator(), list[str]()

    @server.middleware
    async def outer(call_next: Handler, params: Params, ctx: Context) -> Result:
        steps.append("outer in")
        answer = await call_next(params, ctx)
        steps.append("outer out")
        return answer

    async def inner(call_next: Handler, params: Params, ctx: Context) -> Result:
        steps.append(f"inner {ctx.call.message['method']}")
        return await call_next(params | {"arguments": {"a": 10}}, ctx)

    assert server.middleware(inner) is inner
    answer = await server.dispatch(request("tools/call", ADD, version), Call())
    assert answer is not None
    assert answer["result"]["content"][0]["text"] == "11"
    assert steps == ["outer in", "inner tools/call", "outer out"]


async def test_middleware_may_answer_or_refuse() -> None:
    server = calculator()

    @server.middleware
    async def gate(call_next: Handler, params: Params, ctx: Context) -> Result:
        if ctx.principal is None:
            raise RpcError(-32000, "Who are you?")
        return {"content": [], "cached": True}

    answer = await server.handle(request("tools/call", ADD))
    assert answer is not None
    assert answer["error"] == {"code": -32000, "message": "Who are you?"}
    answer = await server.handle(request("tools/call", ADD), principal="ann")
    assert answer is not None
    assert (answer["result"]["cached"], answer["result"]["resultType"]) == (True, "complete")


@pytest.mark.parametrize(("version", "added"), [(MODERN, {"resultType", "_meta"}), (LEGACY, set())])
async def test_a_method_of_ones_own(version: str, added: set[str]) -> None:
    server = Server("s")

    @server.method("com.example/echo")
    async def echo(params: Params, ctx: Context) -> Result:
        return {"said": params["say"], "version": ctx.protocol_version}

    answer = await result(server, "com.example/echo", {"say": "hi"}, version)
    assert answer["said"] == "hi"
    assert answer["version"] == version
    assert answer.keys() == {"said", "version"} | added


async def test_a_method_may_set_its_own_result_type_and_meta() -> None:
    server = Server("s")

    @server.method("com.example/task")
    async def task(params: Params, ctx: Context) -> Result:
        return {"resultType": "task", "_meta": {"a": 1, spec.SERVER_INFO: {"name": "other"}}}

    answer = await result(server, "com.example/task")
    assert answer == {"resultType": "task", "_meta": {"a": 1, spec.SERVER_INFO: {"name": "other"}}}


async def test_batches_where_2025_03_26_was_negotiated() -> None:
    for version in spec.LEGACY:
        ours, theirs = memory_pair()
        serving = asyncio.create_task(serve_connection(theirs, calculator().dispatch))
        messages = ours.read()
        await ours.write(request("initialize", {"protocolVersion": version}, LEGACY))
        await anext(messages)
        await ours.write([request("ping", {}, LEGACY, id=2), request("ping", {}, LEGACY, id=3)])
        answer: Any = await anext(messages)
        if version == "2025-03-26":
            assert {member["id"]: member["result"] for member in answer} == {2: {}, 3: {}}
        else:
            assert answer["error"]["code"] == -32600
        await ours.close()
        await serving


def test_run_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(mcp_min.serving, "run", lambda *args, **options: calls.append((args, options)))
    server = calculator()
    server.run("http", port=0)
    server.run()
    assert calls == [((server, "http"), {"port": 0}), ((server, None), {})]


def test_run_on_a_real_pipe() -> None:
    program = "from mcp_min import Server; s = Server('s'); s.tool(name='f')(lambda: 'done'); s.run()"
    line = json.dumps(request("tools/call", {"name": "f"})) + "\n"
    done = subprocess.run(
        [sys.executable, "-c", program], input=line, capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(done.stdout)["result"]["content"][0]["text"] == "done"
