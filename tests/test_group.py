"""Several servers at once: child processes, an HTTP server, servers in memory; some dead, some silent."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_min import Client, ClientGroup, ConnectionClosed, Context, RpcError, Server, load_config, serve_http
from mcp_min.stdio import StdioServerParameters

ROOT = Path(__file__).parent.parent
DEADLINE = 30  # seconds that nothing here takes, unless it hangs

CHILD = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from mcp_min import Server

server = Server(sys.argv[1])

@server.tool
async def die() -> str:
    os._exit(3)

@server.tool
async def who(name: str = "") -> str:
    return f"{{server.info['name']}} {{name}}"

@server.prompt
def greet(name: str) -> str:
    return "Hello " + name

@server.resource("demo://one")
def one() -> str:
    return server.info["name"]

@server.resource("demo://of/{{id}}")
def other(id: str) -> str:
    return id

server.run()
"""
SILENT = "import sys; sys.stdin.read()"


def child(program: str, *words: str) -> StdioServerParameters:
    return StdioServerParameters(sys.executable, ["-c", program, *words], grace=0.1)


def texts(result: dict[str, Any]) -> list[str]:
    return [block["text"] for block in result["content"]]


def adder(name: str = "adder") -> Server:
    server = Server(name)

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    return server


@pytest.fixture
async def remote() -> AsyncIterator[str]:
    async with serve_http(adder(), port=0) as http:
        yield http.url


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


# --- what a group offers -------------------------------------------------------------------------


async def test_a_file_of_servers(remote: str, tmp_path: Path) -> None:
    (tmp_path / "mcp.json").write_text(
        json.dumps(
            {
                "mcpServers": {
                    "first": {"command": sys.executable, "args": ["-c", CHILD, "one"]},
                    "my second": {"command": sys.executable, "args": ["-c", CHILD, "two"]},
                    "remote": {"url": remote},
                    "dead": {"command": "no-such-command"},
                    "unset": {"command": "x", "args": ["${NOT_SET}"]},
                }
            }
        )
    )
    async with ClientGroup(load_config(tmp_path / "mcp.json")) as group:
        assert sorted(group.clients) == ["first", "my second", "remote"]
        assert {name: type(error) for name, error in group.errors.items()} == {
            "dead": FileNotFoundError,
            "unset": ValueError,
        }
        names = ["first__die", "first__who", "my_second__die", "my_second__who", "remote__add"]
        assert [tool["name"] for tool in await group.list_tools()] == names
        assert texts(await group.call_tool("first__who", {"name": "x"})) == ["one x"]
        assert texts(await group.call_tool("my_second__who")) == ["two "]
        assert (await group.call_tool("remote__add", {"a": 1, "b": 2}))["structuredContent"] == 3

        prompts = [prompt["name"] for prompt in await group.list_prompts()]
        assert prompts == ["first__greet", "my_second__greet"]
        greeting = await group.get_prompt("my_second__greet", {"name": "you"})
        assert greeting["messages"][0]["content"]["text"] == "Hello you"

        uris = [resource["uri"] for resource in await group.list_resources()]
        assert uris == ["first+demo://one", "my_second+demo://one"]
        templates = [template["uriTemplate"] for template in await group.list_resource_templates()]
        assert templates == ["first+demo://of/{id}", "my_second+demo://of/{id}"]
        for uri, text in (("my_second+demo://one", "two"), ("first+demo://of/a+b", "a+b")):
            assert (await group.read_resource(uri))["contents"][0]["text"] == text

        with pytest.raises(
            ValueError, match=r"'third__who' begins with no server's name: first, remote, dead, unset, my"
        ):
            await group.call_tool("third__who")
        with pytest.raises(FileNotFoundError):
            await group.call_tool("dead__anything")
        with pytest.raises(KeyError):
            await group.client("nobody")
        assert await group.client("first") is group.clients["first"]


