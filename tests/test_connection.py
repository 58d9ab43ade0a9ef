"""How a server is found, in which revision; what is opened again when it is lost, and what is repeated."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from raw_peers import Answer, Request, Scripted, initialized, others, site, until

from mcp_min import Client, ConnectionClosed, RpcError, Server, connection, serve_http, spec
from mcp_min.dispatcher import Call
from mcp_min.stream import memory_pair

MODERN, LEGACY = "2026-07-28", "2025-11-25"
DISCOVERED = {"supportedVersions": [MODERN], "capabilities": {}}
META = {spec.SERVER_INFO: {"name": "new"}}
FALLEN_BACK = ["server__discover", "initialize"]
SUBPROCESS_TIMEOUT = 30  # seconds


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_legacy_targets", set())


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(client: Client, seconds: float) -> None:
        slept.append(seconds)
        for _ in range(50):  # what else goes on in a real pause
            await asyncio.sleep(0)

    monkeypatch.setattr(Client, "_sleep", sleep)
    return slept


@pytest.fixture(autouse=True)
async def nothing_is_left() -> Any:
    before = others()
    yield
    await until(lambda: others() <= before)


def unsupported(*versions: Any) -> RpcError:
    return RpcError(spec.UNSUPPORTED_VERSION, "Unsupported protocol version", {"supported": list(versions)})


# --- finding the era -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "version", "heard"),
    [
        ({"server__discover": DISCOVERED}, MODERN, ["server__discover"]),
        ({"server__discover": {"supportedVersions": [LEGACY, MODERN]}}, MODERN, ["server__discover"]),
        *(
            ({"server__discover": answer, "initialize": initialized(version)}, version, FALLEN_BACK)
            for answer, version in [
                ({"supportedVersions": ["2025-06-18"]}, "2025-06-18"),
                ({"supportedVersions": "2026-07-28"}, LEGACY),
                ({}, LEGACY),
                (RpcError(-32602, "what?"), "2024-11-05"),
                (RpcError(-32600, "initialize first"), "2025-03-26"),
                (unsupported("2025-03-26"), "2025-03-26"),
                (unsupported("2099-01-01", LEGACY), LEGACY),
            ]
        ),
        ({"initialize": initialized(LEGACY)}, LEGACY, ["initialize"]),
    ],
)
async def test_the_era_is_found(answers: dict[str, Any], version: str, heard: list[str]) -> None:
    server = Scripted(**answers)
    async with Client(server) as client:
        assert client.protocol_version == version
    assert server.heard == heard
    assert connection._legacy_targets == set()  # where nobody could find the name of an object again


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"server__discover": unsupported(MODERN)}, "Unsupported protocol version"),
        ({"server__discover": unsupported("1999-01-01")}, "Unsupported protocol version"),
        ({"server__discover": RpcError(spec.UNSUPPORTED_VERSION, "which?")}, "which?"),
        ({"server__discover": RpcError(spec.UNSUPPORTED_VERSION, "which?", {"supported": MODERN})}, "which?"),
        ({"server__discover": RpcError(spec.HEADER_MISMATCH, "Header mismatch")}, "Header mismatch"),
        ({"server__discover": {"supportedVersions": ["2099-01-01"]}}, "the server speaks ['2099-01-01'], this client"),
        ({"server__discover": DISCOVERED | {"capabilities": 5}}, "capabilities is 5, which is not of the type dict"),
        ({"server__discover": DISCOVERED | {"instructions": []}}, "instructions is [], which is not of the type str"),
        ({"initialize": initialized("1999-01-01")}, "the server speaks ['1999-01-01'], this client"),
        ({"initialize": initialized(MODERN)}, "No protocol version in common"),
        ({"initialize": {}}, "the server speaks [None], this client"),
        ({"initialize": initialized(LEGACY, serverInfo="x")}, "serverInfo is 'x', which is not of the type dict"),
        ({"initialize": RpcError(-32000, "not today")}, "not today"),
        ({"initialize": RpcError(404, "no HTTP")}, "no HTTP"),
        ({}, "Method not found"),
    ],
)
async def test_no_era_is_found(answers: dict[str, Any], problem: str) -> None:
    with pytest.raises(RpcError, match=re.escape(problem)):
        await Client(Scripted(**answers)).__aenter__()


@pytest.mark.parametrize(
    ("answers", "info"),
    [
        ({"server__discover": DISCOVERED | {"_meta": META}}, {"name": "new"}),
        ({"server__discover": DISCOVERED | {"serverInfo": {"name": "x"}, "_meta": META}}, {"name": "x"}),
        ({"server__discover": DISCOVERED | {"_meta": {"other": 1}}}, {}),
        ({"initialize": initialized(LEGACY)}, {"name": "old"}),
    ],
)
async def test_what_is_learned(answers: dict[str, Any], info: dict[str, Any]) -> None:
    async with Client(Scripted(**answers)) as client:
        assert client.server_info == info
        assert client.instructions == (None if "server__discover" in answers else "i")
        assert client.capabilities == ({} if "server__discover" in answers else {"tools": {}})


async def test_a_silent_server_is_a_legacy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROBE_TIMEOUT", 0.01)
    silent: Any = {"server__discover": lambda params: asyncio.Event().wait()}
    async with Client(Scripted(initialize=initialized(LEGACY), **silent)) as client:
        assert client.protocol_version == LEGACY


DIES = """
import sys
line = sys.stdin.readline()
if "discover" in line:
    sys.exit(3)
