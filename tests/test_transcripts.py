"""Recorded conversations, replayed against both roles: a tutorial of the protocol that cannot be wrong.

Each file in `transcripts/` is one conversation. Its first line says which server of this file speaks,
in which revision, what the client declares, and what is to be learned; then come the messages, in the
order of one connection. What is the same everywhere is left out of all files but `initialize` and
`discover`: the handshake of the legacy revisions, and the `_meta` that every modern request carries.
A text in angle brackets, such as "<state>", stands for whatever the server made there.

Replayed as a client, a transcript tests our server; replayed as a server, our client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mcp_min import Client, Context, RpcError, Server, ToolError, resource_link, spec, text
from mcp_min.jsonrpc import Message
from mcp_min.stream import LineTransport, answer, memory_pair

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.jsonl"))
CLIENT_INFO = {"name": "example", "version": "1"}


@dataclass
class Script:
    """One transcript, with what its file leaves out."""

    fixture: str
    era: str
    teaches: str
    client: dict[str, Any] = field(default_factory=dict)  # the capabilities that it declares
    only: str | None = None  # "server", where our client would never say such things
    lines: list[tuple[str, Any]] = field(default_factory=list)  # (from, message or batch)

    @classmethod
    def read(cls, path: Path) -> Script:
        header, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        script = cls(**header)
        said = [(line["from"], line["message"]) for line in lines]
        script.lines = [*script._handshake(said[0][1]), *((who, script._whole(who, message)) for who, message in said)]
        return script

    def _handshake(self, first: Message) -> Iterator[tuple[str, Message]]:
        if self.era in spec.LEGACY and (isinstance(first, list) or first.get("method") != "initialize"):
            params = {"protocolVersion": self.era, "capabilities": self.client, "clientInfo": CLIENT_INFO}
            yield "client", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
            offered = FIXTURES[self.fixture]().capabilities(self.era)
            info = {"name": self.fixture, "version": "1.0.0"}
            result = {"protocolVersion": self.era, "serverInfo": info, "capabilities": offered}
            yield "server", {"jsonrpc": "2.0", "id": 1, "result": result}
            yield "client", {"jsonrpc": "2.0", "method": "notifications/initialized"}

    def _whole(self, who: str, message: Any) -> Any:
        if who == "server" or isinstance(message, list) or not message.keys() >= {"id", "method"}:
            return message
        params = message.get("params", {})
        if self.era in spec.MODERN:
            meta = {spec.PROTOCOL_VERSION: self.era, spec.CLIENT_CAPABILITIES: self.client}
            params = params | {"_meta": meta | {spec.CLIENT_INFO: CLIENT_INFO} | params.get("_meta", {})}
        return message | {"params": params}


def compare(expected: Any, actual: Any, seen: dict[str, Any], at: str = "") -> None:
    """Fail unless the two are alike, but for more members in `_meta`; `seen` learns what <names> stand for."""
    if isinstance(expected, str) and expected.startswith("<") and expected.endswith(">"):
        assert seen.setdefault(expected, actual) == actual, at
    elif isinstance(expected, dict) and isinstance(actual, dict):
        missing, more = expected.keys() - actual.keys(), actual.keys() - expected.keys() - {"_meta"}
        assert not missing, f"{at}: {sorted(missing)} missing in {actual}"
        assert at.endswith("/_meta") or not more, f"{at}: {sorted(more)} not expected in {actual}"
        for key, value in expected.items():
            compare(value, actual[key], seen, f"{at}/{key}")
    elif isinstance(expected, list) and isinstance(actual, list):
        assert len(expected) == len(actual), f"{at}: {actual}"
        for index, value in enumerate(expected):
            compare(value, actual[index], seen, f"{at}/{index}")
    else:
        assert expected == actual, at


def fill_in(message: Any, seen: dict[str, Any]) -> Any:
    """The message with what the <names> in it stand for."""
    if isinstance(message, dict):
        return {key: fill_in(value, seen) for key, value in message.items()}
    if isinstance(message, list):
        return [fill_in(value, seen) for value in message]
    return seen.get(message, message) if isinstance(message, str) else message


async def hear(messages: AsyncIterator[Any]) -> Any:
    return await asyncio.wait_for(anext(messages), 5)


async def play_client(script: Script) -> None:
    """Say the client's lines to our server."""
    ours, theirs = memory_pair()
    serving = asyncio.create_task(answer(theirs, FIXTURES[script.fixture]().dispatch))
    messages, seen = ours.read(), dict[str, Any]()
    for number, (who, message) in enumerate(script.lines):
        if who == "client":
            await ours.write(fill_in(message, seen))
        else:
            compare(message, await hear(messages), seen, f"message {number}")
    await ours.write({"jsonrpc": "2.0", "id": "the end", "method": "ping"})
    compare({"jsonrpc": "2.0", "id": "the end", "result": {}}, await hear(messages), {}, "and nothing more")
    await ours.close()
    await serving


