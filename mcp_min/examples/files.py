"""A server that searches, reads and watches a folder, and shows nothing outside it.

    python -m mcp_min.examples.files FOLDER

A file is a resource, under its path in the folder: `file:///notes/todo.md`. Who subscribes to it is
told when it changes; only while somebody does is the file looked at, once a second. Whatever a path
is made of, `..` or a symbolic link, the file that it leads to must lie in the folder.

Spec: 2026-07-28 server/resources, basic/patterns/subscriptions, basic/patterns/progress.
Wire: → {"method":"resources/read","params":{"uri":"file:///notes/todo.md", …}}
      ← {"contents":[{"uri":"file:///notes/todo.md","mimeType":"text/plain","text":"- buy milk\\n"}]}

Deliberately absent: writing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

from .. import Context, RpcError, Server, ToolError
from ..dispatcher import Handler
from ..jsonrpc import INVALID_PARAMS, Params, Result

MAX_SIZE = 4 * 2**20  # bytes of a file that is shown
INTERVAL = 1.0  # seconds between two looks at what is watched

root = Path().resolve()  # the folder
server = Server("files", version="1.0.0", instructions="Finds, reads and watches the files of one folder.")

# --- searching -----------------------------------------------------------------------------------


@server.tool(annotations={"readOnlyHint": True})
async def search_files(
    pattern: Annotated[str, "of the name or the path, for example *.py or docs/*"],
    ctx: Context,
    limit: Annotated[int, "most files to return", {"minimum": 1}] = 100,
) -> list[str]:
    """Find files by name, in the folder and all folders in it; hidden ones and links are left out."""
    found: list[str] = []
    folders, searched = [root], 0
    while folders and len(found) < limit:
        folder = folders.pop(0)
        # In a thread, since a disk may be slow; one folder at a time, so that the search can be cancelled.
        for entry in await asyncio.to_thread(list_folder, folder):
            path = Path(entry.path).relative_to(root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                folders.append(folder / entry.name)
            elif entry.is_file(follow_symlinks=False) and (fnmatch(entry.name, pattern) or fnmatch(path, pattern)):
                found.append(path)
        searched += 1
        await ctx.progress(searched, searched + len(folders), f"{len(found)} found")
    return found[:limit]


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name; nothing when it cannot be read."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # it was removed meanwhile, or is somebody else's
        return []
    return [entry for entry in entries if not entry.name.startswith(".")]


# --- reading -------------------------------------------------------------------------------------


def find(path: str) -> Path:
    """Return the file that a path in the folder leads to. Raises OSError when there is none."""
    if "\0" in path:
        raise FileNotFoundError("no path holds NUL")
    # What is compared is where the links lead, not what the path says.
    file = Path(os.path.realpath(root / path, strict=True))
    if not file.is_relative_to(root):
        raise PermissionError("it is not in the folder")
    if not file.is_file():
        raise FileNotFoundError("it is no file")
    return file


def read(path: str) -> str | bytes:
    """Return a file's text, or its bytes when it is none. Raises OSError."""
    file = find(path)
    if file.stat().st_size > MAX_SIZE:
        raise OSError(f"it has more than {MAX_SIZE} bytes")
    data = file.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def reason(error: OSError) -> str:
    """Return what went wrong, without the path on this machine."""
    return error.strerror or str(error)


@server.resource("file:///{+path}", name="file", description="A file, by its path in the folder.")
def file_resource(path: str) -> str | bytes:
    """Return what is in the file."""
    try:
        return read(path)
    except OSError as error:
        raise RpcError(INVALID_PARAMS, "Resource not found", {"details": f"{path}: {reason(error)}"}) from None


@server.tool(annotations={"readOnlyHint": True})
def read_file(path: Annotated[str, "in the folder, as search_files returns it"]) -> str:
    """Return the text of a file."""
    try:
        text = read(path)
    except OSError as error:
        raise ToolError(f"{path}: {reason(error)}") from None
    if isinstance(text, bytes):
        raise ToolError(f"{path}: it is no text")
    return text


# --- watching ------------------------------------------------------------------------------------

seen: dict[str, tuple[int, int] | None] = {}  # URI of what is watched: what its file looked like
watching: asyncio.Task[None] | None = None


@server.middleware
async def watch_on_demand(call_next: Handler, params: Params, ctx: Context) -> Result:
    """Begin to watch when somebody wants to know."""
    global watching
    if ctx.call.message["method"] in ("resources/subscribe", "subscriptions/listen"):
        # Soon: when the subscription stands, and before its client has heard so.
        asyncio.get_running_loop().call_soon(look)
        if watching is None or watching.done():
            watching = asyncio.create_task(watch())
    return await call_next(params, ctx)


async def watch() -> None:
    """Look again and again, as long as there is something to look at."""
    while True:
        await asyncio.sleep(INTERVAL)
        look()
        if not seen:
            return


def look() -> None:
    """Tell of every watched file that has changed since the last look."""
    watched = {uri for listener in server.listeners for uri in listener.uris}
    for uri in watched:
        now = fingerprint(uri)
        if seen.setdefault(uri, now) != now:
            seen[uri] = now
            server.resource_updated(uri)
    for uri in seen.keys() - watched:
        del seen[uri]


def fingerprint(uri: str) -> tuple[int, int] | None:
    """Return what changes when a file does, cheaply; None when there is no file."""
    try:
        state = find(unquote(uri.removeprefix("file:///"))).stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def main() -> None:
    """Serve the folder that the command line names."""
    global root
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    if not folder.is_dir():
        sys.exit(f"{folder} is no folder; usage: python -m mcp_min.examples.files FOLDER")
    root = folder.resolve()
    server.run()


if __name__ == "__main__":
    main()
