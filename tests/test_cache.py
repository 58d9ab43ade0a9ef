"""What a client keeps because the server has called it fresh, and what makes it forget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from raw_peers import Answer, Request, Scripted, initialized, site

from mcp_min import Client, RpcError, Server, cache
from mcp_min.cache import Cache

FRESH = {"ttlMs": 60_000, "cacheScope": "private"}
ITEMS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
MODERN: dict[str, Any] = {"protocol_version": "2026-07-28", "cache": True}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("hints", "seconds", "kept"),
    [
        ({"ttlMs": 1500, "cacheScope": "private"}, 1.4, True),
        ({"ttlMs": 1500, "cacheScope": "private"}, 1.5, False),
        ({"ttlMs": 1500, "cacheScope": "public"}, 1.4, True),
        ({"ttlMs": 1, "cacheScope": "public"}, 0, True),
        ({"ttlMs": 0, "cacheScope": "public"}, 0, False),
        ({"ttlMs": -5}, 0, False),
        ({}, 0, False),
        ({"ttlMs": "1500"}, 0, False),
        ({"ttlMs": 1500.5}, 0, False),
        ({"ttlMs": True}, 0, False),
        ({"ttlMs": None}, 0, False),
    ],
)
def test_how_long(hints: dict[str, Any], seconds: float, kept: bool) -> None:
    clock = Clock()
    cache = Cache(clock)
    cache.keep("tools/list", {}, {"tools": []} | hints, 0)
    clock.now += seconds
    assert cache.find("tools/list", {}, None) == ({"tools": []} | hints if kept else None)


@pytest.mark.parametrize(
    ("method", "params", "found"),
    [
        ("resources/read", {"uri": "a", "x": {"b": 1, "c": 2}}, True),
        ("resources/read", {"x": {"c": 2, "b": 1}, "uri": "a"}, True),
        ("resources/read", {"uri": "b"}, False),
        ("resources/read", {"uri": "a"}, False),
        ("resources/read", {}, False),
        ("resources/list", {"uri": "a", "x": {"b": 1, "c": 2}}, False),
    ],
)
def test_the_key_is_method_and_params(method: str, params: dict[str, Any], found: bool) -> None:
    cache = Cache()
    cache.keep("resources/read", {"uri": "a", "x": {"b": 1, "c": 2}}, {"contents": []} | FRESH, 0)
    assert (cache.find(method, params, None) is not None) is found


@pytest.mark.parametrize(
    ("family", "left"),
    [
        ("tools", ["prompts/list", "resources/list", "resources/templates/list", "resources/read"]),
        ("prompts", ["tools/list", "resources/list", "resources/templates/list", "resources/read"]),
        ("resources", ["tools/list", "prompts/list"]),
        ("", []),
    ],
)
def test_what_a_change_makes_stale(family: str, left: list[str]) -> None:
    cache = Cache()
    methods = [*ITEMS, "resources/read"]
    for method in methods:
        cache.keep(method, {}, FRESH, 0)
    cache.drop(family)
    assert [method for method in methods if cache.find(method, {}, None)] == left


def test_what_was_asked_for_before_a_change_is_not_kept() -> None:
    cache = Cache()
    before = cache.changes
    cache.drop("prompts")
    cache.keep("tools/list", {}, FRESH, before)
    assert cache.find("tools/list", {}, None) is None


@pytest.mark.parametrize("scope", ["private", "public"])
def test_another_asker_finds_nothing(scope: str) -> None:
    cache = Cache()
    assert cache.find("tools/list", {}, {"authorization": "a"}) is None
    before = cache.changes
    cache.keep("tools/list", {}, FRESH | {"cacheScope": scope}, before)
    assert cache.find("tools/list", {}, {"authorization": "a"})
    assert cache.find("tools/list", {}, {"authorization": "b"}) is None
    cache.keep("tools/list", {}, FRESH, before)  # which the first had asked for
    assert cache.find("tools/list", {}, {"authorization": "b"}) is None
    assert cache.find("tools/list", {}, {"authorization": "a"}) is None


def test_who_finds_may_change_what_is_found() -> None:
    cache = Cache()
    result = {"tools": [{"name": "a"}]} | FRESH
    cache.keep("tools/list", {}, result, 0)
    result["tools"].clear()  # type: ignore[attr-defined]
    found = cache.find("tools/list", {}, None)
    assert found is not None
    assert found["tools"] == [{"name": "a"}]
    found["tools"].clear()
    assert cache.find("tools/list", {}, None) == {"tools": [{"name": "a"}]} | FRESH


def test_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_KEPT", 2)
    kept = Cache()
    for uri in "abc":
        kept.keep("resources/read", {"uri": uri}, FRESH, 0)
    assert [uri for uri in "abc" if kept.find("resources/read", {"uri": uri}, None)] == ["b", "c"]
    kept.keep("resources/read", {"uri": "d"}, {"ttlMs": 0}, 0)  # which takes no room
    assert [uri for uri in "abcd" if kept.find("resources/read", {"uri": uri}, None)] == ["b", "c"]


# --- in a client ---------------------------------------------------------------------------------


def paged(kind: str, **hints: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def answer(params: dict[str, Any]) -> dict[str, Any]:
        more = {} if "cursor" in params else {"nextCursor": "2"}
        return {kind: [{"name": params.get("cursor", "1")}], **FRESH, **more, **hints}

    return answer


async def list_all(client: Client) -> list[list[str]]:
    lists = [client.list_tools, client.list_prompts, client.list_resources, client.list_resource_templates]
    return [[item["name"] for item in await each()] for each in lists]


async def test_a_lost_connection_is_opened_again_for_what_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_pause(client: Client, seconds: float) -> None: ...

    monkeypatch.setattr(Client, "_sleep", no_pause)
    hang_ups = [None, None]

    def respond(request: Request) -> Answer | None:
        return hang_ups.pop() if hang_ups else Answer({"supportedVersions": ["2026-07-28"], "tools": []})

    async with site(respond) as there:
        client = Client(there.url, cache=True)
        assert await client.list_tools() == []
        await client.close()


@pytest.mark.parametrize(
    ("hints", "times"), [({}, 1), ({"cacheScope": "public"}, 1), ({"ttlMs": 0}, 2), ({"ttlMs": None}, 2)]
)
async def test_every_list_and_each_page_of_it(hints: dict[str, Any], times: int) -> None:
    server = Scripted(**{method.replace("/", "__"): paged(kind, **hints) for method, kind in ITEMS.items()})
    async with Client(server, **MODERN) as client:
        for _ in range(2):
            assert await list_all(client) == [["1", "2"]] * 4
    assert sorted(server.heard) == sorted([method.replace("/", "__") for method in ITEMS] * 2 * times)


@pytest.mark.parametrize(("cache", "times"), [(True, 1), (False, 2)])
async def test_only_who_wants_a_cache_has_one(cache: bool, times: int) -> None:
    server = Server("s", ttl_ms=60_000, cache_scope="public")
    reads = []

    @server.resource("a://b")
    async def read() -> str:
        reads.append(1)
        return "text"

    async with Client(server, cache=cache) as client:
        assert await client.read_resource("a://b") == await client.read_resource("a://b")
    assert len(reads) == times


async def test_what_is_never_kept() -> None:
    answer = {"content": [], "messages": [], "completion": {"values": []}, "supportedVersions": ["2026-07-28"]} | FRESH
    names = ["tools__call", "prompts__get", "completion__complete", "server__discover"]
    server = Scripted(**dict.fromkeys(names, answer))
    async with Client(server, **MODERN) as client:
        for _ in range(2):
            await client.call_tool("t")
            await client.get_prompt("p")
            await client.complete({"type": "ref/prompt", "name": "p"}, {"name": "a", "value": ""})
            await client.ping()
    assert server.heard == names * 2


async def test_an_answer_to_input_is_not_kept() -> None:
    asks = {"resultType": "input_required", "inputRequests": {"k": {"method": "roots/list"}}, **FRESH}
    server = Scripted(resources__read=lambda params: {"contents": []} | FRESH if "inputResponses" in params else asks)
    async with Client(server, roots=[], **MODERN) as client:
        for _ in range(2):
            assert await client.read_resource("a://b") == {"contents": []} | FRESH
    assert len(server.heard) == 4


async def test_an_error_is_not_kept_and_makes_a_family_stale() -> None:
    """A cursor may have become invalid, while pages before it are still fresh (SHOULD discard them)."""
    fails = True

    def tools(params: dict[str, Any]) -> Any:
        return RpcError(-32602, "the cursor") if fails and "cursor" in params else paged("tools")(params)

    server = Scripted(tools__list=tools)
    async with Client(server, **MODERN) as client:
        with pytest.raises(RpcError, match="the cursor"):
            await client.list_tools()
        fails = False
        assert len(await client.list_tools()) == 2
    assert [params.get("cursor") for params in server.asked] == [None, "2", None, "2"]


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
async def test_changes_make_it_forget(version: str) -> None:
    server = Server("s", ttl_ms=60_000)
    lists: list[str] = []

    @server.middleware
    async def count(call_next: Any, params: Any, ctx: Any) -> Any:
        lists.append(ctx.call.message["method"])
        result = await call_next(params, ctx)
        return result | FRESH if "/list" in lists[-1] and version == "2025-11-25" else result  # legacy has no hints

    async def text() -> str:
        return "text"

    server.tool(text)
    server.prompt(text)
    server.resource("a://b")(text)
    cases = [
        (server.tools_changed, "tools/list", "notifications/tools/list_changed"),
        (server.prompts_changed, "prompts/list", "notifications/prompts/list_changed"),
        (server.resources_changed, "resources/list", "notifications/resources/list_changed"),
        (lambda: server.resource_updated("a://b"), "resources/list", "notifications/resources/updated"),
    ]
    wanted: dict[str, Any] = {"tools": True, "prompts": True, "resource_list": True, "resources": ["a://b"]}
    async with (
        Client(server, protocol_version=version, cache=True) as client,
        client.listen(**wanted) as changes,
    ):
        for change, method, notified in cases:
            await client.request(method)
            lists.clear()
            await client.request(method)
            assert lists == []
            change()
            assert (await anext(changes))["method"] == notified
            await client.request(method)
            assert lists == [method]


@pytest.mark.parametrize("scope", ["private", "public"])
async def test_another_principal_is_never_given_what_the_first_has_read(scope: str) -> None:
    who = "ada"
    owners: list[str] = []

    def respond(request: Request) -> Answer:
        owner = request.headers["authorization"]
        owners.append(owner)
        return Answer({"contents": [{"uri": "a://b", "text": owner}], "ttlMs": 60_000, "cacheScope": scope})

    async with site(respond) as there, Client(there.url, headers=lambda: {"Authorization": who}, **MODERN) as client:
        for name in ["ada", "ada", "bob", "bob", "ada"]:
            who = name
            assert (await client.read_resource("a://b"))["contents"][0]["text"] == name
    assert owners == ["ada", "bob", "ada"]


async def test_a_new_connection_begins_with_nothing() -> None:
    sessions = iter(["1", "2"])
    ended = False

    def respond(request: Request) -> Answer:
        if request.method == "initialize":
            return Answer(initialized("2025-11-25"), headers={"Mcp-Session-Id": next(sessions)})
        if request.verb == "GET":
            return Answer(status=405)
        if "id" not in request.message:
            return Answer(status=202)
        if ended and request.headers["mcp-session-id"] == "1":
            return Answer(status=404)
        return Answer({"tools": [], "content": []} | FRESH)

    async with site(respond) as there, Client(there.url, protocol_version="2025-11-25", cache=True) as client:
        await client.list_tools()
        await client.list_tools()
        ended = True
        await client.call_tool("t")
        await client.list_tools()
    methods = [request.method for request in there.requests if "id" in request.message]
    assert methods == ["initialize", "tools/list", "tools/call", "initialize", "tools/call", "tools/list"]
