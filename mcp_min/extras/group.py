"""Several servers behind one object: one list of tools, whose names say where a call goes.

A `Client` has one server; whoever hosts a model has a dozen. A group holds a client for each, asks
them side by side, and lets none of them hold up the others.

Wire: ← {"name":"search_files", …}               from the server "my files"; the group lists
        {"name":"my_files__search_files", …}
      ← {"uri":"file:///todo.md", …}             and a resource likewise:
        {"uri":"my_files+file:///todo.md", …}

Names are within what hosts accept, [A-Za-z0-9_-]{1,64}. What stands before the first `__` is made of
the names of the servers alone, so that a name means the same whichever of them are up. A tool's name
that does not fit is cut and told apart by a digest; it is known once the tools have been listed.

A server that fails stands in `errors` with the reason, and is left out of lists until it works again:
`connect` tries all such servers, a call that names one tries that one. A server that is only slow to
connect is waited for in the background. A group owns its clients and the tasks that open them.

Deliberately absent: what one client does as well; `await group.client(name)` listens and completes. URIs
inside a result are the server's own: the group does not look into results.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from ..client import Client
from ..jsonrpc import ConnectionClosed, Result, RpcError
from ..targets import Target

T = TypeVar("T")
Items = list[dict[str, Any]]

MAX_NAME = 64  # letters of a qualified name
MAX_PREFIX = 24  # of them, for the server
# What a server can do wrong: no connection, no answer in time, an error, a target that is none.
FAILURES = (OSError, RpcError, ValueError, TypeError)


class ClientGroup:
    """Clients of several servers: `async with ClientGroup(load_config("mcp.json")) as group`.

    servers: name → what a Client connects to. client(name, target): makes a Client that has other options,
    such as callbacks that say who asks. patience: seconds that a server gets to connect or to answer a
    list; how long a call may take is its client's affair.
    """

    def __init__(
        self,
        servers: Mapping[str, Target],
        *,
        client: Callable[[str, Target], Client] = lambda name, target: Client(target),
        patience: float = 30,
    ) -> None:
        self.clients: dict[str, Client] = {}  # by name of server, those that have been connected
        self.errors: dict[str, Exception] = {}  # by name of server, those that do not work
        self._servers, self._make, self._patience = servers, client, patience
        self._prefixes = _find_prefixes(servers)
        self._names: dict[tuple[str, str], dict[str, str]] = {}  # server, kind: qualified name, its own name
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    # --- connections -----------------------------------------------------------------------------

    async def __aenter__(self) -> ClientGroup:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Try, side by side, every server that is not connected or has failed; raises nothing, see `errors`."""
        tried = [server for server in self._servers if server in self.errors or server not in self.clients]
        await asyncio.gather(*(self._try(server, _is_alive) for server in tried))

    async def client(self, server: str) -> Client:
        """Return the client of one server, connected; raises what went wrong with that, KeyError for no server."""
        if self._closed:
            raise ConnectionClosed("the group is closed")
        if server not in self.clients:
            if server not in self._opening:
                # A task of its own: many may wait for it, and any of them may be cancelled or lose patience.
                self._opening[server] = asyncio.get_running_loop().create_task(self._open(server))
            opening = self._opening[server]
            await asyncio.wait([opening], timeout=self._patience)
            if not opening.done():
                raise TimeoutError(f"not connected within {self._patience} s, and still being tried")
            if opening.cancelled():
                raise ConnectionClosed("the group was closed")
            opening.result()
        if server not in self.clients:
            raise self.errors[server]
        return self.clients[server]

    async def _open(self, server: str) -> None:
        try:
            client = self._make(server, self._servers[server])
            await client.__aenter__()
        except FAILURES as problem:
            self.errors[server] = problem
        else:
            self.clients[server] = client
            self.errors.pop(server, None)
        finally:
            del self._opening[server]

    async def close(self) -> None:
        """Close every client; child processes are gone when this returns. May be called more than once."""
        self._closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self.clients.values()))

    # --- asking ----------------------------------------------------------------------------------

    async def list_tools(self) -> Items:
        """Return every tool of every server that works, under its qualified name."""
        return await self._list("tools", "name", Client.list_tools)

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Result:
        """Call a tool by its qualified name; options are those of `Client.call_tool`.

        Raises as that does, and ValueError for no server's name.
        """
        server, tool = self._resolve(name, "tools")
        return await self._ask(server, lambda client: client.call_tool(tool, arguments, **options))

    async def list_prompts(self) -> Items:
        """Return every prompt of every server that works, under its qualified name."""
        return await self._list("prompts", "name", Client.list_prompts)

    async def get_prompt(self, name: str, arguments: dict[str, str] | None = None) -> Result:
        """Get a prompt by its qualified name. Raises as `call_tool` does."""
        server, prompt = self._resolve(name, "prompts")
        return await self._ask(server, lambda client: client.get_prompt(prompt, arguments))

    async def list_resources(self) -> Items:
        """Return every resource of every server that works, under its qualified URI."""
        return await self._list("resources", "uri", Client.list_resources)

    async def list_resource_templates(self) -> Items:
        """Return every resource template of every server that works, qualified; so are the URIs made of it."""
        return await self._list("resources", "uriTemplate", Client.list_resource_templates)

    async def read_resource(self, uri: str) -> Result:
        """Read a resource by its qualified URI. Raises as `call_tool` does."""
        server, own = self._resolve(uri, "resources")
        return await self._ask(server, lambda client: client.read_resource(own))

    async def _ask(self, server: str, action: Callable[[Client], Awaitable[T]]) -> T:
        client = await self.client(server)
        try:
            result = await action(client)
        except ConnectionError as problem:  # any other error is an answer, or a call that took too long
            self.errors[server] = problem
            raise
        self.errors.pop(server, None)
        return result

    async def _try(self, server: str, action: Callable[[Client], Awaitable[T]]) -> T | None:
        try:
            async with asyncio.timeout(self._patience):
                return await self._ask(server, action)
        except FAILURES as problem:
            self.errors[server] = problem if str(problem) else TimeoutError(f"no answer within {self._patience} s")
            return None

    async def _list(self, kind: str, key: str, action: Callable[[Client], Awaitable[Items]]) -> Items:
        working = [server for server in self._servers if server in self.clients and server not in self.errors]
        asked = [server for server in working if kind in self.clients[server].capabilities]
        answers = await asyncio.gather(*(self._try(server, action) for server in asked))
        found = []
        for server, items in zip(asked, answers, strict=True):
            names = self._names[server, kind] = {}
            for item in items or []:
                own = str(item.get(key))
                qualified = _qualified(self._prefixes[server], kind, own)
                names[qualified] = own
                found.append(item | {key: qualified})
        return found

    def _resolve(self, qualified: str, kind: str) -> tuple[str, str]:
        prefix, _, rest = qualified.partition(_separator(kind))
        server = next((server for server, its in self._prefixes.items() if its == prefix), None)
        if server is None:
            raise ValueError(f"{qualified!r:.100} begins with no server's name: {', '.join(self._prefixes.values())}")
        return server, self._names.get((server, kind), {}).get(qualified, rest)