print('{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x"}}}',
      flush=True)
sys.stdin.read()
"""


async def test_a_child_that_dies_of_the_question_is_started_again_and_asked_once() -> None:
    asked: list[str] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "→":
            asked.append(message["method"])

    for _ in range(2):
        async with Client([sys.executable, "-c", DIES], timeout=SUBPROCESS_TIMEOUT, on_message=look) as client:
            assert client.protocol_version == LEGACY
    begin = ["initialize", "notifications/initialized"]
    assert asked == ["server/discover", *begin, *begin]


class Mute:
    """A transport of one's own, whose other end is gone before anything is said."""

    def __init__(self) -> None:
        self.closed = 0

    async def read(self) -> Any:
        if self.closed < 0:
            yield {}

    async def write(self, message: Any) -> None:
        raise ConnectionClosed("nobody is there")

    async def close(self) -> None:
        self.closed += 1


async def test_a_transport_that_is_dead() -> None:
    mute = Mute()
    with pytest.raises(ConnectionClosed):
        await Client(mute).__aenter__()
    assert mute.closed


@pytest.mark.parametrize("version", spec.SUPPORTED)
async def test_a_wanted_version_is_not_searched(version: str) -> None:
    server = Scripted(initialize=lambda params: initialized(params["protocolVersion"]))
    async with Client(server, protocol_version=version) as client:
        assert client.protocol_version == version
    assert server.heard == ([] if version in spec.MODERN else ["initialize"])


def test_a_version_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="protocol_version 'x': there are 2026-07-28"):
        Client(Server("s"), protocol_version="x")


async def test_the_first_request_may_be_refused_for_its_version() -> None:
    """Spec: 2026-07-28 basic/versioning#protocol-version-negotiation."""
    refusals = [unsupported(MODERN)]
    server = Scripted(tools__call=lambda params: refusals.pop() if refusals else {"content": []})
    async with Client(server, protocol_version=MODERN) as client:
        await client.call_tool("t")
    assert server.heard == ["tools__call"] * 2
    refusals[:] = [unsupported(MODERN)] * 3
    async with Client(server, protocol_version=MODERN) as client:
        with pytest.raises(RpcError, match="Unsupported protocol version"):
            await client.call_tool("t")
    assert len(refusals) == 1


@pytest.mark.parametrize("version", spec.LEGACY)
async def test_what_initialize_says(version: str) -> None:
    server = Scripted(initialize=lambda params: initialized(params["protocolVersion"]), notifications__initialized={})
    options: dict[str, Any] = {"on_elicit": dict, "extensions": {"a/b": {}}, "client_info": {"name": "me"}}
    async with Client(server, protocol_version=version, **options):
        await until(lambda: len(server.heard) == 2)
    said = {key: value for key, value in server.asked[0].items() if key != "_meta"}
    assert said == {"protocolVersion": version, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "me"}}
    assert server.heard == ["initialize", "notifications__initialized"]


