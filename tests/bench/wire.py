"""The messages of the benchmark, as bytes, and the check that every answer is right.

    -> {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"a":7,"b":1}}}
    <- {"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"8"}],"structuredContent":{"result":8}}}

Written by hand, so that no implementation's client measures its own server. The first argument is the id, hence
each answer differs and an answer that was swapped, lost or repeated is noticed.
"""

from __future__ import annotations

import json
from typing import Any

OLDEST = "2024-11-05"
LEGACY = "2025-11-25"
MODERN = "2026-07-28"
CLIENT = {"name": "bench", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def encode(message: dict[str, Any]) -> bytes:
    """Return one message without a newline."""
    return json.dumps(message, separators=(",", ":")).encode()


def initialize(era: str = LEGACY) -> bytes:
    """Return the request that opens a connection before 2026-07-28."""
    params = {"protocolVersion": era, "capabilities": {}, "clientInfo": CLIENT}
    return encode({"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": params})


def initialized() -> bytes:
    """Return the notification that follows the answer to `initialize`."""
    return encode({"jsonrpc": "2.0", "method": "notifications/initialized"})


def call(request_id: int, era: str) -> bytes:
    """Return a request to add 1 to `request_id`."""
    return _request(request_id, "tools/call", {"name": "add", "arguments": {"a": request_id, "b": 1}}, era)


def length(request_id: int, size: int, era: str) -> bytes:
    """Return a request whose only argument is `size` characters of text; the tool answers their number."""
    return _request(request_id, "tools/call", {"name": "length", "arguments": {"text": "x" * size}}, era)


def listen(request_id: int) -> bytes:
    """Return the request that opens an event stream in 2026-07-28."""
    return _request(request_id, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, MODERN)


def _request(request_id: int, method: str, params: dict[str, Any], era: str) -> bytes:
    if era == MODERN:
        params["_meta"] = META
    return encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def check_call(answer: bytes, era: str) -> int:
    """Return the id of the answer to `call`, or raise ValueError when the answer is wrong."""
    request_id = json.loads(answer).get("id")
    if not isinstance(request_id, int):
        raise ValueError(f"not an answer to a call: {answer[:300]!r}")
    check_number(answer, request_id, request_id + 1, era)
    return request_id


def check_number(answer: bytes, request_id: int, expected: int, era: str) -> None:
    """Raise ValueError unless the answer to `request_id` is the number `expected`, as text and as structure."""
    message = json.loads(answer)
    result = message.get("result", {})
    content = result.get("content", [{}])
    right = (
        message.get("id") == request_id
        and not result.get("isError")
        and content[0].get("text") == str(expected)
        and (era == OLDEST or result.get("structuredContent") in ({"result": expected}, _bare(expected, era)))
        and (era != MODERN or result.get("resultType") == "complete")
    )
    if not right:
        raise ValueError(f"expected {expected} in the answer to {request_id}, got {answer[:300]!r}")


def _bare(expected: int, era: str) -> int | None:
    # From 2026-07-28 on structured content may be any JSON value (server/tools#structured-content).
    return expected if era == MODERN else None


def check_opened(answer: bytes, era: str = LEGACY) -> None:
    """Raise ValueError unless this is the answer to `initialize`, at the revision that was asked for."""
    message = json.loads(answer)
    if message.get("id") != "open" or message.get("result", {}).get("protocolVersion") != era:
        raise ValueError(f"expected an answer to initialize at {era}, got {answer[:300]!r}")
