"""What a handler may do: tell and ask, in both eras, by the same words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcp_min import Context, RpcError, Server, ToolError, spec
from mcp_min.context import ROOTS, Caller, InputRequired, elicitation, questions_in, sampling, url_elicitation
from mcp_min.dispatcher import Call
from mcp_min.jsonrpc import Message, Params, Result

MODERN, LEGACY = "2026-07-28", "2025-11-25"
FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
EVERYTHING = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}
ANN = {"action": "accept", "content": {"name": "Ann"}}
TEXT = {"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "m"}


class Client:
    """The other end, as a transport shows it: what was sent to it, and its answers in order."""

    def __init__(self, *answers: Any) -> None:
        self.heard: list[Message] = []
        self.asked: list[tuple[str, Params]] = []
        self.answers = list(answers)

    async def send(self, message: Message) -> None:
        self.heard.append(message)

    async def request(self, method: str, params: Params) -> Result:
        self.asked.append((method, params))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def context(
    client: Client | None = None,
    version: str = LEGACY,
    capabilities: dict[str, Any] = EVERYTHING,
    meta: dict[str, Any] | None = None,
    level: str | None = "info",
    method: str = "tools/call",
) -> Context:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {"_meta": meta or {}}}
    call = Call(principal="ann", message=message)
    if client is not None:
        call.send, call.request = client.send, client.request
    call.stands_alone = version in spec.MODERN
    return Context(call, Caller(version, {"name": "c"}, capabilities, level))


async def test_what_is_known_of_a_request() -> None:
    ctx = context(meta={"a": 1})
    assert (ctx.request_id, ctx.protocol_version, ctx.principal) == (7, LEGACY, "ann")
    assert (ctx.client_info, ctx.client_capabilities, ctx.meta) == ({"name": "c"}, EVERYTHING, {"a": 1})


async def test_what_is_not_known() -> None:
    ctx = Context(Call(message={"jsonrpc": "2.0", "method": "tools/call"}), Caller(LEGACY))
    assert (ctx.request_id, ctx.principal, ctx.client_info, ctx.client_capabilities, ctx.meta) == (
        None,
        None,
        {},
        {},
        {},
    )


async def test_closing_the_stream() -> None:
    closed = []
    ctx = context()
    ctx.close_stream()  # nothing to close
    ctx.call.close_stream = lambda: closed.append(True)
    ctx.close_stream()
    assert closed == [True]


# --- waiting -------------------------------------------------------------------------------------


async def test_a_thread_can_wait() -> None:
    client = Client(ANN)
    ctx = context(client, meta={"progressToken": 1})

    def work() -> Any:
        ctx.wait(ctx.progress(1))
        return ctx.wait(ctx.elicit("Your name?", FORM))

    assert await asyncio.to_thread(work) == ANN
    assert len(client.heard) == 1


async def test_a_question_ends_a_thread_too() -> None:
    ctx = context(version=MODERN)
    with pytest.raises(InputRequired):
        await asyncio.to_thread(lambda: ctx.wait(ctx.elicit("Your name?", FORM)))


async def test_waiting_on_the_loop_is_an_error() -> None:
    ctx = context()
    with pytest.raises(RuntimeError, match="use await here"):
        ctx.wait(ctx.progress(1))


# --- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "sent"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([0, 0.5, 0.25, 0.5, 1], [0, 0.5, 1]),
        ([-1, 0], [-1, 0]),
        ([5, 5, 4], [5]),
    ],
)
@pytest.mark.parametrize("version", [MODERN, LEGACY])
async def test_progress_increases(version: str, steps: list[float], sent: list[float]) -> None:
    client = Client()
    ctx = context(client, version, meta={"progressToken": "t"})
    for step in steps:
        await ctx.progress(step)
    expected = [{"progressToken": "t", "progress": step} for step in sent]
    assert [message["params"] for message in client.heard] == expected
    assert {message["method"] for message in client.heard} == {"notifications/progress"}


@pytest.mark.parametrize(
    ("version", "arguments", "params"),
    [
        (MODERN, {"total": 10, "message": "half"}, {"total": 10, "message": "half"}),
        ("2025-03-26", {"message": "half"}, {"message": "half"}),
        ("2024-11-05", {"total": 10, "message": "half"}, {"total": 10}),
    ],
)
async def test_members_of_progress(version: str, arguments: dict[str, Any], params: Params) -> None:
    client = Client()
    await context(client, version, meta={"progressToken": 0}).progress(5, **arguments)
    assert client.heard[0]["params"] == {"progressToken": 0, "progress": 5} | params


async def test_no_progress_that_nobody_wants() -> None:
    client = Client()
    await context(client).progress(1)
    ctx = context(client, meta={"progressToken": 1})
    ctx.call.open = False
    await ctx.progress(1)
    await context(None, meta={"progressToken": 1}).progress(1)
    assert client.heard == []


# --- logs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "sent"),
    [
        (None, ()),
        ("debug", spec.LOG_LEVELS),
        ("info", spec.LOG_LEVELS[1:]),
        ("error", ("error", "critical", "alert", "emergency")),
        ("emergency", ("emergency",)),
    ],
)
async def test_logs_of_the_level_that_is_wanted(least: str | None, sent: tuple[str, ...]) -> None:
    client = Client()
    ctx = context(client, level=least)
    for level in spec.LOG_LEVELS:
        await ctx.log(level, {"at": level})
    assert [message["params"] for message in client.heard] == [
        {"level": level, "data": {"at": level}} for level in sent
    ]


async def test_a_log_may_name_its_logger() -> None:
    client = Client()
    await context(client).log("error", "broken", logger="import")
    params = {"level": "error", "data": "broken", "logger": "import"}
    assert client.heard == [{"jsonrpc": "2.0", "method": "notifications/message", "params": params}]


async def test_a_log_level_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no log level 'warn'; there are debug"):
        await context().log("warn", "")


# --- what may be asked ---------------------------------------------------------------------------

Asking = Callable[[Context], Awaitable[Any]]
ELICIT: Asking = lambda ctx: ctx.elicit("Your name?", FORM)  # noqa: E731
URL: Asking = lambda ctx: ctx.elicit_url("Please pay", "https://example.com/pay")  # noqa: E731
SAMPLE: Asking = lambda ctx: ctx.sample("Capital of France?", max_tokens=9)  # noqa: E731
TOOLS: Asking = lambda ctx: ctx.sample([], max_tokens=9, tools=[])  # noqa: E731
GET_ROOTS: Asking = lambda ctx: ctx.roots()  # noqa: E731

# (question, declared, what is missing; None: nothing)
CAPABILITIES: list[tuple[Asking, dict[str, Any], dict[str, Any] | None]] = [
    (ELICIT, {"elicitation": {}}, None),
    (ELICIT, {"elicitation": {"form": {}}}, None),
    (ELICIT, {"elicitation": {"url": {}}}, {"elicitation": {"form": {}}}),
    (ELICIT, {}, {"elicitation": {}}),
    (ELICIT, {"elicitation": True}, {"elicitation": {"form": {}}}),
    (URL, {"elicitation": {"url": {}}}, None),
    (URL, {"elicitation": {"form": {}}}, {"elicitation": {"url": {}}}),
    (URL, {"elicitation": {}}, {"elicitation": {"url": {}}}),
    (URL, {}, {"elicitation": {"url": {}}}),
    (SAMPLE, {"sampling": {}}, None),
    (SAMPLE, {"elicitation": {}, "roots": {}}, {"sampling": {}}),
    (TOOLS, {"sampling": {"tools": {}}}, None),
    (TOOLS, {"sampling": {}}, {"sampling": {"tools": {}}}),
    (lambda ctx: ctx.sample("?", max_tokens=9, toolChoice={}), {"sampling": {}}, {"sampling": {"tools": {}}}),
    (GET_ROOTS, {"roots": {}}, None),
    (GET_ROOTS, {"sampling": {}}, {"roots": {}}),
]


@pytest.mark.parametrize(("version", "code"), [(MODERN, -32021), (LEGACY, -32600)])
@pytest.mark.parametrize(("asking", "declared", "missing"), CAPABILITIES)
async def test_nothing_is_asked_that_was_not_declared(
    asking: Asking, declared: dict[str, Any], missing: dict[str, Any] | None, version: str, code: int
) -> None:
    client = Client(*[TEXT | ANN | {"roots": []}])
    try:
        await asking(context(client, version, declared))
        problem = None
    except InputRequired:
        problem = None
    except RpcError as error:
        problem = error
    if missing is None:
        assert problem is None
    else:
        assert problem is not None
        assert (problem.code, problem.data["requiredCapabilities"]) == (code, missing)
        ((name, needed),) = missing.items()
        assert ".".join([name, *needed]) in problem.data["details"]
        assert client.asked == []


# --- asking a legacy client ----------------------------------------------------------------------

USER_MESSAGE = {"role": "user", "content": {"type": "text", "text": "Capital of France?"}}

# (question, request, answer, what the handler gets)
ASKED: list[tuple[Asking, str, Params, Result, Any]] = [
    (ELICIT, "elicitation/create", {"message": "Your name?", "requestedSchema": FORM}, ANN, ANN),
    (
        URL,
        "elicitation/create",
        {
            "mode": "url",
            "message": "Please pay",
            "url": "https://example.com/pay",
            "elicitationId": "7-https://example.com/pay",
        },
        {"action": "accept"},
        {"action": "accept"},
    ),
    (SAMPLE, "sampling/createMessage", {"messages": [USER_MESSAGE], "maxTokens": 9}, TEXT, TEXT),
    (TOOLS, "sampling/createMessage", {"messages": [], "maxTokens": 9, "tools": []}, TEXT, TEXT),
    (GET_ROOTS, "roots/list", {}, {"roots": [{"uri": "file:///a"}]}, [{"uri": "file:///a"}]),
]


@pytest.mark.parametrize(("asking", "method", "params", "answer", "value"), ASKED)
async def test_a_legacy_client_gets_a_request(
    asking: Asking, method: str, params: Params, answer: Result, value: Any
) -> None:
    client = Client(answer)
    assert await asking(context(client)) == value
    assert client.asked == [(method, params)]


async def test_several_questions_to_a_legacy_client() -> None:
    client = Client(ANN, TEXT)
    answers = await context(client).ask({"a": elicitation("?", FORM), "b": sampling("?", max_tokens=1)})
    assert answers == {"a": ANN, "b": TEXT}
    assert await context(client).ask({}) == {}


async def test_when_one_question_fails_the_others_are_not_left_open() -> None:
    open_questions: list[str] = []

    class Slow(Client):
        async def request(self, method: str, params: Params) -> Result:
            if method == "roots/list":
                raise RpcError(-1, "no roots here")
            open_questions.append(method)
            try:
                return await super().request(method, await asyncio.Future())
            finally:
                open_questions.remove(method)

    with pytest.raises(RpcError, match="no roots here"):
        await context(Slow()).ask({"a": elicitation("?", FORM), "b": ROOTS})
    await asyncio.sleep(0)
    assert open_questions == []


# (question, answer, why it is none; None: it is one)
ANSWERS: list[tuple[Asking, Any, str | None]] = [
    (ELICIT, ANN, None),
    (ELICIT, {"action": "decline"}, None),
    (ELICIT, {"action": "cancel", "content": "anything"}, None),
    (ELICIT, {"action": "accept", "content": {"name": 5}}, "content.name"),
    (ELICIT, {"action": "accept", "content": {}}, "required"),
    (ELICIT, {"action": "accept"}, "content"),
    (ELICIT, {"action": "ok"}, "answer.action: 'ok' is not one of 'accept', 'decline', 'cancel'"),
    (ELICIT, {}, "'action' is required"),
    (ELICIT, "Ann", "is not an object"),
    (ELICIT, None, "is not an object"),
    (URL, {"action": "accept"}, None),
    (URL, {"action": ["accept"]}, "answer.action: an array is not one of"),
    (SAMPLE, TEXT, None),
    (SAMPLE, TEXT | {"content": [TEXT["content"]]}, None),
    (SAMPLE, {"role": "assistant", "content": "Paris"}, "answer.content: 'Paris' is not an object or an array"),
    (SAMPLE, {"content": {}}, "'role' is required"),
    (GET_ROOTS, {"roots": []}, None),
    (GET_ROOTS, {"roots": None}, "null is not an array"),
    (GET_ROOTS, {}, "'roots' is required"),
]


@pytest.mark.parametrize(("asking", "answer", "problem"), ANSWERS)
async def test_answers_of_a_legacy_client_are_checked(asking: Asking, answer: Any, problem: str | None) -> None:
    ctx = context(Client(answer))
    if problem is None:
        await asking(ctx)
    else:
        with pytest.raises(ToolError, match=f"does not fit: .*{problem}"):
            await asking(ctx)


async def test_a_legacy_client_may_refuse() -> None:
    with pytest.raises(RpcError, match="no model here"):
        await context(Client(RpcError(-1, "no model here"))).sample("?", max_tokens=1)


async def test_who_cannot_be_asked() -> None:
    with pytest.raises(RpcError, match="it is stateless"):
        await context(None).roots()
    answered = context(Client({"roots": []}))
    answered.call.open = False
    with pytest.raises(RpcError, match="has its answer already"):
        await answered.roots()


# --- asking a modern client ----------------------------------------------------------------------


@pytest.mark.parametrize(("asking", "method", "params", "answer", "value"), ASKED)
async def test_a_modern_client_finds_the_question_in_the_result(
    asking: Asking, method: str, params: Params, answer: Result, value: Any
) -> None:
    client = Client()
    with pytest.raises(InputRequired) as asked:
        await asking(context(client, MODERN))
    params = {key: param for key, param in params.items() if key != "elicitationId"}
    assert asked.value.questions == {"1": {"method": method, "params": params}}
    again = context(client, MODERN)
    again.responses = {"1": answer, "unknown": 5}
    assert await asking(again) == value
    assert again.answers == {"1": answer}
    assert client.asked == [], "servers send no requests in the modern era"


@pytest.mark.parametrize(("asking", "answer", "problem"), ANSWERS)
async def test_a_modern_answer_that_does_not_fit_is_asked_for_again(
    asking: Asking, answer: Any, problem: str | None
) -> None:
    ctx = context(None, MODERN)
    ctx.responses = {"1": answer}
    if problem is None:
        await asking(ctx)
    else:
        with pytest.raises(InputRequired):
            await asking(ctx)
        assert ctx.answers == {}


@pytest.mark.parametrize("method", ["tools/list", "completion/complete", "com.example/mine"])
async def test_other_methods_cannot_ask_in_the_modern_era(method: str) -> None:
    with pytest.raises(RpcError, match=f"{method} cannot ask for input; prompts/get, resources/read, tools/call can"):
        await context(None, MODERN, method=method).roots()
    assert await context(Client({"roots": []}), LEGACY, method=method).roots() == []


def rounds() -> tuple[Server, Callable[..., Awaitable[Any]]]:
    """A server whose one tool asks, and a way to call it: (inputResponses, requestState) -> result."""
    server = Server("s")

    async def call(responses: Any = None, state: str | None = None) -> Any:
        meta = {spec.PROTOCOL_VERSION: MODERN, spec.CLIENT_CAPABILITIES: EVERYTHING}
        params: Params = {"name": "ask", "_meta": meta}
        if responses is not None:
            params["inputResponses"] = responses
        if state is not None:
            params["requestState"] = state
        answer = await server.handle({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        assert answer is not None
        return answer["result"]

    return server, call


def named(name: str) -> Result:
    return {"action": "accept", "content": {"name": name}}


async def test_one_question_after_the_other() -> None:
    server, call = rounds()
    runs = []

    @server.tool
    async def ask(ctx: Context) -> str:
        runs.append("from the start")
        first = await ctx.elicit("First?", FORM)
        second = await ctx.elicit("Second?", FORM, key="second")
        third = await ctx.elicit("Third?", FORM)
        return " ".join(answer["content"]["name"] for answer in (first, second, third))

    one = await call()
    assert list(one["inputRequests"]) == ["1"]
    two = await call({"1": named("a")}, one["requestState"])
    assert list(two["inputRequests"]) == ["second"], "what is answered is not asked again"
    three = await call({"second": named("b"), "1": named("changed")}, two["requestState"])
    assert list(three["inputRequests"]) == ["3"]
    done = await call({"3": named("c")}, three["requestState"])
    assert done["content"] == [{"type": "text", "text": "a b c"}], "an answer once given is not taken back"
    assert len(runs) == 4


async def test_several_questions_at_once() -> None:
    server, call = rounds()

    @server.tool
    async def ask(ctx: Context) -> str:
        questions = {"name": elicitation("?", FORM), "page": url_elicitation("?", "https://a"), "roots": ROOTS}
        return ",".join(sorted(await ctx.ask(questions)))

    one = await call()
    assert list(one["inputRequests"]) == ["name", "page", "roots"]
    two = await call({"page": {"action": "decline"}, "name": 5}, one["requestState"])
    assert list(two["inputRequests"]) == ["name", "roots"], "the missing ones alone"
    done = await call({"name": named("a"), "roots": {"roots": []}}, two["requestState"])
    assert done["content"][0]["text"] == "name,page,roots"


async def test_the_tasks_of_a_group_ask_at_once() -> None:
    server, call = rounds()

    @server.tool
    async def ask(ctx: Context) -> str:
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            tasks = [group.create_task(ctx.elicit("Name?", FORM)) for group in (outer, inner)]
        return " ".join(task.result()["content"]["name"] for task in tasks)

    asked = await call()
    assert list(asked["inputRequests"]) == ["1", "2"]
    done = await call({"1": named("a"), "2": named("b")}, asked["requestState"])
    assert done["content"][0]["text"] == "a b"


def test_a_group_with_anything_but_questions_is_no_question() -> None:
    question = InputRequired({"1": ROOTS})
    with pytest.raises(KeyError, match="broken"):
        questions_in(BaseExceptionGroup("", [question, KeyError("broken")]))
    with pytest.raises(asyncio.CancelledError):
        questions_in(asyncio.CancelledError())


async def test_a_handler_cannot_swallow_the_question() -> None:
    server, call = rounds()

    @server.tool
    async def ask(ctx: Context) -> str:
        try:
            await ctx.roots()
        except Exception:
            return "swallowed"
        return "answered"

    assert (await call())["resultType"] == "input_required"
    assert (await call({"1": {"roots": []}}))["content"][0]["text"] == "answered"


async def test_a_def_handler_asks_from_its_thread() -> None:
    server, call = rounds()

    @server.tool
    def ask(ctx: Context) -> str:
        return str(ctx.wait(ctx.elicit("?", FORM))["content"]["name"])

    one = await call()
    assert one["resultType"] == "input_required"
    assert (await call({"1": named("a")}, one["requestState"]))["content"][0]["text"] == "a"