async def test_what_each_modern_request_says() -> None:
    server = Scripted(tools__call={"content": []})
    async with Client(server, protocol_version=MODERN, on_elicit=dict, client_info={"name": "me"}) as client:
        await client.request("tools/call", {"name": "t", "_meta": {"a/b": 1, spec.PROTOCOL_VERSION: "mine"}})
    assert server.asked[0].pop("_meta") == {
        "a/b": 1,
        "progressToken": 1,
        spec.PROTOCOL_VERSION: MODERN,
        spec.CLIENT_INFO: {"name": "me"},
        spec.CLIENT_CAPABILITIES: {"elicitation": {}},
    }
    assert server.asked == [{"name": "t"}]


@pytest.mark.parametrize("known", [True, False])
async def test_a_server_may_become_another(known: bool, pauses: list[float]) -> None:
    """What was found to be legacy is not asked the modern way again, until `initialize` fails there."""
    modern = False

    def respond(request: Request) -> Answer:
        if request.method in (["server/discover"] if modern else ["initialize", "notifications/initialized"]):
            return Answer(DISCOVERED if modern else initialized(LEGACY))
        return Answer(status=405)

    def answering(request: Request) -> Answer:
        return respond(request) if "id" in request.message else Answer(status=202 if request.verb == "POST" else 405)

    async with site(answering) as there:
        async with Client(there.url) as client:
            assert client.protocol_version == LEGACY
        if not known:
            connection._legacy_targets.clear()
        modern = True
        async with Client(there.url) as client:
            assert client.protocol_version == MODERN
    asked = [method for method in there.heard() if method in ("server/discover", "initialize")]
    assert asked == ["server/discover", "initialize", *(["initialize"] if known else []), "server/discover"]
    assert pauses == []


async def test_silence_makes_nobody_another(pauses: list[float]) -> None:
    silent = False

    async def respond(request: Request) -> Answer:
        if silent:
            await asyncio.Event().wait()
        if request.method == "initialize":
            return Answer(initialized(LEGACY))
        return Answer(status=405 if request.method != "notifications/initialized" else 202)

    async with site(respond) as there:
        async with Client(there.url):
            pass
        silent = True
        there.requests.clear()
        with pytest.raises(TimeoutError):
            await Client(there.url, timeout=0.01).__aenter__()
        assert there.heard() == ["initialize"]


async def test_what_was_wanted_says_nothing_of_the_server() -> None:
    async with serve_http(Server("s"), port=0) as http:
        for wanted, version in [(LEGACY, LEGACY), (None, MODERN)]:
            async with Client(http.url, protocol_version=wanted) as client:
                assert client.protocol_version == version


async def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_REMEMBERED", 0)
    async with Client([sys.executable, "-c", DIES], timeout=SUBPROCESS_TIMEOUT):
        assert connection._legacy_targets == set()


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_what_takes_no_post_may_be_older(status: int) -> None:
    async with serve_http(Server("s"), port=0) as http, Client(http.url.replace("/mcp", "/sse")) as client:
        assert client.protocol_version == LEGACY
        assert client.server_info["name"] == "s"
    async with site(lambda request: Answer(status=status)) as there:
        with pytest.raises(RpcError) as caught:
            await Client(there.url).__aenter__()
        assert there.heard() == ["server/discover", "initialize", "GET"]
    assert caught.value.code == status  # the error of the POST, and not of the GET


@pytest.mark.parametrize(
    ("status", "heard"),
    [
        *((status, ["server/discover"]) for status in (401, 403)),
        *((status, ["server/discover"] * 4) for status in (429, 502, 503, 504)),
        (500, ["server/discover", "initialize"]),
        (410, ["server/discover", "initialize"]),
    ],
)
async def test_a_status_that_says_nothing_of_the_era(status: int, heard: list[str], pauses: list[float]) -> None:
    async with site(lambda request: Answer(status=status)) as there:
        with pytest.raises(RpcError) as caught:
            await Client(there.url).__aenter__()
        assert there.heard() == heard
    assert caught.value.code == status


async def test_silence_of_the_network_is_no_sign_of_age() -> None:
    async def silent(request: Request) -> None:
        await asyncio.Event().wait()

    async with site(silent) as there:
        with pytest.raises(TimeoutError):
            await Client(there.url, timeout=0.01).__aenter__()
        assert there.heard() == ["server/discover"]


