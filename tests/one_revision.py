"""Servers by hand, of one revision each and nothing but it, without a line of the package that they test.

`python one_revision.py REVISION` serves on stdio.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MODERN = "2026-07-28"
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}


class OneRevision:
    """Answers one connection's messages as a server does that has never heard of another revision."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.initialized = False

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if "id" not in message:
            self.initialized |= message["method"] == "notifications/initialized"
            return None
        found = self._modern(message) if self.version == MODERN else self._legacy(message)
        kind = "error" if "code" in found else "result"
        return {"jsonrpc": "2.0", "id": message["id"], kind: found}

    def _legacy(self, message: dict[str, Any]) -> dict[str, Any]:
        method = message["method"]
        if method == "initialize":
            # MUST respond with another version that it supports, where it does not support the one that is wanted.
            assert message["params"].keys() >= {"protocolVersion", "capabilities", "clientInfo"}
            return {"protocolVersion": self.version, "capabilities": {"tools": {}}, "serverInfo": {"name": "one"}}
        if not self.initialized:
            return {"code": -32600, "message": "initialize first"}
        return self._common(method, message)

    def _modern(self, message: dict[str, Any]) -> dict[str, Any]:
        method, meta = message["method"], message.get("params", {}).get("_meta", {})
        if meta.get("io.modelcontextprotocol/protocolVersion") != MODERN:
            return {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": [MODERN]}}
        if "io.modelcontextprotocol/clientCapabilities" not in meta:
            return {"code": -32602, "message": "no capabilities"}
        if method == "server/discover":
            return {"resultType": "complete", "supportedVersions": [MODERN], "capabilities": {"tools": {}}}
        return {"resultType": "complete"} | self._common(method, message)

    def _common(self, method: str, message: dict[str, Any]) -> dict[str, Any]:
        if method == "tools/list":
            return {"tools": [TOOL]}
        if method == "tools/call":
            return {"content": [{"type": "text", "text": message["params"]["arguments"]["text"]}]}
        return {"code": -32601, "message": f"no method {method}"}


def main() -> None:
    server = OneRevision(sys.argv[1])
    for line in sys.stdin:
        answer = server.answer(json.loads(line))
        if answer is not None:
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