async def test_each_server_may_have_a_client_of_its_own() -> None:
    asked: list[Any] = []

    def make(name: str, target: Any) -> Client:
        def answer(params: dict[str, Any]) -> dict[str, Any]:
            asked.append((name, params["message"]))
            return {"action": "decline"}

        return Client(target, on_elicit=answer)

    server = Server("asking")

    @server.tool
    async def ask(ctx: Context) -> str:
        return str((await ctx.elicit("Sure?", {"type": "object", "properties": {}}))["action"])

    async with ClientGroup({"a": server, "b": adder()}, client=make) as group:
        assert texts(await group.call_tool("a__ask")) == ["decline"]
    assert asked == [("a", "Sure?")]


async def test_a_client_that_skips_the_search_is_asked_for_its_tools_too() -> None:
    def make(name: str, target: Any) -> Client:
        return Client(target, protocol_version="2026-07-28")

    async with ClientGroup({"a": adder()}, client=make) as group:
        assert [tool["name"] for tool in await group.list_tools()] == ["a__add"]


async def test_who_asks_at_once_shares_a_client() -> None:
    made: list[str] = []

    def make(name: str, target: Any) -> Client:
        made.append(name)
        return Client(target)

    group = ClientGroup({"a": adder()}, client=make)
    first, second = await asyncio.gather(group.client("a"), group.client("a"))
    assert first is second
    assert made == ["a"]
    await group.close()


# --- names ---------------------------------------------------------------------------------------

ACCEPTED = re.compile("[A-Za-z0-9_-]{1,64}")


def named(*names: str) -> Server:
    server = Server("named")
    for name in names:
        server.tool(lambda name=name: str(name), name=name, input_schema={"type": "object"})
    return server


async def test_names_fit_and_reach_the_right_tool() -> None:
    names = ["plain", "_b", "a.b", "a..b", "a_b", "x" * 40, "x" * 39 + "y", "z" * 128, "b__c"]
    servers = {name: named(*names) for name in ("a", "a_", "a__b", "a b", "a_b", "日本", "s" * 30, "s" * 31, "", "-")}
    async with ClientGroup(servers) as group:
        assert group.errors == {}
        listed = [tool["name"] for tool in await group.list_tools()]
        assert len(listed) == len(set(listed)) == len(names) * len(servers)
        assert all(map(ACCEPTED.fullmatch, listed))
        for qualified, (server, own) in zip(listed, [(s, n) for s in servers for n in names], strict=True):
            assert group._resolve(qualified, "tools") == (server, own)
        assert texts(await group.call_tool(listed[3])) == ["a..b"]
        assert "a__plain" in listed
        assert "a_b__plain" in listed


async def test_names_do_not_depend_on_who_is_up() -> None:
    both = {"a b": named("t"), "a_b": named("t")}
    async with ClientGroup(both) as group:
        names = [tool["name"] for tool in await group.list_tools()]
    assert names[1] == "a_b__t"
    async with ClientGroup(both | {"a_b": child("")}) as group:
        assert [tool["name"] for tool in await group.list_tools()] == names[:1]


# --- what goes wrong -----------------------------------------------------------------------------


async def test_a_server_that_dies_in_mid_session() -> None:
    async with ClientGroup({"mortal": child(CHILD, "one"), "other": adder()}) as group:
        assert len(await group.list_tools()) == 3
        with pytest.raises(ConnectionClosed, match="exited with code 3"):
            await group.call_tool("mortal__die")
        assert list(group.errors) == ["mortal"]
        assert [tool["name"] for tool in await group.list_tools()] == ["other__add"]
        # A call that names it starts it again.
        assert texts(await group.call_tool("mortal__who")) == ["one "]
        assert group.errors == {}
        assert len(await group.list_tools()) == 3
        # And so does `connect`.
        with pytest.raises(ConnectionClosed):
            await group.call_tool("mortal__die")
        await group.connect()
        assert group.errors == {}


async def test_a_server_that_is_gone_for_good(tmp_path: Path) -> None:
    unless_gone = f"import os, sys\nos.path.exists({str(tmp_path / 'gone')!r}) and sys.exit(4)\n"
    async with ClientGroup({"mortal": child(unless_gone + CHILD, "one")}) as group:
        (tmp_path / "gone").touch()
        with pytest.raises(ConnectionClosed, match="exited with code 3"):
            await group.call_tool("mortal__die")
        await group.connect()
        assert "exited with code 4" in str(group.errors["mortal"])