async def test_a_server_that_is_not_there_is_waited_for_only_on_the_network(pauses: list[float]) -> None:
    async with site(lambda request: None) as there:
        url = there.url
    with pytest.raises(ConnectionClosed):
        await Client(url).__aenter__()
    assert len(pauses) == 3
    with pytest.raises(FileNotFoundError):
        await Client(["/nowhere/to/be/found"]).__aenter__()
    with pytest.raises(ConnectionClosed, match="exited with code 1"):
        await Client([sys.executable, "-c", "exit(1)"]).__aenter__()
    assert len(pauses) == 3


# --- repeating -----------------------------------------------------------------------------------


def faulty(method: str, fault: Answer | None, times: int = 1000) -> Callable[[Request], Answer | None]:
    """A modern server that is at fault when it is asked for a method, so many times."""
    left = times

    def respond(request: Request) -> Answer | None:
        nonlocal left
        if request.method == method and left:
            left -= 1
            return fault
        return Answer(DISCOVERED if request.method == "server/discover" else {"tools": [], "content": []})

    return respond


REFUSED = {"Retry-After": "7"}


@pytest.mark.parametrize(
    ("fault", "listing", "calling"),
    [
        (None, True, False),  # it has hung up: who knows what it has done
        (Answer(status=502), True, False),
        (Answer(status=503), True, False),
        (Answer(status=504), True, False),
        (Answer(status=503, headers=REFUSED), True, True),  # it says itself that it has done nothing
        (Answer(status=429), True, True),
        (Answer(status=429, headers=REFUSED), True, True),
        (Answer(status=500), False, False),
        (Answer(status=400), False, False),
        (Answer(status=404), False, False),
        (Answer(status=429, headers={"Retry-After": "31"}), False, False),  # longer than one can wait
    ],
)
async def test_only_what_is_safe_is_repeated(
    fault: Answer | None, listing: bool, calling: bool, pauses: list[float]
) -> None:
    for method, repeated in [("tools/list", listing), ("tools/call", calling)]:
        pauses.clear()
        async with site(faulty(method, fault, 2)) as there, Client(there.url, protocol_version=MODERN) as client:
            asking: Awaitable[Any] = client.list_tools() if method == "tools/list" else client.call_tool("t")
            if repeated:
                await asking
            else:
                with pytest.raises((ConnectionClosed, RpcError)):
                    await asking
            assert there.heard() == [method] * (3 if repeated else 1)
        assert len(pauses) == (2 if repeated else 0)


