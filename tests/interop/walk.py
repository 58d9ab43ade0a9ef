"""The walk: everything one client does with one server, written once for every client.

A driver (`our_client.py`, `official_client_v2.py`, ...) wraps its library in a `Subject`, whose methods take and
return the plain JSON of the wire. `walk` then runs the same cells with each of them and says of every cell whether it
passed, failed, or was not applicable and why. The servers (`our_server.py`, ...) all offer what the cells ask for:

    tools      add(a, b), weather(city), fail(), count(n) with progress, chatty() which logs, touch() which updates a
               resource, hang() until cancelled, was_cancelled() which waits until it was, ask_name() by elicitation,
               ask_model() by sampling, ask_roots()
    resources  note://fixed, and the template note://about/{topic}
    prompts    greet(who), whose argument can be completed

Only the standard library is used here, since this file runs in the environment of each driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

Json = dict[str, Any]
OnProgress = Callable[[float, float | None, str | None], None]

MODERN = "2026-07-28"
CELL_TIMEOUT = 15.0  # seconds for one cell
TOOLS = "add ask_model ask_name ask_roots chatty count fail hang touch was_cancelled weather"
FIXED, TOPIC, MISSING = "note://fixed", "note://about/asyncio", "note:missing"
ROOTS = [{"uri": "file:///tmp/project", "name": "project"}]
ACCEPT: Json = {"action": "accept", "content": {"name": "Ada"}}
DECLINE: Json = {"action": "decline"}
SAMPLE: Json = {"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "walk"}


class Failed(Exception):
    """The peer answered, but not as it should."""


class Callbacks:
    """What the server may ask of the client, and what it told it: drivers pass these on to their library."""

    def __init__(self) -> None:
        self.elicit_answer = ACCEPT
        self.asked: list[Json] = []  # the params of each elicitation and sampling request
        self.logs: list[Json] = []  # the params of each notifications/message
        self.heard = asyncio.Event()  # set by each of these
        self.updated: asyncio.Queue[str] = asyncio.Queue()  # the uri of each resource that changed

    def elicit(self, params: Json) -> Json:
        """Answer `elicitation/create`."""
        self.asked.append(params)
        return self.elicit_answer

    def log(self, params: Json) -> None:
        """Take a notifications/message."""
        self.logs.append(params)
        self.heard.set()

    def sample(self, params: Json) -> Json:
        """Answer `sampling/createMessage`."""
        self.asked.append(params)
        return SAMPLE


class Subject(Protocol):
    """One connected client; results are dicts of the specification, failures any exception."""

    callbacks: Callbacks
    skips: dict[str, str]  # cell -> why it does not apply to this client
    revision: str

    async def call(self, name: str, arguments: Json, on_progress: OnProgress | None = None) -> Json: ...
    async def tools(self) -> list[Json]: ...
    async def resources(self) -> list[Json]: ...
    async def templates(self) -> list[Json]: ...
    async def read(self, uri: str) -> Json: ...
    async def prompts(self) -> list[Json]: ...
    async def prompt(self, name: str, arguments: dict[str, str]) -> Json: ...
    async def complete(self, ref: Json, argument: dict[str, str]) -> Json: ...
    async def set_level(self, level: str) -> None: ...
    async def ping(self) -> None: ...
    async def watch(self, uri: str, then: Callable[[], Awaitable[Any]]) -> str:
        """Subscribe to `uri`, do `then`, and return the uri of the first update."""
        ...

    def code(self, error: Exception) -> int | None:
        """Return the JSON-RPC code of the peer's error, None for any other exception."""
        ...


Cell = Callable[[Subject], Awaitable[None]]


async def walk(subject: Subject, cells: dict[str, Cell]) -> Json:
    """Run each cell in order and return {"revision": …, "cells": {cell: [outcome, why]}}."""
    outcomes: dict[str, list[str]] = {}
    for name, cell in cells.items():
        if name in subject.skips:
            outcomes[name] = ["n.a.", subject.skips[name]]
            continue
        try:
            async with asyncio.timeout(CELL_TIMEOUT):
                await cell(subject)
        except Exception as error:  # whatever a library raises is a cell that failed, and the next one is still run
            outcomes[name] = ["fail", _explain(error)]
        else:
            outcomes[name] = ["pass", ""]
    return {"revision": subject.revision, "cells": outcomes}


def _explain(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_explain, error.exceptions))
    return str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"


def expect(what: str, found: Any, wanted: Any) -> None:
    """Raise Failed unless two values are equal."""
    if found != wanted:
        raise Failed(f"{what}: expected {wanted!r}, got {found!r}")


def text(result: Json) -> str:
    """Return the first text of a tool's result, which must not be an error."""
    if result.get("isError"):
        raise Failed(f"the tool failed: {result.get('content')}")
    return str(result["content"][0]["text"])


async def _tools(subject: Subject) -> None:
    tools = {tool["name"]: tool for tool in await subject.tools()}
    expect("tools", " ".join(sorted(tools)), TOOLS)
    expect("type of a", tools["add"]["inputSchema"]["properties"]["a"]["type"], "integer")


