"""Sessions without sockets: what is remembered of a client, for whom, for how long, and what is left afterwards."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from http_by_hand import LEGACY, META, PATIENCE, ByHand, becomes, call, modern

from mcp_min import Context, Server, sessions, spec
from mcp_min.context import ROOTS
from mcp_min.guards import Grant, Guards
from mcp_min.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, RpcError
from mcp_min.sessions import HttpSession, SessionLimits, Sessions
from mcp_min.streamable_http import Endpoint, Response

BATCHES = spec.BATCHES
OLDER = [version for version in spec.LEGACY if version < LEGACY]


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Named:
    """Believes what a client says of itself."""

    metadata = None

    async def authenticate(self, headers: Mapping[str, str]) -> Grant:
        return Grant(headers.get("authorization"))

    def insufficient(self, scopes: list[str]) -> Mapping[str, str]:
        return {}


class Site:
    """An endpoint with sessions, and tools that wait until they are told to go on."""

    def __init__(self, auth: Any = None, **limits: Any) -> None:
        self.clock = Clock()
        self.server = Server("site", "1")
        for function in (self.echo, self.tell, self.wait, self.ask, self.close, self.crowd, self.steps):
            self.server.tool(function)
        self.server.methods["odd"] = self.odd
        guards = Guards()
        guards.bind("127.0.0.1", 8000)
        self.endpoint = Endpoint(self.server.dispatch, guards, auth)
        self.sessions = Sessions(self.endpoint, SessionLimits(**limits) if limits else None, self.clock)
        self.gates: dict[str, asyncio.Event] = {}
        self.ends: list[str] = []

    def gate(self, name: str = "") -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    @property
    def session(self) -> HttpSession:
        (session,) = self.sessions.table.values()
        return session

    async def echo(self, text: str) -> str:
        return text

    async def tell(self, ctx: Context, times: int = 1, text: str = "") -> str:
        for number in range(times):
            await ctx.log("info", f"{number}{text}")
        return "told"

    async def wait(self, ctx: Context, gate: str = "", tell: bool = False) -> str:
        """Tell that it has begun, wait for the gate, and tell that it is open."""
        if tell:
            await ctx.log("info", "begun")
        try:
            self.ends.append("begun")
            await self.gate(gate).wait()
            if tell:
                await ctx.log("info", "open")
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("done")
        return f"waited for {gate!r}"

    async def ask(self, ctx: Context) -> str:
        try:
            answers = await ctx.ask({"roots": ROOTS})
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        return str(answers["roots"]["roots"])

    async def close(self, ctx: Context, tell: int = 0) -> str:
        for number in range(tell):
            await ctx.log("info", number)
        ctx.close_stream()
        await self.gate().wait()
        await ctx.log("info", "after")
        return "found again"

    async def crowd(self, ctx: Context, size: int) -> str:
        async with asyncio.TaskGroup() as group:
            for number in range(size):
                group.create_task(ctx.log("info", number))
        return "all"

    async def steps(self, ctx: Context, size: int) -> str:
        """One message for each opening of the gate."""
        for number in range(size):
            await self.gate().wait()
            self.gate().clear()
            await ctx.log("info", number)
        return "all"

    async def odd(self, params: Any, ctx: Context) -> dict[str, Any]:
        return {"odd": object()}


class Browser:
    """One client: its requests carry what the server gave it."""

    def __init__(self, site: Site, version: str | None = LEGACY, name: str | None = None) -> None:
        self.site, self.version, self.name = site, version, name
        self.id: str | None = None

    async def open(self, capabilities: dict[str, Any] | None = None) -> Browser:
        params = {"protocolVersion": self.version or BATCHES, "capabilities": {"roots": {}} | (capabilities or {})}
        request = ByHand({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        request.headers |= {"authorization": self.name} if self.name else {}
        response = await responds(self.site, request)
        assert response.status == 200
        assert json.loads(response.body)["result"]["protocolVersion"] == params["protocolVersion"]
        self.id = response.headers["Mcp-Session-Id"]
        return self

    def request(self, message: Any = None, **more: Any) -> ByHand:
        extra = more.pop("headers", {})
        headers = {"mcp-session-id": self.id, "mcp-protocol-version": self.version, "authorization": self.name}
        return ByHand(message, {**headers, **extra}, **more)

    def get(self, last_event_id: str | None = None) -> ByHand:
        return self.request(method="GET", headers={"last-event-id": last_event_id})

    async def post(self, message: Any) -> Response:
        return await responds(self.site, self.request(message))

    async def say(self, method: str, **params: Any) -> Response:
        return await self.post({"jsonrpc": "2.0", "method": method, "params": params})


async def responds(site: Site, request: ByHand) -> Response:
    """Answer a request that gets a whole response."""
    async with asyncio.timeout(PATIENCE):
        response = await site.endpoint(request)
    assert response is not None, request.messages()
    return response


async def streams(site: Site, request: ByHand) -> list[Any]:
    """Answer a request that gets a stream, to its end, which may come before that of the work."""
    answering = asyncio.ensure_future(site.endpoint(request))
    closed = asyncio.ensure_future(request.closed.wait())
    WORK.add(answering)
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([answering, closed], return_when=asyncio.FIRST_COMPLETED)
    closed.cancel()
    assert not answering.done() or answering.result() is None
    return request.messages()


WORK: set[asyncio.Future[Any]] = set()  # that goes on after its response


@pytest.fixture
def start() -> Iterator[Callable[[Site, ByHand], asyncio.Task[Any]]]:
    """Begin to answer, as a server does; a task that fails fails the test."""
    tasks: list[asyncio.Task[Any]] = []

    def begin(site: Site, request: ByHand) -> asyncio.Task[Any]:
        tasks.append(asyncio.ensure_future(site.endpoint(request)))
        return tasks[-1]

    yield begin
    for task in tasks:
        assert task.cancelled() or not task.done() or task.exception() is None


Start = Callable[[Site, ByHand], "asyncio.Task[Any]"]


def told(messages: list[Any]) -> list[Any]:
    """What logs say, and what a tool returned."""
    return [
        item["params"]["data"] if "method" in item else item.get("result", item)["content"][0]["text"]
        for item in messages
    ]


def body_of(response: Response) -> Any:
    assert response.headers["Content-Type"] == "application/json"
    return json.loads(response.body)


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}

# --- a session begins ----------------------------------------------------------------------------


async def test_initialize_begins_a_session() -> None:
    site = Site()
    browser = await Browser(site).open()
    assert list(site.sessions.table) == [browser.id]
    assert body_of(await browser.post(PING)) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert await browser.post(INITIALIZED) == (202, {}, b"")


def test_ids_cannot_be_guessed() -> None:
    made = asyncio.run(_many_ids())
    assert len(made) == 10_000
    assert all(len(id) == 32 and set(id) <= set("0123456789abcdef") for id in made)  # 128 bits, visible ASCII


async def _many_ids() -> set[str]:
    sessions = Site().sessions
    return {HttpSession(sessions, None).id for _ in range(10_000)}


@pytest.mark.parametrize("params", [{}, {"protocolVersion": 5}, {"protocolVersion": LEGACY, "capabilities": 5}])
async def test_an_initialize_that_fails_begins_none(params: dict[str, Any]) -> None:
    site = Site()
    response = await responds(site, ByHand({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}))
    assert (response.status, body_of(response)["error"]["code"]) == (200, -32602)
    assert "Mcp-Session-Id" not in response.headers
    assert not site.sessions.table


async def test_an_initialize_that_talks_is_a_stream_with_the_id() -> None:
    site = Site()

    @site.server.middleware
    async def talk(call_next: Any, params: Any, ctx: Context) -> Any:
        await ctx.log("info", "hello")
        return await call_next(params, ctx)

    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": LEGACY}}
    request = ByHand(message)
    hello, answer = await streams(site, request)
    assert (hello["params"]["data"], answer["result"]["protocolVersion"]) == ("hello", LEGACY)
    assert list(site.sessions.table) == [request.sent_headers["Mcp-Session-Id"]]


async def test_without_a_session_a_request_is_served_alone() -> None:
    site = Site()
    response = await responds(site, ByHand(call("echo", text="alone")))
    assert body_of(response)["result"]["content"][0]["text"] == "alone"
    assert await responds(site, ByHand(INITIALIZED)) == (202, {}, b"")
    assert await responds(site, ByHand({"jsonrpc": "2.0", "method": "initialize"})) == (202, {}, b"")
    for message in ([PING], {"jsonrpc": "2.0", "id": 1, "result": {}}):
        refused = await responds(site, ByHand(message))
        assert (refused.status, body_of(refused)["error"]["code"]) == (400, INVALID_REQUEST)
    assert not site.sessions.table


async def test_a_modern_request_has_no_session_whatever_it_names() -> None:
    site = Site()
    response = await responds(site, modern("tools/list", headers={"mcp-session-id": "anything"}))
    assert response.status == 200
    assert "Mcp-Session-Id" not in response.headers


# (code, status): an error in a session is an error of the message, not of HTTP
@pytest.mark.parametrize(
    ("message", "code"),
    [({**PING, "method": "no/such"}, METHOD_NOT_FOUND), ({**PING, "method": "odd"}, INTERNAL_ERROR)],
)
async def test_errors(message: Any, code: int) -> None:
    response = await (await Browser(Site()).open()).post(message)
    assert (response.status, body_of(response)["error"]["code"], body_of(response)["id"]) == (200, code, 1)


async def test_an_id_in_flight_is_not_taken_twice(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    first = start(site, browser.request(call("wait", id=1)))
    await becomes(lambda: site.ends)
    assert body_of(await browser.post(call("echo", id=1, text="x")))["error"]["code"] == INVALID_REQUEST
    site.gate().set()
    assert body_of(await first)["result"]["content"][0]["text"] == "waited for ''"


# --- whose session it is -------------------------------------------------------------------------

ROUTES = [("POST", "/mcp"), ("POST", "/mcp/"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("POST", "/messages")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_session_that_is_not_there(method: str, path: str) -> None:
    site = Site(Named())
    alice, mallory = await Browser(site, name="alice").open(), Browser(site, name="mallory")
    for id in ("", "nothing", alice.id):
        mallory.id = id
        response = await responds(site, mallory.request(PING, method=method, path=path, query=f"session_id={id}"))
        assert (response.status, "initialize" in body_of(response)["error"]["message"]) == (404, True)
    assert list(site.sessions.table) == [alice.id]


@pytest.mark.parametrize(("method", "path", "allow"), [("GET", "/mcp", "POST"), ("DELETE", "/mcp/", "POST")])
async def test_no_session_at_all(method: str, path: str, allow: str) -> None:
    response = await responds(Site(), ByHand(method=method, path=path))
    assert (response.status, response.headers["Allow"]) == (405, allow)


@pytest.mark.parametrize(("method", "path", "allow"), [
    ("HEAD", "/mcp", "POST, GET, DELETE"), ("POST", "/sse", "GET"), ("GET", "/messages", "POST"),
])  # fmt: skip
async def test_methods_that_a_path_has_not(method: str, path: str, allow: str) -> None:
    response = await responds(Site(), ByHand(method=method, path=path))
    assert (response.status, response.headers["Allow"]) == (405, allow)


@pytest.mark.parametrize(("message", "method"), [(None, "GET"), (None, "DELETE"), ([PING], "POST")])
async def test_a_version_that_has_no_sessions(message: Any, method: str) -> None:
    browser = await Browser(Site()).open()
    for version in ("v999", "", *(("2026-07-28",) if message is None else ())):
        response = await responds(browser.site, browser.request(message, method=method, headers={
            "mcp-protocol-version": version
        }))  # fmt: skip
        assert (response.status, LEGACY in body_of(response)["error"]["message"]) == (400, True)


async def test_an_answer_is_taken_from_whom_was_asked_and_nobody_else(start: Start) -> None:
    site = Site(Named())
    alice, bob, mallory = [await Browser(site, name=name).open() for name in ("alice", "bob", "mallory")]
    waiting = {}
    for browser in (alice, bob):
        waiting[browser] = browser.request(call("ask", id=5))
        start(site, waiting[browser])
    questions = {browser: await request.message() for browser, request in waiting.items()}
    assert [(question["id"], question["method"]) for question in questions.values()] == [(1, "roots/list")] * 2

    def answer(uri: str) -> Any:
        return {"jsonrpc": "2.0", "id": 1, "result": {"roots": [{"uri": uri}]}}

    stranger = Browser(site, name="mallory")
    stranger.id = alice.id
    assert (await stranger.post(answer("file:///stranger"))).status == 404
    assert (await mallory.post(answer("file:///mallory"))).status == 202  # in her own session nobody asked
    assert (await responds(site, ByHand(answer("file:///x"), {"authorization": "alice"}))).status == 400
    for browser, uri in [(bob, "file:///bob"), (alice, "file:///alice")]:
        assert await browser.post(answer(uri)) == (202, {}, b"")
        assert uri in told([await waiting[browser].message()])[0]


@pytest.mark.parametrize("with_session", [True, False])
async def test_equal_ids_of_two_clients_never_meet(with_session: bool, start: Start) -> None:
    site = Site()
    pair = [await Browser(site).open() if with_session else Browser(site, None) for _ in range(2)]
    for number in range(100):
        names = [f"{number}-0", f"{number}-1"]
        tasks = [
            start(site, browser.request(call("wait", id=1, gate=name)))
            for browser, name in zip(pair, names, strict=True)
        ]
        await becomes(lambda number=number: len(site.ends) == 4 * number + 2)
        for name in reversed(names):
            site.gate(name).set()
        answers = [body_of(await task) for task in tasks]
        assert [answer["result"]["content"][0]["text"] for answer in answers] == [f"waited for {n!r}" for n in names]


# --- the response is a stream from the first message on ------------------------------------------

PRIMED = b"data: \n\n"


@pytest.mark.parametrize("version", [None, *spec.LEGACY])
async def test_a_stream_and_its_first_bytes(version: str | None) -> None:
    site = Site()
    browser = await Browser(site, version).open()
    request = browser.request(call("tell", times=2))
    assert told(await streams(site, request)) == ["0", "1", "told"]
    first, *events = request.streamed
    primed = version == LEGACY
    assert first == (b"id: 1-0\nretry: 1000\n" + PRIMED if primed else b":\n\n").replace(b"1-0", b"2-0")
    assert [event.split(b"\n")[1] for event in events] == [b"id: 2-1", b"id: 2-2", b"id: 2-3"]
    assert request.sent_headers == {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        "Mcp-Session-Id": browser.id,
    }


async def test_a_page_of_an_allowed_origin_can_read_its_streams(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(method="GET", headers={"origin": "http://localhost:8000"})
    start(site, request)
    await request.begun.wait()
    assert request.sent_headers["Access-Control-Allow-Origin"] == "http://localhost:8000"


async def test_a_stream_begins_with_the_first_message_and_not_with_the_last(start: Start) -> None:
    site = Site()
    request = (await Browser(site).open()).request(call("wait", tell=True))
    answering = start(site, request)
    assert told([await request.message()]) == ["begun"]
    assert not answering.done()
    site.gate().set()
    await answering
    assert told(request.messages()) == ["open", "waited for ''"]


async def test_many_who_speak_at_once_are_heard_once_each() -> None:
    site = Site()
    messages = told(await streams(site, (await Browser(site).open()).request(call("crowd", size=100))))
    assert messages == [*range(100), "all"]


async def test_a_slow_reader_holds_its_own_handler_only(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("tell", times=50))
    request.read.clear()
    answering = start(site, request)
    await request.begun.wait()
    assert body_of(await browser.post({**PING, "id": 2}))["result"] == {}
    assert len(request.streamed) <= 2, "nothing is piled up for it"
    request.read.set()
    await answering
    assert told(request.messages()) == [*map(str, range(50)), "told"]


# --- a client that hangs up comes back for the rest ----------------------------------------------


async def last_id(request: ByHand) -> str:
    await request.event()
    return request.last_event_id


@pytest.mark.parametrize("version", spec.LEGACY)
async def test_work_goes_on_and_its_answer_waits(version: str, start: Start) -> None:
    site = Site()
    browser = await Browser(site, version).open()
    request = browser.request(call("wait", tell=True))
    answering = start(site, request)
    seen = await last_id(request)
    request.hang_up()
    site.gate().set()
    assert await answering is None
    assert site.ends == ["begun", "done"]
    again = browser.get(seen)
    assert told(await streams(site, again)) == ["open", "waited for ''"]
    assert again.streamed[0].startswith(f"id: {seen}".encode()) == (version == LEGACY)
    assert told(await streams(site, browser.get(seen))) == ["open", "waited for ''"], "as often as needed"
    assert told(await streams(site, browser.get(seen[:-1] + "0"))) == ["begun", "open", "waited for ''"]
    assert await streams(site, browser.get(seen[:-1] + "9")) == []


async def test_coming_back_before_the_answer(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("wait", tell=True))
    start(site, request)
    seen = await last_id(request)
    request.hang_up()
    await becomes(lambda: not site.session.readers)
    again = browser.get(seen)
    resumed = start(site, again)
    await again.begun.wait()
    site.gate().set()
    await resumed
    assert told(again.messages()) == ["open", "waited for ''"]


async def test_hanging_up_before_anything_was_said(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("wait"))
    answering = start(site, request)
    await becomes(lambda: site.ends)
    request.hang_up()
    assert not site.session.readers, "nobody waits"
    site.gate().set()
    assert await answering is None
    assert site.ends == ["begun", "done"]
    (stream,) = [name for name in site.session.streams if name != site.session.standalone.name]
    assert told(await streams(site, browser.get(f"{stream}-0"))) == ["waited for ''"]


async def test_having_hung_up_before_it_begins(start: Start) -> None:
    site = Site()
    request = (await Browser(site).open()).request(call("wait"))
    request.hung_up = True
    answering = start(site, request)
    await becomes(lambda: site.ends == ["begun"])
    assert not site.session.readers, "nobody waits"
    site.gate().set()
    assert await answering is None


async def test_a_reader_lost_without_a_word(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("steps", size=3))
    answering = start(site, request)
    await becomes(lambda: site.gates)
    site.gate().set()
    seen = await last_id(request)
    request.hung_up = True  # and nobody tells
    site.gate().set()
    await becomes(lambda: not site.session.readers and not site.gate().is_set())
    site.gate().set()
    assert await answering is None
    assert not site.session.peer.in_flight
    assert told(await streams(site, browser.get(seen))) == [1, 2, "all"]


@pytest.mark.parametrize(
    "last_event_id", ["", "x", "0", "-", "0-", "-1", "99-0", "2-x", "2-1-1", "2- 1", "2-" + "9" * 16, "²-1"]
)
async def test_events_that_are_not_kept(last_event_id: str) -> None:
    site = Site()
    browser = await Browser(site).open()
    await streams(site, browser.request(call("tell")))
    await browser.post(PING)  # needs no stream, and has none
    response = await responds(site, browser.get(last_event_id))
    assert (response.status, "Last-Event-ID" in body_of(response)["error"]["message"]) == (400, True)


async def test_a_stream_is_resumed_and_no_other(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    site.server.tools_changed()
    requests = [browser.request(call("tell", id=number, text=f"-{number}")) for number in range(3)]
    for request in requests:
        await streams(site, request)
    for number, request in enumerate(requests):
        name = request.streamed[0][4:].split(b"-")[0].decode()
        assert told(await streams(site, browser.get(f"{name}-0"))) == [f"0-{number}", "told"]


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REPLAY", 2000)
    site = Site()
    browser = await Browser(site).open()
    await streams(site, browser.request(call("tell", times=3)))
    session = site.session
    assert "2" in session.streams
    await streams(site, browser.request(call("tell", times=100)))
    assert set(session.streams) == {"0", "3"}, "a stream of which nothing is kept is forgotten"
    kept = told(await streams(site, browser.get("3-0")))
    assert kept[-1] == "told"
    assert kept == [*map(str, range(100)), "told"][-len(kept) :]
    assert 5 < len(kept) < 50
    assert session._kept == sum(map(len, session.streams["3"].kept)) <= 2000
    big = await streams(site, browser.request(call("tell", text="x" * 5000)))
    assert told(await streams(site, browser.get("4-1"))) == told(big)[1:], "the newest is kept at any size"
    assert set(session.streams) == {"0", "4"}


async def test_what_nobody_came_for_in_time_is_not_missed(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr(sessions, "REPLAY", 500)
    site = Site()
    browser = await Browser(site).open()
    await site.session.peer.notify("old")
    await streams(site, browser.request(call("tell", times=20)))
    assert site.session.standalone.kept == []
    for last_event_id in (None, "0-0"):
        request = browser.get(last_event_id)
        reading = start(site, request)
        await request.begun.wait()
        await site.session.peer.notify("new")
        assert (await request.message())["method"] == "new"
        request.hang_up()
        await reading
        await streams(site, browser.request(call("tell", times=20)))


async def test_a_slow_reader_may_come_too_late(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr(sessions, "REPLAY", 500)
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("wait", tell=True))
    request.read.clear()
    answering = start(site, request)
    await request.begun.wait()
    await streams(site, browser.request(call("tell", id=2, times=20)))
    request.read.set()
    site.gate().set()
    await answering
    assert told(request.messages()) == ["open", "waited for ''"]


async def test_an_unfinished_stream_is_not_forgotten(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr(sessions, "REPLAY", 500)
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("wait", tell=True))
    start(site, request)
    seen = await last_id(request)
    request.hang_up()
    await streams(site, browser.request(call("tell", id=2, times=20)))
    site.gate().set()
    await becomes(lambda: site.ends == ["begun", "done"])
    assert told(await streams(site, browser.get(seen)))[-1] == "waited for ''"


async def test_order_holds_while_the_past_is_told_to_a_slow_reader(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("steps", size=20))
    start(site, request)
    await becomes(lambda: site.gates)
    site.gate().set()
    seen = await last_id(request)
    request.hang_up()

    async def step() -> None:
        before = site.session.streams["2"]._last
        site.gate().set()
        await becomes(lambda: site.session.streams["2"]._last > before)

    for _ in range(9):
        await step()
    again = browser.get(seen)
    again.read.clear()
    resumed = start(site, again)
    await again.begun.wait()
    await step()  # while the priming event is not yet taken
    again.read.set()
    assert await again.message()
    for _ in range(9):
        await step()
    await resumed
    assert told(again.messages()) == [*range(2, 20), "all"]


# --- a server that lets go of a stream -----------------------------------------------------------


@pytest.mark.parametrize("tell", [0, 1])
async def test_a_stream_closed_early_is_polled(tell: int) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("close", tell=tell))
    assert told(await streams(site, request)) == [*range(tell)], "it has ended"
    assert request.streamed[0] == b"id: 2-0\nretry: 1000\n" + PRIMED
    again = browser.get(f"2-{tell}")
    resumed = asyncio.ensure_future(streams(site, again))
    await again.begun.wait()
    site.gate().set()
    assert told(await resumed) == ["after", "found again"]


async def test_letting_go_of_a_stream_that_is_being_read(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()

    @site.server.tool
    async def let_go(ctx: Context) -> str:
        await ctx.log("info", "first")
        await site.gate("one").wait()
        ctx.close_stream()
        await site.gate("two").wait()
        return "end"

    request = browser.request(call("let_go"))
    answering = start(site, request)
    seen = await last_id(request)
    site.gate("one").set()
    await asyncio.wait_for(request.closed.wait(), PATIENCE)
    assert request.streamed[-1] == f"id: {seen}\nretry: 1000\n".encode() + PRIMED, "from where to go on, and when"
    site.gate("two").set()
    assert await answering is None
    assert told(await streams(site, browser.get(seen))) == ["end"]


@pytest.mark.parametrize("version", [None, *OLDER])
async def test_older_clients_would_not_come_back(version: str | None, start: Start) -> None:
    site = Site()
    request = (await Browser(site, version).open()).request(call("close"))
    answering = start(site, request)
    await becomes(lambda: site.gates)
    site.gate().set()
    await answering
    assert told(request.messages()) == ["after", "found again"]


# --- the standalone stream -----------------------------------------------------------------------


async def test_changes_come_on_the_standalone_stream(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.get()
    start(site, request)
    site.server.tools_changed()
    assert (await request.message())["method"] == "notifications/tools/list_changed"
    assert request.streamed[0] == b"id: 0-0\nretry: 1000\n" + PRIMED, "at once"


async def test_what_was_said_before_anybody_listened_is_heard_once(start: Start) -> None:
    site = Site()
    browser = await Browser(site, BATCHES).open()
    await site.session.peer.notify("one")
    first = browser.get()
    start(site, first)
    assert (await first.message())["method"] == "one"
    assert first.streamed[0] == b":\n\n"
    first.hang_up()
    await becomes(lambda: not site.session.readers)
    await site.session.peer.notify("two")
    second = browser.get()
    start(site, second)
    assert (await second.message())["method"] == "two"
    second.hang_up()
    await becomes(lambda: not site.session.readers)
    third = browser.get("0-0")
    start(site, third)
    assert [(await third.message())["method"] for _ in range(2)] == ["one", "two"]


async def test_a_stream_has_one_reader(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    first = browser.get()
    reading = start(site, first)
    await first.begun.wait()
    for other in (browser.get(), browser.get("0-0")):
        response = await responds(site, other)
        assert (response.status, "reader" in body_of(response)["error"]["message"]) == (409, True)
    site.server.tools_changed()
    assert (await first.message())["method"] == "notifications/tools/list_changed"
    assert not reading.done()
    first.hang_up()
    second = browser.get()
    start(site, second)  # before the first has noticed
    site.server.prompts_changed()
    assert (await second.message())["method"] == "notifications/prompts/list_changed"
    assert await reading is None
    site.server.prompts_changed()
    assert (await second.message())["method"] == "notifications/prompts/list_changed"


# (whether there was no room for what the handler wanted to say, what somebody gets who asks for the stream)
@pytest.mark.parametrize(("full", "status"), [(False, 400), (True, 409)])
async def test_a_response_that_may_still_be_whole_is_nobody_elses(
    full: bool, status: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    browser = await Browser(site).open()

    @site.server.tool
    async def hush(ctx: Context) -> str:
        if full:
            with pytest.raises(RpcError, match="no room"):
                await ctx.log("info", "unheard")
        return await site.wait(ctx)

    def stream(*args: Any, **more: Any) -> ByHand:
        raise OSError("no room")

    request = browser.request(call("hush"))
    monkeypatch.setattr(request, "stream", stream)
    answering = start(site, request)
    await becomes(lambda: site.ends)
    assert (await responds(site, browser.get("2-0"))).status == status
    site.gate().set()
    assert body_of(await answering)["result"]["content"][0]["text"] == "waited for ''"


async def test_a_response_that_is_cancelled_has_no_reader(start: Start) -> None:
    """As a server does that closes, or another one when a client hangs up."""
    site = Site()
    browser = await Browser(site).open()
    request, reading = browser.request(call("wait", tell=True)), browser.get()
    tasks = [start(site, request), start(site, reading)]
    seen = await last_id(request)
    await reading.begun.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
    assert site.ends == ["begun", "CancelledError"]
    assert not site.session.readers
    assert not site.session.peer.in_flight
    assert await streams(site, browser.get(seen)) == []
    again = browser.get()
    start(site, again)
    site.server.tools_changed()
    assert (await again.message())["method"] == "notifications/tools/list_changed"


async def test_a_late_hang_up_is_no_matter_of_the_next_reader(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("close"))
    answering = start(site, request)
    await becomes(lambda: site.gates)  # the handler has let go of its response, which has not yet been written
    again = browser.get("2-0")
    resumed = start(site, again)
    await again.begun.wait()
    request.hang_up()
    site.gate().set()
    await resumed
    await answering
    assert told(again.messages()) == ["after", "found again"]


async def test_the_end_of_an_old_response_is_not_that_of_the_new(start: Start) -> None:
    """The old reader's socket notices its end late, when another reader carries the stream."""
    site = Site()
    browser = await Browser(site).open()
    old = browser.get()
    start(site, old)
    await old.begun.wait()
    site.session.standalone.release()
    new = browser.get()
    start(site, new)
    await new.begun.wait()
    old.hang_up()
    site.server.tools_changed()
    assert (await new.message())["method"] == "notifications/tools/list_changed"
    assert (await responds(site, browser.get())).status == 409


