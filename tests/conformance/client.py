"""The client fixture of the official conformance suite: python client.py URL

Connects, lists what there is, and calls each tool with arguments made from its schema; the
scenarios that want more stand in SCENARIOS.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from mcp_min import Client, RpcError

SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
VERSION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION")
CONTEXT: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
SAMPLES = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}


def sample(schema: dict[str, Any]) -> Any:
    """A value that fits a simple schema."""
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: sample(schema.get("properties", {}).get(name, {})) for name in schema.get("required", [])}
    return SAMPLES.get(schema.get("type", "string"), "text")


def accept_defaults(params: dict[str, Any]) -> dict[str, Any]:
    """Answer a form with the default of every property."""
    properties = params.get("requestedSchema", {}).get("properties", {})
    return {"action": "accept", "content": {name: sample(schema) for name, schema in properties.items()}}


def answer_as_model(params: dict[str, Any]) -> dict[str, Any]:
    content = {"type": "text", "text": "an answer"}
    return {"role": "assistant", "content": content, "model": "none", "stopReason": "endTurn"}


async def everything(client: Client) -> None:
    """List and use all that the server offers."""
    for tool in await attempt(client.list_tools()) or []:
        await attempt(client.call_tool(tool["name"], sample(tool["inputSchema"])))
    for resource in await attempt(client.list_resources()) or []:
        await attempt(client.read_resource(resource["uri"]))
    for prompt in await attempt(client.list_prompts()) or []:
        names = [argument["name"] for argument in prompt.get("arguments", [])]
        await attempt(client.get_prompt(prompt["name"], dict.fromkeys(names, "text")))


async def attempt(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except (RpcError, ConnectionError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return None


async def custom_headers(client: Client) -> None:
    await client.list_tools()
    for call in CONTEXT["toolCalls"]:
        await attempt(client.call_tool(call["name"], call["arguments"]))


async def preserved_schema(client: Client) -> None:
    schemas = {tool["name"]: tool["inputSchema"] for tool in await client.list_tools()}
    await client.call_tool("json_schema_echo", {"schema": schemas["json_schema_2020_12_tool"]})


async def named_tools(client: Client) -> None:
    """Call the tools of a server that may not list them all."""
    for name in ("test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated", "test_mrtr_no_result_type"):
        await attempt(client.call_tool(name))


SCENARIOS: dict[str, Callable[[Client], Awaitable[None]]] = {
    "http-custom-headers": custom_headers,
    "json-schema-2020-12-preservation": preserved_schema,
    "sep-2322-client-request-state": named_tools,
}


async def main(url: str) -> None:
    async with Client(
        url,
        protocol_version=VERSION,
        on_elicit=accept_defaults,
        on_sample=answer_as_model,
        roots=[{"uri": "file:///tmp", "name": "tmp"}],
        client_info={"name": "conformance", "version": "1.0.0"},
        timeout=20,
    ) as client:
        await SCENARIOS.get(SCENARIO, everything)(client)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