async def play_server(script: Script) -> None:
    """Say the server's lines to our client, which is made to do what the script's client does."""
    ours, theirs = memory_pair()
    messages, tasks = theirs.read(), dict[Any, asyncio.Task[Any]]()
    client = open_client(script, ours)
    opening = asyncio.create_task(client.__aenter__())
    for number, (who, message) in enumerate(script.lines):
        id, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if who == "server":
            await theirs.write(message)
            if id in tasks and method is None and "inputRequests" not in message.get("result", {}):
                answered = {key: message[key] for key in ("result", "error") if key in message}
                compare(answered, await asyncio.wait_for(tasks.pop(id), 5), {}, f"the outcome of message {number}")
            continue
        if params.keys() & {"inputResponses", "requestState"}:  # which the client says on its own
            tasks[id] = tasks.pop(max(tasks))
        elif method == "notifications/cancelled":
            tasks.pop(params["requestId"]).cancel()
        elif id is not None and method not in ("initialize", None):
            tasks[id] = asyncio.create_task(outcome(client, message))
        compare(message, await hear(messages), {}, f"message {number}")
    await opening
    assert not tasks, "the script ends before its requests do"
    await client.close()


def open_client(script: Script, transport: LineTransport) -> Client:
    said = [message for who, message in script.lines if who == "client"]
    answers = [message["result"] for message in said if "result" in message]
    answers += [reply for message in said for reply in message.get("params", {}).get("inputResponses", {}).values()]
    options: dict[str, Any] = {"client_info": CLIENT_INFO, "protocol_version": script.era}
    if "elicitation" in script.client:
        options["on_elicit"] = lambda params: answers.pop(0)
    if "sampling" in script.client:
        options["on_sample"] = lambda params: answers.pop(0)
    if "roots" in script.client:
        options["roots"] = lambda: answers.pop(0)["roots"]
    return Client(transport, timeout=None, max_timeout=None, capabilities=script.client, **options)