async def test_a_reader_that_is_gone_before_it_begins() -> None:
    site = Site()
    request = (await Browser(site).open()).get()
    request.hung_up = True
    assert await streams(site, request) == []
    assert not site.session.readers


async def test_a_reader_that_has_ended_its_side_is_none(start: Start) -> None:
    class HalfClosed(ByHand):
        async def write(self, data: bytes) -> None:
            self.streamed.append(data)

    site = Site()
    browser = await Browser(site).open()
    request = HalfClosed(method="GET", headers={"mcp-session-id": browser.id})
    request.hung_up = True
    assert await asyncio.wait_for(site.endpoint(request), PATIENCE) is None
    assert not site.session.readers
    start(site, again := browser.get())
    await again.begun.wait()


async def test_a_request_of_the_server_is_answered_by_post(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.get()
    start(site, request)
    asking = asyncio.ensure_future(site.session.peer.request("roots/list", {}))
    question = await request.message()
    await browser.post({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})
    assert await asking == {"roots": []}


# --- cancellation --------------------------------------------------------------------------------


@pytest.mark.parametrize("tell", [False, True])
async def test_nothing_more_is_said_about_a_cancelled_request(tell: bool, start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    request = browser.request(call("wait", id="c", tell=tell))
    answering = start(site, request)
    await becomes(lambda: site.ends and (request.streamed or not tell))
    assert (await browser.say("notifications/cancelled", requestId="c")).status == 202
    async with asyncio.timeout(PATIENCE):
        response = await answering
    assert response == (None if tell else (202, {}, b""))
    assert site.ends == ["begun", "CancelledError"]
    assert told(request.messages()) == (["begun"] if tell else [])
    assert not site.session.peer.in_flight
    assert set(site.session.streams) == ({"0", "2"} if tell else {"0"})


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", spec.LEGACY)
async def test_arrays_belong_to_one_revision(version: str) -> None:
    site = Site()
    response = await (await Browser(site, version).open()).post([PING, INITIALIZED, {**PING, "id": 2}])
    if version == BATCHES:
        assert response.status == 200
        assert sorted(answer["id"] for answer in body_of(response)) == [1, 2]
    else:
        assert (response.status, body_of(response)["error"]["code"]) == (400, INVALID_REQUEST)
        assert "id" not in body_of(response)
    await becomes(lambda: set(site.session.streams) == {"0"})


# (array, status, ids of the answers)
ARRAYS: list[tuple[list[Any], int, Any]] = [
    ([], 400, None),
    ([INITIALIZED], 202, None),
    ([{"jsonrpc": "2.0", "id": 1, "result": {}}], 202, None),
    ([5], 200, [None]),
    ([5, PING], 200, [None, 1]),
    ([{**PING, "params": []}], 200, [1]),
    ([PING, PING], 200, [1, 1]),
]


@pytest.mark.parametrize(("array", "status", "ids"), ARRAYS)
async def test_arrays(array: list[Any], status: int, ids: Any) -> None:
    response = await (await Browser(Site(), BATCHES).open()).post(array)
    assert response.status == status
    if status == 200:
        assert [answer.get("id") for answer in body_of(response)] == ids
    elif status == 202:
        assert response.body == b""


async def test_an_array_whose_members_speak_is_a_stream() -> None:
    site = Site()
    browser = await Browser(site, BATCHES).open()
    *messages, answers = await streams(site, browser.request([call("tell", 1, times=2), call("echo", 2, text="x")]))
    assert told(messages) == ["0", "1"]
    assert {answer["id"] for answer in answers} == {1, 2}


@pytest.mark.parametrize("tell", [False, True])
async def test_the_end_of_a_session_is_that_of_the_response_to_an_array(tell: bool, start: Start) -> None:
    site = Site()
    browser = await Browser(site, BATCHES).open()
    request = browser.request([call("wait", 1, tell=tell), {**PING, "id": 2}])
    answering = start(site, request)
    await becomes(lambda: site.ends)
    assert await responds(site, browser.request(method="DELETE")) == (204, {}, b"")
    response = await answering  # which is not cancelled, as it would be with its connection
    assert (response and response.status) == (None if tell else 404)
    assert site.ends == ["begun", "CancelledError"]
    assert PRIMED not in b"".join(request.streamed), "nobody is to come back"


# --- limits --------------------------------------------------------------------------------------


async def test_requests_at_once(start: Start) -> None:
    site = Site(max_in_flight=3)
    browser, other = await Browser(site, BATCHES).open(), await Browser(site, BATCHES).open()
    tasks = [start(site, browser.request(call("wait", id=number))) for number in range(2)]
    await becomes(lambda: len(site.ends) == 2)
    for message in ([PING, PING],):
        response = await browser.post(message)
        assert (response.status, "max_in_flight" in body_of(response)["error"]["message"]) == (429, True)
    tasks.append(start(site, browser.request([call("wait", id=2)])))
    await becomes(lambda: len(site.ends) == 3)
    assert (await browser.post(PING)).status == 429
    assert (await browser.post(INITIALIZED)).status == 202
    assert (await other.post(PING)).status == 200
    site.gate().set()
    await asyncio.gather(*tasks)
    assert (await browser.post([PING, INITIALIZED, PING])).status == 200
    assert (await browser.post([PING] * 4)).status == 429
    await becomes(lambda: all(set(session.streams) == {"0"} for session in site.sessions.table.values()))


async def test_an_id_in_flight(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    first = start(site, browser.request(call("wait", id=7)))
    await becomes(lambda: len(site.ends) == 1)
    response = await browser.post(call("wait", id=7))
    refused = body_of(response)
    assert (response.status, refused["id"], refused["error"]["code"]) == (400, 7, INVALID_REQUEST)
    site.gate().set()
    assert (await first).status == 200
    assert (await browser.post({**PING, "id": 7})).status == 200
    assert set(site.session.streams) == {"0"}


def test_the_defaults() -> None:
    assert SessionLimits() == SessionLimits(1000, 100, 1800)


async def test_the_session_that_was_used_last_longest_ago_makes_room(start: Start) -> None:
    site = Site(max_sessions=3)
    browsers = []
    for _ in range(3):
        site.clock.time += 1
        browsers.append(await Browser(site).open())
    site.clock.time += 1
    await browsers[0].post(PING)
    reading = browsers[1].get()
    start(site, reading)
    await reading.begun.wait()
    await Browser(site).open()
    assert [browser.id in site.sessions.table for browser in browsers] == [True, True, False]
    for _ in range(4):
        site.clock.time += 1
        await Browser(site).open()
    assert [browser.id in site.sessions.table for browser in browsers] == [False, True, False]
    assert len(site.sessions.table) == 3


async def test_a_session_that_is_being_opened_makes_no_room(start: Start) -> None:
    site = Site(max_sessions=1)
    browser = await Browser(site).open()
    left = browser.request(call("wait"))
    start(site, left)
    await becomes(lambda: site.ends)
    left.hang_up()
    initialize = {**PING, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    second, third = await asyncio.gather(responds(site, ByHand(initialize)), responds(site, ByHand(initialize)))
    assert (second.status, third.status) == (200, 503)
    assert set(site.sessions.table) == {second.headers["Mcp-Session-Id"]}


async def test_sessions_in_use_make_no_room(start: Start) -> None:
    site = Site(max_sessions=2)
    browsers = [await Browser(site).open() for _ in range(2)]
    requests = [browsers[0].get(), browsers[1].request(call("wait"))]
    tasks = [start(site, request) for request in requests]
    await becomes(lambda: site.ends and requests[0].streamed)
    for request in (ByHand({**PING, "method": "initialize"}), ByHand(method="GET", path="/sse")):
        response = await responds(site, request)
        assert (response.status, "max_sessions" in body_of(response)["error"]["message"]) == (503, True)
    assert len(site.sessions.table) == 2
    site.gate().set()
    await tasks[1]
    await Browser(site).open()
    assert browsers[0].id in site.sessions.table


async def test_room_is_not_made_by_what_has_just_come(start: Start) -> None:
    site = Site(max_sessions=2)

    @site.server.tool
    async def stubborn() -> None:
        try:
            await site.gate().wait()
        except asyncio.CancelledError:
            site.ends.append("hard to end")
            await site.gate().wait()

    first = await Browser(site).open()
    request = first.request(call("stubborn"))
    start(site, request)
    await becomes(lambda: site.gates)
    request.hang_up()
    await becomes(lambda: not site.session.readers)
    site.clock.time += 1
    second = await Browser(site).open()
    site.clock.time += 1
    third, fourth = Browser(site), Browser(site)
    opening = asyncio.ensure_future(third.open())
    await becomes(lambda: site.ends)  # the first makes room, and takes its time
    await fourth.open()
    site.gate().set()
    await opening
    assert set(site.sessions.table) == {third.id, fourth.id}
    assert second.id not in site.sessions.table


# --- sessions end --------------------------------------------------------------------------------


async def test_delete(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    reading, calling, talking = browser.get(), browser.request(call("wait", 1)), browser.request(call("ask", 2))
    tasks = [start(site, request) for request in (reading, calling, talking)]
    await talking.message()
    await becomes(lambda: site.ends)
    assert await responds(site, browser.request(method="DELETE")) == (204, {}, b"")
    streamed, called, asked = await asyncio.gather(*tasks)
    assert (streamed, asked) == (None, None), "streams end"
    assert (called.status, "session ended" in str(body_of(called)["error"]["data"])) == (404, True)
    assert talking.messages() == []
    assert "CancelledError" in site.ends
    for request in (browser.request(PING), browser.get(), browser.request(method="DELETE")):
        assert (await responds(site, request)).status == 404
    assert not site.server.listeners


async def test_sessions_that_nobody_uses_end(start: Start) -> None:
    site = Site(session_idle=100)
    idle, pinging, reading, waiting = [await Browser(site).open() for _ in range(4)]
    request = reading.get()
    tasks = [start(site, request), start(site, waiting.request(call("wait")))]
    await becomes(lambda: site.ends and request.streamed)
    for passed, left in [(100, 4), (0.1, 3), (99.9, 3), (0.2, 2), (1000, 2)]:
        site.clock.time += passed
        if passed == 100:
            await pinging.post(PING)
        await site.sessions.sweep()
        assert len(site.sessions.table) == left
    request.hang_up()
    site.gate().set()
    await asyncio.gather(*tasks)
    await site.sessions.sweep()
    assert len(site.sessions.table) == 2
    site.clock.time += 101
    await site.sessions.sweep()
    assert not site.sessions.table
    assert idle.id != pinging.id


async def test_a_request_that_nobody_waits_for_keeps_no_session(start: Start) -> None:
    site = Site(session_idle=100)
    browser = await Browser(site).open()
    request = browser.request(call("ask"))
    start(site, request)
    await request.message()
    request.hang_up()
    await becomes(lambda: not site.session.readers)
    site.clock.time += 101
    await site.sessions.sweep()
    assert not site.sessions.table
    assert site.ends == ["CancelledError"]


async def test_the_sweeper_runs_by_itself_while_there_are_sessions() -> None:
    site = Site(session_idle=0)
    for _ in range(2):  # and begins anew
        await Browser(site).open()
        sweeper = site.sessions._sweeper
        await Browser(site).open()
        assert sweeper is site.sessions._sweeper is not None
        site.clock.time += 1
        async with asyncio.timeout(PATIENCE):
            await sweeper
        assert not site.sessions.table


async def test_closing_lets_work_be_done(start: Start) -> None:
    site = Site()
    browser = await Browser(site).open()
    reading = browser.get()
    tasks = [start(site, request) for request in (browser.request(call("wait")), reading)]
    await becomes(lambda: site.ends and reading.streamed)
    closing = asyncio.ensure_future(site.sessions.close())
    for _ in range(50):
        await asyncio.sleep(0)
    assert site.ends == ["begun"]
    site.gate().set()
    assert body_of(await tasks[0])["result"]["content"][0]["text"] == "waited for ''"
    await closing
    assert await tasks[1] is None
    assert not site.sessions.table
    assert site.sessions._sweeper is not None
    await asyncio.wait([site.sessions._sweeper])
    assert site.sessions._sweeper.cancelled()


async def test_closing_does_not_wait_for_ever(start: Start) -> None:
    site = Site()
    await site.sessions.close()  # before there was any
    browser = await Browser(site).open()
    answering = start(site, browser.request(call("wait")))
    await becomes(lambda: site.ends)
    await site.sessions.close(0)
    assert (await answering).status == 404
    assert not site.sessions.table


# --- nothing is left -----------------------------------------------------------------------------


async def by_delete(site: Site, browser: Browser) -> None:
    await responds(site, browser.request(method="DELETE"))


async def by_idling(site: Site, browser: Browser) -> None:
    site.clock.time += 2000
    await site.sessions.sweep()


async def by_hanging_up(site: Site, browser: Browser) -> None:
    """Only what was read of streams is lost; the session goes by its idle limit."""
    requests = [browser.get(), browser.request(call("ask", 1)), browser.request(call("wait", 2))]
    tasks = [asyncio.ensure_future(site.endpoint(request)) for request in requests]
    await requests[1].message()
    for request in requests:
        request.hang_up()
    await by_idling(site, browser)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("leave", [by_delete, by_idling, by_hanging_up])
async def test_a_thousand_sessions_leave_nothing(leave: Callable[[Site, Browser], Awaitable[None]]) -> None:
    site = Site()
    kept = weakref.WeakSet[Any]()
    for _ in range(1000):
        browser = await Browser(site).open()
        await browser.post(INITIALIZED)
        await streams(site, browser.request(call("tell")))
        kept |= {site.session, site.session.standalone, *site.session.streams.values()}
        assert len(kept) >= 3
        await leave(site, browser)
        assert not site.sessions.table
    assert not site.server.listeners
    await site.sessions.close()
    await asyncio.sleep(0)
    gc.collect()
    assert len(kept) == 0


# --- HTTP+SSE ------------------------------------------------------------------------------------


class OldBrowser:
    """A client of 2024-11-05."""

    def __init__(self, site: Site, name: str | None = None) -> None:
        self.site, self.name = site, name
        self.stream = ByHand(method="GET", path="/sse", headers={"authorization": name})
        self.ids = itertools.count()

    async def open(self, start: Start) -> OldBrowser:
        self.reading = start(self.site, self.stream)
        event = await self.stream.event()
        assert event.event == "endpoint"
        path, _, self.query = event.data.partition("?")
        assert path == "/messages"
        assert self.stream.streamed[0].startswith(b"event: endpoint\n"), "the first of all"
        answer = await self.asks("initialize", protocolVersion="2024-11-05", capabilities={"roots": {}})
        assert answer["result"]["protocolVersion"] == "2024-11-05"
        return self

    async def post(self, message: Any) -> Response:
        request = ByHand(message, {"authorization": self.name}, path="/messages", query=self.query)
        return await responds(self.site, request)

    async def asks(self, method: str, **params: Any) -> Any:
        message = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": params}
        assert await self.post(message) == (202, {}, b"")
        return await self.stream.message()


async def test_an_old_client(start: Start) -> None:
    site = Site()
    old = await OldBrowser(site).open(start)
    assert (await old.asks("ping"))["result"] == {}
    assert (await old.post(INITIALIZED)).status == 202
    first = await old.asks("tools/call", name="tell", arguments={"times": 2})
    assert told([first, await old.stream.message(), await old.stream.message()]) == ["0", "1", "told"]
    site.server.tools_changed()
    assert (await old.stream.message())["method"] == "notifications/tools/list_changed"
    question = await old.asks("tools/call", name="ask")
    assert question["method"] == "roots/list"
    await old.post({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": [{"uri": "file:///"}]}})
    assert "file:///" in told([await old.stream.message()])[0]


async def test_an_old_client_hangs_up(start: Start) -> None:
    site = Site()
    old = await OldBrowser(site).open(start)
    await old.post(call("wait"))
    await becomes(lambda: site.ends)
    old.stream.hang_up()
    assert await old.reading is None
    assert not site.sessions.table
    assert site.ends == ["begun", "CancelledError"]
    assert not site.server.listeners
    assert (await old.post(PING)).status == 404


async def test_what_an_old_client_may_not(start: Start) -> None:
    site = Site(Named(), max_in_flight=1)
    old = await OldBrowser(site, "alice").open(start)
    await becomes(lambda: not site.session.peer.in_flight)
    assert (await old.post([PING])).status == 202
    refused = await old.stream.message()
    assert (refused["error"]["code"], "id" in refused) == (INVALID_REQUEST, False)
    assert (await old.post(b"{")).status == 400
    await becomes(lambda: not site.session.peer.in_flight)
    assert (await old.post(call("wait"))).status == 202
    response = await old.post(PING)
    assert (response.status, "max_in_flight" in body_of(response)["error"]["message"]) == (429, True)
    old.name = "mallory"
    assert (await old.post(PING)).status == 404
    old.query = ""
    assert (await old.post(PING)).status == 404


async def test_an_old_client_is_in_use_as_long_as_it_listens(start: Start) -> None:
    site = Site(session_idle=100, max_sessions=1)
    old = await OldBrowser(site).open(start)
    site.clock.time += 1000
    await site.sessions.sweep()
    assert (await old.asks("ping"))["result"] == {}
    assert (await responds(site, ByHand({**PING, "method": "initialize"}))).status == 503
    await site.sessions.close()
    assert await old.reading is None


async def test_an_old_client_whose_stream_cannot_begin() -> None:
    site = Site()

    class Full(ByHand):
        def stream(self, status: int, headers: Mapping[str, str], *, keep_alive: bytes) -> ByHand:
            raise OSError("too many streams are open (streams)")

    response = await responds(site, Full(method="GET", path="/sse"))
    assert (response.status, "(streams)" in body_of(response)["error"]["message"]) == (503, True)
    assert not site.sessions.table


async def test_a_modern_request_is_answered_by_itself_wherever_it_is_posted(start: Start) -> None:
    site = Site()
    old = await OldBrowser(site).open(start)
    request = modern("tools/list", _meta=META)
    request.path, request.query = "/messages", old.query
    assert (await responds(site, request)).status == 200