async def test_a_server_that_never_answers() -> None:
    async with ClientGroup({"silent": child(SILENT), "other": adder()}, patience=0.5) as group:
        assert {name: str(error) for name, error in group.errors.items()} == {"silent": "no answer within 0.5 s"}
        assert (await group.call_tool("other__add", {"a": 1, "b": 2}))["structuredContent"] == 3
        assert [tool["name"] for tool in await group.list_tools()] == ["other__add"]
        with pytest.raises(TimeoutError, match=r"not connected within 0\.5 s, and still being tried"):
            await group.call_tool("silent__anything")


async def test_a_server_that_is_slow_to_start_is_there_in_the_end(tmp_path: Path) -> None:
    waiting = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
    async with ClientGroup({"slow": child(waiting + CHILD, "slow")}, patience=0.05) as group:
        assert list(group.errors) == ["slow"]
        (tmp_path / "go").touch()
        async with asyncio.timeout(DEADLINE):
            while group.errors:
                await group.connect()
        assert [tool["name"] for tool in await group.list_tools()] == ["slow__die", "slow__who"]


async def test_a_list_that_never_comes_and_one_that_is_refused() -> None:
    mute, broken = adder(), adder()

    async def never(params: Any, call: Any) -> Any:
        await asyncio.Event().wait()

    async def refuse(params: Any, call: Any) -> Any:
        raise RpcError(-32000, "not today")

    mute.methods["tools/list"], broken.methods["tools/list"] = never, refuse
    async with ClientGroup({"mute": mute, "broken": broken, "good": adder()}, patience=0.5) as group:
        assert [tool["name"] for tool in await group.list_tools()] == ["good__add"]
        assert {name: str(error) for name, error in group.errors.items()} == {
            "mute": "no answer within 0.5 s",
            "broken": "not today (-32000)",
        }
        # They are left alone until they have been tried again.
        broken.methods["tools/list"] = adder().methods["tools/list"]
        assert len(await group.list_tools()) == 1
        await group.connect()
        assert [tool["name"] for tool in await group.list_tools()] == ["broken__add", "good__add"]


async def test_an_error_of_a_tool_says_nothing_about_its_server() -> None:
    async with ClientGroup({"good": adder()}) as group:
        with pytest.raises(RpcError):
            await group.call_tool("good__nothing")
        assert group.errors == {}


async def test_a_server_on_the_network_that_comes_later(unused_port: int) -> None:
    def impatient(name: str, target: Any) -> Client:
        return Client(target, retries=0)

    async with ClientGroup({"later": f"http://127.0.0.1:{unused_port}/mcp"}, client=impatient) as group:
        assert isinstance(group.errors["later"], ConnectionError)
        assert await group.list_tools() == []
        async with serve_http(adder(), port=unused_port):
            await group.client("later")
            assert group.errors == {}
            assert (await group.call_tool("later__add", {"a": 1, "b": 2}))["structuredContent"] == 3


@pytest.fixture
async def unused_port() -> int:
    async with serve_http(adder(), port=0) as http:
        return int(http.url.split(":")[2].split("/")[0])


# --- the end -------------------------------------------------------------------------------------


async def test_closing() -> None:
    group = ClientGroup({"silent": child(SILENT), "here": adder()})
    waiting = asyncio.create_task(group.client("silent"))
    await group.client("here")
    await group.close()
    with pytest.raises(ConnectionClosed, match="the group was closed"):
        await waiting
    await group.close()
    with pytest.raises(ConnectionClosed, match="the group is closed"):
        await group.call_tool("silent__anything")
    with pytest.raises(ConnectionClosed):
        await group.call_tool("here__add", {"a": 1, "b": 2})


async def test_entering_can_be_cancelled() -> None:
    group = ClientGroup({"silent": child(SILENT), "here": adder()})
    entering = asyncio.create_task(group.__aenter__())
    await group.client("here")
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    with pytest.raises(ConnectionClosed, match="the group is closed"):
        await group.client("silent")


async def test_a_mistake_in_the_program_is_not_hidden() -> None:
    def mistaken(name: str, target: Any) -> Client:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        async with ClientGroup({"here": adder()}, client=mistaken):
            pass