async def outcome(client: Client, message: Message) -> Message:
    """What our client makes of the answer to a request of the script."""
    progress = (lambda *step: None) if "progressToken" in message["params"].get("_meta", {}) else None
    try:
        return {"result": await client.request(message["method"], message["params"], on_progress=progress)}
    except RpcError as problem:
        return {"error": {"code": problem.code, "message": problem.message, "data": problem.data}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_our_server_plays_its_part(path: Path) -> None:
    await play_client(Script.read(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_our_client_plays_its_part(path: Path) -> None:
    script = Script.read(path)
    if script.only is None:
        await play_server(script)


def test_files_say_what_they_teach() -> None:
    for path in FILES:
        script = Script.read(path)
        assert path.stem.endswith(script.era), path.name
        assert script.fixture in FIXTURES
        assert script.teaches.endswith("."), path.name


# --- the servers that were recorded --------------------------------------------------------------


def calculator() -> Server:
    server = Server("calculator", "1.0.0")

    @server.tool
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool
    async def divide(a: int, b: int) -> dict[str, int]:
        """Divide, with the remainder."""
        if b == 0:
            raise ToolError("cannot divide by zero")
        return {"quotient": a // b, "remainder": a % b}

    return server


def notes() -> Server:
    server, texts = Server("notes", "1.0.0"), {"1": "buy milk"}

    @server.resource("notes://all", mime_type="application/json")
    async def index() -> list[str]:
        """The numbers of all notes."""
        return sorted(texts)

    @server.resource("note://{id}", mime_type="text/plain")
    async def note(id: str) -> str:
        """One note."""
        if id not in texts:
            raise FileNotFoundError(id)
        return texts[id]

    @server.tool
    async def write(id: str, text: str) -> list[Any]:
        """Write a note."""
        texts[id] = text
        server.resource_updated(f"note://{id}")
        server.resource_updated(f"note://{id}")  # told once, whoever listens
        return [resource_link(f"note://{id}", id)]

    @server.tool
    async def learn(name: str) -> str:
        """Become a server with one more tool."""
        server.tool(name=name)(lambda: name)
        return f"I know {name}"

    @server.tool
    async def leave() -> str:
        """End all subscriptions, as at shutdown."""
        server.end_listeners()
        return "good bye"

    return server


def reviewer() -> Server:
    server = Server("reviewer", "1.0.0")

    @server.prompt(title="Review code")
    async def review(code: str, language: str = "python") -> list[Any]:
        """Ask for a review."""
        return [f"Review this {language} code.", text(code), {"role": "assistant", "content": text("I see a flaw:")}]

    @server.completion
    async def complete(ref: dict[str, Any], argument: dict[str, str], context: dict[str, Any]) -> list[str]:
        return [name for name in ("perl", "php", "python") if name.startswith(argument["value"])]

    return server


def worker() -> Server:
    server = Server("worker", "1.0.0")

    @server.tool
    async def work(steps: int, ctx: Context) -> str:
        """Do something that takes several steps."""
        for step in range(1, steps + 1):
            await ctx.progress(step, total=steps, message=f"step {step}")
        return "done"

    @server.tool
    async def report(ctx: Context) -> str:
        """Say what goes on."""
        await ctx.log("debug", {"tea": "ready"})
        await ctx.log("info", "I begin", logger="report")
        return "reported"

    @server.tool
    async def sleep() -> None:
        """Sleep until somebody cancels the call."""
        await asyncio.Event().wait()

    return server


def concierge() -> Server:
    server = Server("concierge", "1.0.0")
    form = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

    @server.tool
    async def greet(ctx: Context) -> str:
        """Ask for a name and greet it."""
        reply = await ctx.elicit("What is your name?", form, key="name")
        return f"Hello, {reply['content']['name']}!" if reply["action"] == "accept" else "Hello, stranger!"

    @server.tool
    async def pay(ctx: Context) -> str:
        """Have the user pay on a page of their own."""
        return str((await ctx.elicit_url("Please pay", "https://example.com/pay", key="payment"))["action"])

    @server.tool
    async def poem(about: str, ctx: Context) -> str:
        """Have the client's model write."""
        return str((await ctx.sample(f"A poem about {about}", max_tokens=100, key="poem"))["content"]["text"])

    @server.tool
    async def look_around(ctx: Context) -> str:
        """See which folders the client works in."""
        return ", ".join(root["uri"] for root in await ctx.roots(key="roots"))

    @server.tool
    async def dinner(ctx: Context) -> str:
        """Ask twice: the second question depends on the first answer."""
        name = (await ctx.elicit("What is your name?", form))["content"]["name"]
        dish = (await ctx.elicit(f"What would you like, {name}?", form))["content"]["name"]
        return f"{dish} for {name}"

    return server


def shelf() -> Server:
    server = Server("shelf", "1.0.0", page_size=2)
    for title in ("emma", "ivanhoe", "walden"):
        server.prompt(name=title)(lambda: "")
    return server


FIXTURES = {fixture.__name__: fixture for fixture in (calculator, notes, reviewer, worker, concierge, shelf)}