async def _call(subject: Subject) -> None:
    expect("add", text(await subject.call("add", {"a": 40, "b": 2})), "42")
    together = await asyncio.gather(*(subject.call("add", {"a": n, "b": 1}) for n in range(20)))
    expect("twenty at once", [text(result) for result in together], [str(n + 1) for n in range(20)])


async def _structured(subject: Subject) -> None:
    weather = next(tool for tool in await subject.tools() if tool["name"] == "weather")
    expect("outputSchema", sorted(weather["outputSchema"]["properties"]), ["celsius", "city"])
    result = await subject.call("weather", {"city": "Oslo"})
    expect("structuredContent", result.get("structuredContent"), {"city": "Oslo", "celsius": 21})


async def _tool_error(subject: Subject) -> None:
    result = await subject.call("fail", {})
    expect("isError", result.get("isError"), True)
    if "it broke" not in result["content"][0]["text"]:
        raise Failed(f"the reason is missing: {result['content']}")


async def _progress(subject: Subject) -> None:
    seen: list[tuple[float, float | None, str | None]] = []
    result = await subject.call("count", {"n": 3}, lambda *progress: seen.append(progress))
    expect("count", text(result), "counted to 3")
    expect("progress", seen, [(n, 3, f"step {n}") for n in (1, 2, 3)])


async def _logging(subject: Subject) -> None:
    await subject.set_level("info")
    subject.callbacks.logs.clear()
    await subject.call("chatty", {})
    seen = [(log["level"], log["data"]) for log in subject.callbacks.logs]
    expect("logs from info on", seen, [("info", "heard")])


async def _cancel(subject: Subject) -> None:
    started = asyncio.Event()
    call = asyncio.create_task(subject.call("hang", {}, lambda *progress: started.set()))
    await started.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    expect("was_cancelled", text(await subject.call("was_cancelled", {})), "yes")


async def _elicitation(subject: Subject) -> None:
    subject.callbacks.asked.clear()
    subject.callbacks.elicit_answer = ACCEPT
    expect("accepted", text(await subject.call("ask_name", {})), "Hello, Ada")
    expect("message", subject.callbacks.asked[0]["message"], "Your name?")
    expect("schema", list(subject.callbacks.asked[0]["requestedSchema"]["properties"]), ["name"])
    subject.callbacks.elicit_answer = DECLINE
    expect("declined", text(await subject.call("ask_name", {})), "no name: decline")


async def _sampling(subject: Subject) -> None:
    subject.callbacks.asked.clear()
    expect("sample", text(await subject.call("ask_model", {})), "the model says Paris")
    expect("maxTokens", subject.callbacks.asked[0]["maxTokens"], 100)


async def _roots(subject: Subject) -> None:
    expect("roots", text(await subject.call("ask_roots", {})), ROOTS[0]["uri"])


async def _resources(subject: Subject) -> None:
    expect("resources", [resource["uri"] for resource in await subject.resources()], [FIXED])
    content = (await subject.read(FIXED))["contents"][0]
    expect("text", (content["text"], content["mimeType"]), ("fixed text", "text/plain"))


async def _templates(subject: Subject) -> None:
    templates = [template["uriTemplate"] for template in await subject.templates()]
    expect("templates", templates, ["note://about/{topic}"])
    expect("text", (await subject.read(TOPIC))["contents"][0]["text"], "a note about asyncio")


async def _missing_resource(subject: Subject) -> None:
    try:
        result = await subject.read(MISSING)
    except Exception as error:
        # 2026-07-28 server/resources#error-handling: -32602, where it was -32002 before.
        expect("code", subject.code(error), -32602 if subject.revision == MODERN else -32002)
    else:
        raise Failed(f"a missing resource was read: {result}")


async def _updates(subject: Subject) -> None:
    expect("updated", await subject.watch(FIXED, lambda: subject.call("touch", {})), FIXED)


async def _prompts(subject: Subject) -> None:
    (prompt,) = await subject.prompts()
    expect("prompt", (prompt["name"], [argument["name"] for argument in prompt["arguments"]]), ("greet", ["who"]))
    message = (await subject.prompt("greet", {"who": "Ada"}))["messages"][0]
    expect("message", (message["role"], message["content"]["text"]), ("user", "Greet Ada"))


async def _completion(subject: Subject) -> None:
    ref = {"type": "ref/prompt", "name": "greet"}
    result = await subject.complete(ref, {"name": "who", "value": "A"})
    expect("values", result["completion"]["values"], ["Ada", "Alan"])


async def _ping(subject: Subject) -> None:
    await subject.ping()


CELLS: dict[str, Cell] = {
    "list tools": _tools,
    "call": _call,
    "structured": _structured,
    "tool error": _tool_error,
    "progress": _progress,
    "logging": _logging,
    "cancel": _cancel,
    "elicitation": _elicitation,
    "sampling": _sampling,
    "roots": _roots,
    "resources": _resources,
    "templates": _templates,
    "missing": _missing_resource,
    "updates": _updates,
    "prompts": _prompts,
    "completion": _completion,
    "ping": _ping,
}