async def _is_alive(client: Client) -> None:
    with contextlib.suppress(RpcError):  # which is an answer too
        await client.ping()


# --- names ---------------------------------------------------------------------------------------


def _separator(kind: str) -> str:
    return "+" if kind == "resources" else "__"


def _find_prefixes(servers: Iterable[str]) -> dict[str, str]:
    """Return a prefix for each server: no two alike, none with `__` in it or `_` at its end."""
    fitting = {server: re.sub("[^A-Za-z0-9-]+", "_", server)[:MAX_PREFIX].strip("_") for server in servers}
    found: dict[str, str] = {}
    # A server whose name fits keeps it, whatever others are called.
    for server, prefix in sorted(fitting.items(), key=lambda item: item[0] != item[1]):
        taken = not prefix or prefix in found.values()
        found[server] = _cut(prefix, MAX_PREFIX, server).strip("_") if taken else prefix
    return found


def _qualified(prefix: str, kind: str, name: str) -> str:
    fitting = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    room = MAX_NAME - len(prefix) - len("__")
    if kind != "resources" and (fitting != name or len(name) > room):
        name = _cut(fitting, room, name)
    return prefix + _separator(kind) + name


def _cut(text: str, room: int, name: str) -> str:
    """Return the beginning of a text with a digest of the name that it was made of."""
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"{text[: room - len(digest) - 1]}_{digest}"