@pytest.mark.parametrize("method", ["server/discover", "tools/list"])
async def test_pauses_grow_and_are_logged_and_end(
    method: str, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mcp_min")
    async with site(faulty(method, None)) as there:
        client = Client(there.url, retries=4)
        with pytest.raises(ConnectionClosed):
            await client.list_tools()
        await client.close()
        assert there.heard().count(method) == 5
    assert len(pauses) == 4
    for attempt, pause in enumerate(pauses, 1):
        assert 0.05 * 2**attempt <= pause <= 0.1 * 2**attempt
    assert len(set(pauses)) == 4  # with some chance in it, so that not all clients come back at once
    assert [record.message.rpartition(";")[2] for record in caplog.records] == [
        f" again in {pause:.1f} s" for pause in pauses
    ]


@pytest.mark.parametrize("retries", [0, 1])
async def test_how_often_is_the_callers_choice(retries: int, pauses: list[float]) -> None:
    async with site(faulty("tools/list", None)) as there, Client(there.url, retries=retries) as client:
        with pytest.raises(ConnectionClosed):
            await client.list_tools()
        assert there.heard().count("tools/list") == 1 + retries


async def test_the_server_says_when(pauses: list[float]) -> None:
    fault = Answer(status=429, headers=REFUSED)
    async with site(faulty("tools/list", fault, 1)) as there, Client(there.url) as client:
        await client.list_tools()
    assert pauses == [7.0]


@pytest.mark.parametrize("method", ["server/discover", "tools/list"])
async def test_nobody_waits_for_a_repetition_by_a_closed_client(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async with site(faulty(method, Answer(status=429, headers={"Retry-After": "29"}))) as there:
        client = Client(there.url)
        listing = asyncio.create_task(client.list_tools())
        await until(lambda: "again in 29.0 s" in caplog.text)
        await client.close()
        with pytest.raises(ConnectionClosed, match="the client is closed"):
            await asyncio.wait_for(listing, 5)
    assert "the client is closed" not in caplog.text


# --- sessions ------------------------------------------------------------------------------------


class Sessions:
    """A legacy server with sessions, which forgets them when told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: set[str] = set()
        self.opening = asyncio.Event()
        self.opening.set()

    async def respond(self, request: Request) -> Answer:
        if request.method == "initialize":
            self.begun += 1
            id = str(self.begun)
            await self.opening.wait()
            described = initialized(LEGACY, capabilities={"tools": {}, "logging": {}})
            return Answer(described, headers={"Mcp-Session-Id": id})
        if request.headers["mcp-session-id"] in self.ended:
            return Answer(status=404)
        if request.verb != "POST":
            return Answer(status=405)
        if "id" not in request.message:
            return Answer(status=202)
        return Answer({"content": [], "tools": [], "by": request.headers["mcp-session-id"]})


async def test_a_session_that_has_ended_is_begun_again_once_and_the_request_repeated(pauses: list[float]) -> None:
    sessions = Sessions()
    async with site(sessions.respond) as there, Client(there.url, protocol_version=LEGACY) as client:
        assert (await client.call_tool("t"))["by"] == "1"
        sessions.ended.add("1")
        assert (await client.call_tool("t"))["by"] == "2"  # though it is no method that could be sent twice
        assert there.heard().count("initialize") == 2
        assert there.heard().count("tools/call") == 3
    assert len(pauses) == 1


async def test_what_the_server_does_while_a_session_ends_is_not_repeated(pauses: list[float]) -> None:
    """Somebody else hears that it has ended; what was sent before may have been done, and is."""
    sessions, done, at_work = Sessions(), asyncio.Event(), asyncio.Event()

    async def respond(request: Request) -> Answer:
        answer = await sessions.respond(request)
        if request.method == "tools/call":
            at_work.set()
            await done.wait()
        return answer

    async with site(respond) as there, Client(there.url, protocol_version=LEGACY) as client:
        paying = asyncio.create_task(client.call_tool("pay"))
        await at_work.wait()
        sessions.ended.add("1")
        listing = asyncio.create_task(client.list_tools())
        await until(lambda: client.peer.closed)
        done.set()
        assert await listing == []
        with pytest.raises(ConnectionClosed, match="the server has ended the session"):
            await paying
    assert there.heard().count("tools/call") == 1


async def test_sessions_that_end_at_once_are_not_begun_for_ever(pauses: list[float]) -> None:
    sessions = Sessions()
    sessions.ended.update("123456")
    async with site(sessions.respond) as there, Client(there.url, protocol_version=LEGACY) as client:
        with pytest.raises(ConnectionClosed, match="the server has ended the session"):
            await client.call_tool("t")
    assert sessions.begun <= 4


async def test_two_who_ask_while_it_is_opened_again_share_it(pauses: list[float]) -> None:
    sessions = Sessions()
    async with site(sessions.respond) as there, Client(there.url, protocol_version=LEGACY) as client:
        sessions.ended.add("1")
        sessions.opening.clear()
        calls = [asyncio.create_task(client.call_tool("t")) for _ in range(3)]
        await until(lambda: sessions.begun == 2)
        await until(lambda: there.heard().count("tools/call") == 3)
        calls[0].cancel()  # whoever began to open it
        late = asyncio.create_task(client.list_tools())
        sessions.opening.set()
        assert [call["by"] for call in await asyncio.gather(*calls[1:])] == ["2", "2"]
        await late
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
    assert sessions.begun == 2


async def test_each_who_waits_hears_how_it_ended(pauses: list[float]) -> None:
    """And not of another try, which somebody else has begun meanwhile."""
    problems: list[Exception] = []

    async def persist() -> None:
        for _ in range(3):
            try:
                await client.list_tools()
            except Exception as problem:
                problems.append(problem)

    async with site(lambda request: None) as there:
        client = Client(there.url, retries=0)
        await asyncio.gather(persist(), persist(), persist())
        await client.close()
    assert len(problems) == 9
    assert all(isinstance(problem, ConnectionClosed) for problem in problems)


async def test_a_log_level_is_told_to_who_sends_messages_only() -> None:
    server = Scripted(initialize=initialized(LEGACY))
    client = Client(server)
    await client.set_log_level("error")
    async with client:
        assert server.heard == ["initialize"]


async def test_a_server_must_take_that_it_is_initialized() -> None:
    def respond(request: Request) -> Any:
        if request.method == "initialize":
            return Answer(initialized(LEGACY))
        return asyncio.Event().wait() if request.method == "notifications/initialized" else Answer(status=404)

    async with site(respond) as there:
        with pytest.raises(TimeoutError, match="the server has not taken notifications/initialized within"):
            await Client(there.url, protocol_version=LEGACY, timeout=0.2).__aenter__()


async def test_a_log_level_is_told_to_each_session(pauses: list[float]) -> None:
    sessions = Sessions()
    async with site(sessions.respond) as there, Client(there.url, protocol_version=LEGACY) as client:
        await client.set_log_level("error")
        sessions.ended.add("1")
        await client.call_tool("t")
        told = [request for request in there.requests if request.method == "logging/setLevel"]
    assert [request.headers["mcp-session-id"] for request in told] == ["1", "2"]
    assert [request.message["params"]["level"] for request in told] == ["error"] * 2


COUNTS = """
import os, sys
sys.path.insert(0, '.')
from mcp_min import Server
with open(sys.argv[1], "a") as starts:
    starts.write("x")
server = Server("s")
@server.tool
async def die(when: int) -> str:
    if os.path.getsize(sys.argv[1]) <= when:
        os._exit(3)
    return "alive"
@server.resource("a://1")
async def read() -> str:
    if os.path.getsize(sys.argv[1]) <= 1:
        os._exit(3)
    return "text"
server.run()
"""


@pytest.mark.parametrize("version", [MODERN, LEGACY])
async def test_a_child_that_has_died_is_started_again(version: str, tmp_path: Path, pauses: list[float]) -> None:
    starts = tmp_path / "starts"
    command = [sys.executable, "-c", COUNTS, str(starts)]
    async with Client(command, protocol_version=version, timeout=SUBPROCESS_TIMEOUT) as client:
        assert (await client.read_resource("a://1"))["contents"][0]["text"] == "text"  # again, by itself
        assert starts.read_text() == "xx"
        with pytest.raises(ConnectionClosed, match="exited with code 3"):
            await client.call_tool("die", {"when": 2})  # nobody knows what it has done
        assert starts.read_text() == "xx"
        assert (await client.call_tool("die", {"when": 2}))["content"][0]["text"] == "alive"
        assert starts.read_text() == "xxx"
    assert len(pauses) == 1


# --- the end -------------------------------------------------------------------------------------


async def stuck(request: Request) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("leave", ["close", "cancel"])
@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_who_leaves_while_it_is_opened_leaves_nothing(kind: str, leave: str) -> None:
    async with site(stuck) as there:
        asked = asyncio.Event()
        silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        client = Client(there.url if kind == "http" else silent, on_message=lambda *message: asked.set())
        opening = asyncio.create_task(client.__aenter__())
        await asked.wait()
        if leave == "close":
            await client.close()
            assert not [task for task in others() if "_search" in repr(task)]
            with pytest.raises(ConnectionClosed, match="the client is closed"):
                await opening
        else:
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        with pytest.raises(ConnectionClosed, match="the client is closed"):
            await client.ping()


async def test_an_opening_that_nobody_waits_for_any_more_fails_in_silence() -> None:
    hang_up = asyncio.Event()
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))

    async def respond(request: Request) -> None:
        await hang_up.wait()

    async with site(respond) as there:
        client = Client(there.url, retries=0)
        asking = asyncio.create_task(client.list_tools())
        await until(lambda: there.requests)
        asking.cancel()
        await asyncio.wait([asking])
        hang_up.set()
        opening = client._opening
        assert opening is not None
        await asyncio.wait([opening])
        await client.close()
    client = asking = opening = None  # type: ignore[assignment]
    gc.collect()
    assert problems == []


@pytest.mark.parametrize("version", [MODERN, LEGACY])
async def test_closed_is_closed(version: str) -> None:
    client = Client(Server("s"), protocol_version=version)
    async with client:
        await client.ping()
        await asyncio.gather(client.close(), client.close(), asyncio.create_task(client.close()))
        for asking in (client.ping, client.list_tools):
            with pytest.raises(ConnectionClosed, match="the client is closed"):
                await asking()
    with pytest.raises(ConnectionClosed, match="the client is closed"):
        await client.ping()
    async with client:  # but may be opened again, by who says so
        await client.ping()


async def test_what_waits_fails_with_the_close() -> None:
    server = Scripted()
    began = asyncio.Event()

    async def call(params: dict[str, Any], call: Call) -> dict[str, Any]:
        began.set()
        await asyncio.Event().wait()
        return {}

    server.methods["tools/call"] = call
    async with Client(server, protocol_version=MODERN) as client:
        calling = asyncio.create_task(client.call_tool("t"))
        await began.wait()
        await client.close()
        with pytest.raises(ConnectionClosed, match="the connection was closed"):
            await calling


class Deaf(Mute):
    """A transport of one's own, which goes on reading when it has been closed."""

    async def read(self) -> Any:
        await asyncio.Event().wait()
        yield {}

    async def write(self, message: Any) -> None:
        return


async def test_a_transport_that_reads_on() -> None:
    client = Client(Deaf(), protocol_version=MODERN)
    await client.opened()
    await asyncio.wait_for(client.close(), 5)
    assert not [task for task in others() if "Peer.run" in repr(task)]


async def test_what_was_being_answered_is_cancelled_with_the_close() -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def elicit(params: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    ours, theirs = memory_pair()
    client = Client(ours, protocol_version=LEGACY, on_elicit=elicit)
    opening = asyncio.create_task(client.__aenter__())
    request = await anext(theirs.read())
    await theirs.write({"jsonrpc": "2.0", "id": request["id"], "result": initialized(LEGACY)})
    await opening
    await theirs.write({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}})
    await asked.wait()
    await client.close()
    assert cancelled.is_set()


@pytest.mark.parametrize(("version", "welcome"), [("2025-03-26", True), (LEGACY, False)])
async def test_batches_belong_to_one_revision(version: str, welcome: bool) -> None:
    ours, theirs = memory_pair()
    client = Client(ours, protocol_version=version, timeout=None)
    opening = asyncio.create_task(client.__aenter__())
    reading = theirs.read()
    request = await anext(reading)
    await theirs.write({"jsonrpc": "2.0", "id": request["id"], "result": initialized(version)})
    await opening
    assert (await anext(reading))["method"] == "notifications/initialized"
    pings = [{"jsonrpc": "2.0", "id": id, "method": "ping"} for id in (1, 2)]
    await theirs.write(pings)
    answer = await anext(reading)
    assert isinstance(answer, list) is welcome
    await client.close()


async def test_a_cancelled_close_leaves_nothing() -> None:
    client = await Client([sys.executable, "-c", DIES], timeout=SUBPROCESS_TIMEOUT).__aenter__()
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await client.close()


async def test_a_client_opens_when_it_is_first_asked() -> None:
    client = Client(Server("s"))
    await client.set_log_level("error")
    await client.request("server/discover")
    assert client.protocol_version == MODERN
    await client.close()


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "http"])
@pytest.mark.parametrize("seer", ["def", "async def"])
async def test_every_message_is_seen(kind: str, seer: str) -> None:
    seen: list[tuple[str, str]] = []

    def see(way: str, message: dict[str, Any]) -> None:
        seen.append((way, message.get("method", "")))

    async def see_later(way: str, message: dict[str, Any]) -> None:
        see(way, message)

    on_message = see if seer == "def" else see_later
    server = Server("s")
    async with (
        serve_http(server, port=0) as http,
        Client(http.url if kind == "http" else server, on_message=on_message),
    ):
        pass
    assert seen == [("→", "server/discover"), ("←", "")]


async def test_a_modern_server_that_asks_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    """Spec: 2026-07-28 basic/transports/streamable-http#sending-messages."""
    ours, theirs = memory_pair()
    client = Client(ours, protocol_version=MODERN, on_elicit=dict)
    pinging = asyncio.create_task(client.ping())
    reading = theirs.read()
    request = await anext(reading)
    await theirs.write({"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {}})
    await theirs.write({"jsonrpc": "2.0", "id": request["id"], "result": {"resultType": "complete"}})
    await pinging
    await client.close()
    assert [message async for message in reading] == []
    assert "the server asked, which it must not in this revision" in caplog.text
