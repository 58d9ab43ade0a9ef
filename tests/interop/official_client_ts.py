"""The official TypeScript client, SDK 1.32.2, walking a server; it speaks nothing newer than 2025-11-25.

The client itself is official_client_ts.mjs, a child process; here it is a `Subject` like the others, each method a
line to the child and a line back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from arguments import Target
from driving import main
from walk import ROOTS, Callbacks, Json, OnProgress

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

import environments  # noqa: E402

LINE = 2**24  # bytes of one line at most
GRACE = 10.0  # seconds for the child to start, and to end


class Refused(Exception):
    """The error with which the server answered, as the client reported it."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message)
        self.code = code


class Subject:
    """The child process as the walk wants it."""

    def __init__(self, process: asyncio.subprocess.Process, callbacks: Callbacks, revision: str) -> None:
        self.process = process
        self.callbacks = callbacks
        self.revision = revision
        self.skips: dict[str, str] = {}
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._on_progress: dict[int, OnProgress] = {}

    async def call(self, name: str, arguments: Json, on_progress: OnProgress | None = None) -> Json:
        request_id = next(self._ids)
        if on_progress is not None:
            self._on_progress[request_id] = on_progress
        try:
            result: Json = await self._do("call", name, arguments, request_id=request_id)
        except asyncio.CancelledError:
            self._say({"cancel": request_id})
            raise
        return result

    async def tools(self) -> list[Json]:
        return list((await self._do("tools"))["tools"])

    async def resources(self) -> list[Json]:
        return list((await self._do("resources"))["resources"])

    async def templates(self) -> list[Json]:
        return list((await self._do("templates"))["resourceTemplates"])

    async def read(self, uri: str) -> Json:
        return dict(await self._do("read", uri))

    async def prompts(self) -> list[Json]:
        return list((await self._do("prompts"))["prompts"])

    async def prompt(self, name: str, arguments: dict[str, str]) -> Json:
        return dict(await self._do("prompt", name, arguments))

    async def complete(self, ref: Json, argument: dict[str, str]) -> Json:
        return dict(await self._do("complete", ref, argument))

    async def set_level(self, level: str) -> None:
        await self._do("set_level", level)

    async def ping(self) -> None:
        await self._do("ping")

    async def watch(self, uri: str, then: Callable[[], Awaitable[Any]]) -> str:
        await self._do("subscribe", uri)
        await then()
        return await self.callbacks.updated.get()

    def code(self, error: Exception) -> int | None:
        return error.code if isinstance(error, Refused) else None

    async def listen(self) -> None:
        """Take what the child says until it ends."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self._hear(json.loads(line))

    def _hear(self, message: Json) -> None:
        told: str | None = message.get("tell")
        params: Json = message.get("params", {})
        if told == "progress" and message["id"] in self._on_progress:
            self._on_progress[message["id"]](params["progress"], params.get("total"), params.get("message"))
        elif told == "log":
            self.callbacks.log(params)
        elif told == "updated":
            self.callbacks.updated.put_nowait(params["uri"])
        elif "ask" in message:
            answers: dict[str, Callable[[Json], Json]] = {
                "elicit": self.callbacks.elicit,
                "sample": self.callbacks.sample,
                "roots": lambda _: {"roots": ROOTS},
            }
            self._say({"answer": message["ask"], "result": answers[message["method"]](params)})
        elif "id" in message and not told:
            self._settle(self._pending.pop(message["id"]), message)

    def _settle(self, future: asyncio.Future[Any], message: Json) -> None:
        if future.done():
            return  # the walk cancelled it
        if "error" in message:
            future.set_exception(Refused(message["error"]["code"], message["error"]["message"]))
        else:
            future.set_result(message["result"])

    async def _do(self, action: str, *arguments: Any, request_id: int | None = None) -> Any:
        request_id = request_id or next(self._ids)
        future = self._pending[request_id] = asyncio.get_running_loop().create_future()
        self._say({"id": request_id, "do": action, "with": arguments})
        return await future

    def _say(self, message: Json) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")


@asynccontextmanager
async def connect(target: Target, callbacks: Callbacks) -> AsyncIterator[Subject]:
    """Start the child, which connects before its first line."""
    home = environments.node_modules_for("sdk-1.32.2", ["@modelcontextprotocol/sdk@1.32.2"])
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "official_client_ts.mjs"),
        str(home),
        target.transport,
        *target.words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(GRACE):
            opened = json.loads(await process.stdout.readline())
        subject = Subject(process, callbacks, opened["revision"])
        listening = asyncio.create_task(subject.listen())
        yield subject
        process.stdin.close()
        async with asyncio.timeout(GRACE):
            await listening
            await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main(connect))
