"""The same from the other end: one method per MCP request, both eras.

`server.py` answers; a `Client` asks. It is a `Connection`, which opens itself and repeats what can be
repeated without harm, and adds MCP: a method per request, every page of a list, results that are
still fresh, changes to listen to. The difference between the eras is hidden: questions of the server
reach the same callbacks, whether they come as requests on a legacy connection or inside an
`input_required` result.

Spec: 2026-07-28 server/*, client/*, basic/patterns/mrtr, basic/patterns/subscriptions,
      server/utilities/caching; 2025-11-25 server/*, client/*.
Wire: → {"id":2,"method":"tools/call","params":{"name":"greet","arguments":{},"_meta":{…}}}
      ← {"id":2,"result":{"resultType":"input_required","requestState":"eyJ…",
         "inputRequests":{"1":{"method":"elicitation/create","params":{…}}}}}
      → {"id":3,"method":"tools/call","params":{"name":"greet","arguments":{},"requestState":"eyJ…",
         "inputResponses":{"1":{"action":"accept","content":{…}}},"_meta":{…}}}

`close` leaves nothing behind, and a closed client stays closed until an `async with` opens it.

Deliberately absent: a model and a user. Callbacks bring them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from . import spec
from .cache import CACHED, Cache
from .connection import Connection, invalid_result, member
from .dispatcher import Call, Dispatcher, Handler
from .json_schema import Schema
from .jsonrpc import Message, Params, Result, RpcError
from .peer import OnProgress, call_back
from .questions import Callback, Questions
from .subscription import HEARD, Subscription
from .targets import Target

MAX_INPUT_ROUNDS = 32  # of one request
MAX_PAGES = 1000  # of one list
INFO = {"name": "mcp_min", "version": "0.1.0"}


class Client(Connection):
    """A connection to one server: `async with Client(target) as client`.

    target: a command as a list, StdioServerParameters, a URL, a Server (in memory), or a Transport.
    on_elicit(params), on_sample(params): answer the server's questions with a result of the specification;
    roots: a list, or a function that returns one; on_log(params); on_message(direction, message) sees
    every message, direction is "→" or "←". All may be `def` or `async def`, and each that is given
    declares its capability; `capabilities` replaces those, for example {"sampling": {"tools": {}}}.
    timeout: seconds without answer or progress; max_timeout: seconds in all; None waits for ever.
    retries: how often what has failed is repeated where that can do no harm, after growing pauses.
    cache: keep lists and resources for as long as the server says that they are fresh.
    protocol_version: skip the search for the server's era. headers, http: of HttpTransport.

    Known of the server: `protocol_version`, `server_info`, `capabilities`, `instructions`; of a modern
    one that was not searched for, only the first, until `ping` has asked it. What asks the server opens the
    connection first if need be, raises as `request` does, and RpcError for an answer of another form.
    """

    def __init__(
        self,
        target: Target,
        *,
        on_elicit: Callback | None = None,
        on_sample: Callback | None = None,
        roots: Sequence[dict[str, Any]] | Callable[[], Any] | None = None,
        on_log: Callback | None = None,
        on_message: Callable[[str, Message], object] | None = None,
        capabilities: dict[str, Any] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        client_info: dict[str, Any] | None = None,
        protocol_version: str | None = None,
        timeout: float | None = 60,
        max_timeout: float | None = 3600,
        retries: int = 3,
        cache: bool = False,
        **transport_options: Any,
    ) -> None:
        if protocol_version is not None and protocol_version not in spec.SUPPORTED:
            raise ValueError(f"protocol_version {protocol_version!r}: there are {', '.join(spec.SUPPORTED)}")
        list_roots = None if roots is None else lambda params: roots() if callable(roots) else roots
        callbacks = {"elicitation/create": on_elicit, "sampling/createMessage": on_sample, "roots/list": list_roots}
        more = (capabilities or {}) | ({"extensions": extensions} if extensions else {})
        self._questions = Questions(callbacks, more)
        meta = {spec.CLIENT_INFO: client_info or INFO, spec.CLIENT_CAPABILITIES: self._questions.capabilities}
        handlers: dict[str, Handler] = dict.fromkeys(HEARD, self._hear) | self._questions.handlers() | {"ping": _pong}
        if on_log is not None:
            handlers["notifications/message"] = lambda params, call: call_back(on_log, params)
        dispatch = Dispatcher(handlers).dispatch
        timeouts = {"timeout": timeout, "max_timeout": max_timeout}
        super().__init__(target, transport_options, dispatch, meta, protocol_version, timeouts, retries, on_message)
        self._cached = CACHED if cache else frozenset[str]()
        self._cache = Cache()
        self._outputs: dict[str, Schema] = {}  # by the name of the tool, as listed
        self._subscriptions: list[Subscription] = []

    async def __aenter__(self) -> Client:
        self._closed.clear()
        try:
            # A child that dies at its start will not do better; a server on the network may be starting.
            await self._repeated(self.opened, harmless=self._remote)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _search(self) -> None:
        self._forget("")  # a server that has been started anew may be another
        await super()._search()

    def _forget(self, family: str) -> None:
        """Forget what has been said about "tools", "prompts" or "resources", or with "" about all."""
        self._cache.drop(family)
        if family in ("tools", ""):
            self._outputs = {}

    # --- asking ----------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: Params | None = None,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Result:
        """Send any request and return its result, after as many rounds of input as the server wants.

        timeout is in seconds, by default the client's; math.inf for none. Raises RpcError, ConnectionClosed
        or TimeoutError, and what a callback raises that was asked for input. On timeout or cancellation the
        server is told, and may have acted.
        """
        timeouts = self._timeouts if timeout is None else self._timeouts | {"timeout": timeout}
        options = timeouts | {"on_progress": on_progress}
        params = asked = params or {}
        cached = method in self._cached
        if cached:
            await self._repeated(self.opened, harmless=True)
            asker = await self.transport.identity() if hasattr(self.transport, "identity") else None  # HTTP has one
            if (found := self._cache.find(method, params, asker)) is not None:
                return found
        changes = self._cache.changes
        for _ in range(MAX_INPUT_ROUNDS):
            result = await self.ask(method, asked, options)
            kind = result.get("resultType", "complete")  # MUST treat an absent one as "complete"
            if kind == "complete" or not self.modern:
                if cached and asked is params:
                    self._cache.keep(method, params, result, changes)
                return result
            if kind == "input_required" and method in spec.INPUT_METHODS:
                asked = params | await self._questions.inputs(result)
            elif "extensions" in self._questions.capabilities:
                return result
            else:
                # MUST be considered invalid (2026-07-28 basic#resulttype).
                raise invalid_result(f"the resultType {kind!r:.50} is not known")
        raise invalid_result(f"input was asked for {MAX_INPUT_ROUNDS} times")

    async def _pages(self, method: str, kind: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        params: Params = {}
        for _ in range(MAX_PAGES):
            try:
                page = await self.request(method, params)
            except RpcError:
                # SHOULD discard all pages when a cursor has become invalid (server/utilities/caching).
                self._forget(method.split("/")[0])
                raise
            found = member(page, kind, list)
            if not all(isinstance(item, dict) for item in found):
                raise invalid_result(f"{kind} must hold objects only")
            items += found
            if page.get("nextCursor") is None:  # "" is a cursor like any other (server/utilities/pagination)
                return items
            params = {"cursor": page["nextCursor"]}
        raise invalid_result(f"{method} has more than {MAX_PAGES} pages")

    async def list_tools(self) -> list[dict[str, Any]]:
        """Return every tool of the server, from every page."""
        tools, self._outputs = await self._pages("tools/list", "tools"), {}
        for tool in tools:
            with contextlib.suppress(KeyError, ValueError):  # there is none, or none that could be checked with
                self._outputs[str(tool.get("name"))] = Schema(tool["outputSchema"])
        return tools

    async def list_resources(self) -> list[dict[str, Any]]:
        """Return every resource of the server, from every page."""
        return await self._pages("resources/list", "resources")

    async def list_resource_templates(self) -> list[dict[str, Any]]:
        """Return every resource template of the server, from every page."""
        return await self._pages("resources/templates/list", "resourceTemplates")

    async def list_prompts(self) -> list[dict[str, Any]]:
        """Return every prompt of the server, from every page."""
        return await self._pages("prompts/list", "prompts")

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Result:
        """Call a tool: {"content": […], "structuredContent": …, "isError": …}. A tool that fails raises nothing.

        Raises as `request` does, and RpcError for data that is not as the list of tools, if it was asked for, says.
        """
        params = {"name": name, "arguments": arguments or {}}
        call = partial(self.request, "tools/call", params, timeout=timeout, on_progress=on_progress)
        try:
            result = await call()
        except RpcError as problem:
            if problem.code != spec.HEADER_MISMATCH:
                raise
            # SHOULD look which arguments are headers too, then retry (2026-07-28 streamable-http#client-behavior).
            self._forget("tools")
            await self.list_tools()
            result = await call()
        schema = self._outputs.get(name)
        # SHOULD validate structured results against the tool's schema (server/tools#output-schema).
        if schema is not None and "structuredContent" in result and not result.get("isError"):
            errors = schema.errors(result["structuredContent"], "structuredContent")
            if errors:
                raise invalid_result(f"{name}: {errors[0]}")
        return result

    async def read_resource(self, uri: str) -> Result:
        """Read a resource: {"contents": [{"uri": …, "mimeType": …, "text" or "blob": …}]}."""
        return await self.request("resources/read", {"uri": uri})

    async def get_prompt(self, name: str, arguments: dict[str, str] | None = None) -> Result:
        """Get a prompt: {"messages": [{"role": …, "content": …}]}."""
        return await self.request("prompts/get", {"name": name, "arguments": arguments or {}})

    async def complete(
        self, ref: dict[str, Any], argument: dict[str, str], context: dict[str, Any] | None = None
    ) -> Result:
        """Complete an argument: {"completion": {"values": […], "total": …, "hasMore": …}}."""
        params = {"ref": ref, "argument": argument} | ({} if context is None else {"context": context})
        return await self.request("completion/complete", params)

    async def ping(self) -> None:
        """Return when the server has answered; the modern era has no `ping`, and `server/discover` serves."""
        await self.opened()  # which finds out the era
        found = await self.request("server/discover" if self.modern else "ping")
        if self.modern:
            self._learn(found)

    async def set_log_level(self, level: str) -> None:
        """Want log messages of this level and above: on this connection, or, in the modern era, with each request.

        Raises ValueError for a level that is none of LOG_LEVELS in `spec.py`, and as `request` does.
        """
        if level not in spec.LOG_LEVELS:  # each request would carry it, and be refused
            raise ValueError(f"level {level!r:.50}: there are {', '.join(spec.LOG_LEVELS)}")
        self._meta[spec.LOG_LEVEL] = level
        if self.protocol_version in spec.LEGACY:
            await self.request("logging/setLevel", {"level": level})

    # --- hearing ---------------------------------------------------------------------------------

    async def _hear(self, params: Params, call: Call) -> Result:
        method = call.message["method"]
        self._forget(method.split("/")[1])
        for subscription in self._subscriptions:
            subscription.hear(method, params)
        return {}

    def listen(
        self, *, tools: bool = False, prompts: bool = False, resource_list: bool = False, resources: Iterable[str] = ()
    ) -> Subscription:
        """Hear of changes as they come: {"method": "notifications/resources/updated", "params": {"uri": …}}.

        `async for change in client.listen(…)`, or, for who must know that nothing is missed from here on,
        `async with client.listen(…) as changes:` and then `async for change in changes`.
        resources: the URIs, or the one, whose updates are wanted; resource_list: changes of the list itself.
        Changes that come while the caller is busy are kept, each once. Ends when the server ends the subscription;
        leaving the loop cancels it, and tells the server. Raises ConnectionClosed when the connection breaks,
        RpcError or TimeoutError when a server refuses or says nothing, and OSError as opening does.
        """
        lists = {"toolsListChanged": tools, "promptsListChanged": prompts, "resourcesListChanged": resource_list}
        wanted = [key for key, want in lists.items() if want]
        uris = [resources] if isinstance(resources, str) else list(resources)  # a text is iterable too
        return Subscription(self, self._subscriptions, wanted, uris)


async def _pong(params: Params, call: Call) -> Result:
    return {}
