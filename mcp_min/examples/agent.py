"""A client of two servers at once: it reads a folder through one and keeps notes through the other.

    python -m mcp_min.examples.agent FOLDER [--yes]

It does by rote what a model might decide to do, and shows each step: find the texts of the folder,
read them, note the first line of each, look through the notes, and throw one away. The server of
the notes asks before that; the question is put to you, or answered with yes.

Spec: 2026-07-28 server/tools, server/resources, client/elicitation, basic/patterns/subscriptions.

Both servers are children of this process and end with it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any
from urllib.parse import quote

from .. import Client, RpcError, terminal


def agree(params: dict[str, Any]) -> dict[str, Any]:
    """Answer a server's question with yes."""
    print(f"? {params['message']} yes")
    return {"action": "accept", "content": dict.fromkeys(params["requestedSchema"]["properties"], True)}


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """Call a tool, show that, and return the data of its answer."""
    shown = ", ".join(f"{name}={value!r:.40}" for name, value in arguments.items())
    print(f"→ {client.server_info['name']}: {tool}({shown})")
    result = await client.call_tool(tool, arguments, on_progress=show_progress)
    print(f"← {terminal.one_line(terminal.answer(result)):.100}")
    if result.get("isError"):
        raise SystemExit(1)
    return result.get("structuredContent")


def show_progress(progress: float, total: float | None, message: str | None) -> None:
    """Show how far a call is."""
    print(f"  {progress:g} of {total or 0:g}: {message}")


async def show_changes(client: Client) -> None:
    """Show whenever the list of resources has changed."""
    async for change in client.listen(resource_list=True):
        print(f"  {client.server_info['name']}: {change['method']}")


async def work(files: Client, notes: Client) -> None:
    """Note the first line of each text in the folder, then throw the first note away."""
    for path in await call(files, "search_files", pattern="*.md", limit=5):
        contents = (await files.read_resource(f"file:///{quote(path)}"))["contents"]
        lines = contents[0].get("text", "").split("\n")
        await call(notes, "add_note", title=path, text=lines[0])
    kept = await call(notes, "search_notes")
    if kept:
        await call(notes, "delete_note", id=kept[0]["id"])
    for resource in await notes.list_resources():
        print(f"{resource['uri']}  {resource['name']}")


async def main() -> None:
    """Start both servers, work, and end them."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.agent")
    parser.add_argument("folder")
    parser.add_argument("--yes", action="store_true", help="answer every question with yes")
    options = parser.parse_args()
    servers = (
        [sys.executable, "-m", f"{__package__}.files", options.folder],
        [sys.executable, "-m", f"{__package__}.notes"],
    )
    on_elicit = agree if options.yes else terminal.elicit
    async with Client(servers[0]) as files, Client(servers[1], on_elicit=on_elicit) as notes:
        for client in (files, notes):
            tools = ", ".join(tool["name"] for tool in await client.list_tools())
            print(f"{client.server_info['name']} {client.protocol_version}: {tools}")
        watching = asyncio.create_task(show_changes(notes))
        try:
            await work(files, notes)
        finally:
            watching.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (ConnectionError, RpcError) as problem:
        sys.exit(f"error: {problem}")
