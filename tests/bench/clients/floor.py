"""The floor of a client: asyncio pipes or streams by hand, a dict of futures, and nothing else.

Over HTTP, one call takes one connection at a time, as a client's pool does, and the answer is read by its length.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator

import driving

MODERN = driving.ERA == driving.MODERN
META = {
    "io.modelcontextprotocol/protocolVersion": driving.MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "floor", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HEAD = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
if MODERN:
    HEAD += b"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: add\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def encode(number: int, a: int, b: int) -> bytes:
    """Return one call."""
    params = {"name": "add", "arguments": {"a": a, "b": b}} | ({"_meta": META} if MODERN else {})
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


@contextlib.asynccontextmanager
async def over_pipes(command: list[str]) -> AsyncIterator[driving.Add]:
    """Start a server and match its answers to the calls."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    reader, writer = process.stdout, process.stdin
    assert reader is not None
    assert writer is not None
    ids = itertools.count()
    waiting: dict[int, asyncio.Future[str]] = {}

    async def read() -> None:
        while line := await reader.readline():
            message = json.loads(line)
            waiting.pop(message["id"]).set_result(message["result"]["content"][0]["text"])

    async def add(a: int, b: int) -> str:
        number = next(ids)
        future = waiting[number] = asyncio.get_running_loop().create_future()
        writer.write(encode(number, a, b) + b"\n")
        return await future

    reading = asyncio.create_task(read())
    yield add
    writer.close()
    await reading
    await process.wait()


@contextlib.asynccontextmanager
async def over_http(target: list[str]) -> AsyncIterator[driving.Add]:
    """Keep connections that are not in use, and open one where there is none."""
    port = int(target[0].rpartition(":")[2].split("/")[0])
    ids = itertools.count()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def add(a: int, b: int) -> str:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        body = encode(next(ids), a, b)
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        assert length is not None
        answer = json.loads(await reader.readexactly(int(length[1])))
        idle.append((reader, writer))
        text: str = answer["result"]["content"][0]["text"]
        return text

    yield add
    for _, writer in idle:
        writer.close()


def connect(target: list[str]) -> contextlib.AbstractAsyncContextManager[driving.Add]:
    """Choose by what the target looks like."""
    return over_http(target) if target[0].startswith("http") else over_pipes(target)


if __name__ == "__main__":
    driving.main(connect)
