"""The same from the other end: one method per MCP request, both eras.

`server.py` answers; a `Client` asks. It opens the transport that its target needs, finds out which
era the server lives in, and hides the difference: questions of the server reach the same callbacks,
whether they come as requests on a legacy connection or inside an `input_required` result.

Spec: 2026-07-28 basic/versioning, basic/transports/stdio#backward-compatibility, basic/patterns/mrtr,
      basic/patterns/subscriptions; 2025-11-25 basic/lifecycle, client/*.
Wire: → {"id":1,"method":"server/discover","params":{"_meta":{…}}}
      ← {"id":1,"result":{"supportedVersions":["2026-07-28"], …}}        a modern server
      ← {"id":1,"error":{"code":-32601, …}}                              a legacy one: `initialize` follows

The client owns its transport, its peer and the task that reads; `close` ends all three.

Deliberately absent: a model and a user. Callbacks bring them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from . import spec
from .dispatcher import Call, Dispatcher, Handler
from .jsonrpc import INVALID_REQUEST, METHOD_NOT_FOUND, ConnectionClosed, Message, Params, RequestId, Result, RpcError
from .peer import OnProgress, Peer, call_back
from .stream import Transport, answer, memory_pair

logger = logging.getLogger("mcp_min")

Target = Any  # a command, StdioServerParameters, a URL, a Server, or a Transport
Callback = Callable[[Params], Any]

PROBE_TIMEOUT = 5.0  # seconds that a server may be silent on `server/discover` before it is taken for a legacy one
MAX_INPUT_ROUNDS = 32  # of one request
MAX_PAGES = 10_000  # of one list
# What can be sent again when it is unknown whether the server has acted on it.
REPEATABLE = frozenset(
    spec.CACHEABLE | {"ping", "initialize", "prompts/get", "completion/complete", "logging/setLevel"}
)

# HTTP statuses, which stand as error codes where an answer was no message.
BUSY = frozenset({429, 502, 503, 504})
NOT_TAKEN = frozenset({429, 503})  # the server says that it did nothing
NO_ENDPOINT = frozenset({400, 404, 405})  # what a server of 2024-11-05 says to a POST
MAX_PAUSE = 30.0  # seconds that a server may ask us to wait

_serving: set[asyncio.Task[None]] = set()  # servers in memory; they end with their client's transport
_legacy_targets: set[str] = set()  # those whose server did not know `server/discover`, to skip the probe next time


class Client:
    """A connection to one server: `async with Client(target) as client`.

    target: a command as a list, StdioServerParameters, a URL, a Server (in memory), or a Transport.
    on_elicit(params), on_sample(params): answer the server's questions with a result of the specification;
    roots: a list, or a function that returns one; on_log(params); on_message(direction, message) sees
    every message, direction is "→" or "←". All may be `def` or `async def`, and each that is given
    declares its capability; `capabilities` adds to those, for example {"sampling": {"tools": {}}}.
    timeout: seconds without answer or progress; max_timeout: seconds in all; None waits for ever.
    retries: how often a lost connection is opened again, with growing pauses.
    protocol_version: skip the search for the server's era. headers, auth: of HTTP.
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
        **transport_options: Any,
    ) -> None:
        if protocol_version is not None and protocol_version not in spec.SUPPORTED:
            raise ValueError(f"protocol_version {protocol_version!r}: there are {', '.join(spec.SUPPORTED)}")
        self.protocol_version: str | None = protocol_version
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.extensions = extensions or {}
        self._target = target
        self._transport_options = transport_options
        self._wanted_version = protocol_version
        self._info = client_info or {"name": "mcp_min", "version": "0.1.0"}
        self._timeouts: dict[str, Any] = {"timeout": timeout, "max_timeout": max_timeout}
        self._retries = retries
        self._on_message = on_message
        self._log_level: str | None = None
        self._subscriptions: list[_Subscription] = []
        self._methods: dict[str, Handler] = {"ping": _pong}
        self._questions: dict[str, Callable[[Params], Awaitable[Result]]] = {}
        self._declared: dict[str, Any] = {}
        if on_elicit is not None:
            self._answers("elicitation/create", on_elicit)
        if on_sample is not None:
            self._answers("sampling/createMessage", on_sample)
        if roots is not None:
            self._answers("roots/list", lambda params: roots() if callable(roots) else list(roots))
        if on_log is not None:
            self._methods["notifications/message"] = _handler(on_log)
        for method in (*spec.CHANGES.values(), spec.RESOURCE_UPDATED, "notifications/subscriptions/acknowledged"):
            self._methods[method] = self._hear(method)
        self._declared |= capabilities or {}
        self._dispatcher = Dispatcher(self._methods)
        self._peer: Peer | None = None
        self._transport: Transport | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    # --- opening and closing ---------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        await self._patiently(None, {}, {})
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a child process is gone when this returns. Any task may call it, more than once."""
        transport, reading, peer = self._transport, self._reading, self._peer
        self._transport = self._reading = self._peer = None
        if transport is None or reading is None or peer is None:
            return
        peer.fail(ConnectionClosed("the client was closed"))
        try:
            await transport.close()
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            await peer.drain(0)

    async def _open(self) -> Peer:
        async with self._opening:
            if self._peer is not None and not self._peer.closed:
                return self._peer
            await self.close()
            try:
                return await self._negotiate(repr(self._target))
            except BaseException:
                await self.close()
                _legacy_targets.discard(repr(self._target))
                raise

    async def _negotiate(self, known: str) -> Peer:
        """Find the server's era: the modern way first, then `initialize`, then, on HTTP, the older transport."""
        peer = await self._start()
        if self._wanted_version in spec.MODERN:
            self.protocol_version = self._wanted_version
            return peer
        if self._wanted_version is None and known not in _legacy_targets:
            if await self._discover(peer):
                return peer
            _legacy_targets.add(known)
            if peer.closed:  # it died of the question
                await self.close()
                peer = await self._start()
        try:
            return await self._initialize(peer)
        except RpcError as refused:
            if refused.code not in NO_ENDPOINT or not isinstance(self._target, str):
                raise
        await self.close()
        return await self._initialize(await self._start(older=True))

    async def _start(self, **options: Any) -> Peer:
        self._transport = transport = await open_transport(self._target, **self._transport_options, **options)
        peer = self._peer = Peer(self._write, self._dispatcher.dispatch)
        if hasattr(transport, "on_lost"):
            transport.on_lost = peer.lose
        self._reading = asyncio.create_task(peer.run(self._read(transport)))
        return peer

    async def _read(self, transport: Transport) -> AsyncIterator[Message]:
        async for message in transport.read():
            if self._on_message is not None:
                await call_back(self._on_message, "←", message)
            yield message

    async def _write(self, message: Any) -> None:
        if self._transport is None:
            raise ConnectionClosed("the client is closed")
        if self._on_message is not None:
            await call_back(self._on_message, "→", message)
        await self._transport.write(message)

    async def _discover(self, peer: Peer) -> bool:
        """Ask the modern way; False when the server is a legacy one.

        MUST NOT key the fallback to one error code (2026-07-28 basic/transports/stdio#backward-compatibility).
        """
        self.protocol_version = spec.MODERN[0]
        try:
            found = await peer.request("server/discover", self._stamped({}), timeout=PROBE_TIMEOUT)
        except RpcError as problem:
            if problem.code not in spec.MODERN_ERRORS:
                return False
            supported = problem.data.get("supported", []) if isinstance(problem.data, dict) else []
            if problem.code != spec.UNSUPPORTED_VERSION or any(version in spec.MODERN for version in supported):
                raise
            self._choose(supported)
            return False
        except (TimeoutError, ConnectionClosed):
            return False
        self._learn(found)
        self._choose(found.get("supportedVersions", []))
        return self.protocol_version in spec.MODERN

    def _choose(self, supported: Iterable[str]) -> None:
        common = [version for version in spec.SUPPORTED if version in supported]
        if not common:
            details = f"the server speaks {', '.join(map(str, supported))}; this client {', '.join(spec.SUPPORTED)}"
            raise RpcError(spec.UNSUPPORTED_VERSION, "No protocol version in common", {"details": details})
        self.protocol_version = common[0]

    async def _initialize(self, peer: Peer) -> Peer:
        """Spec: 2025-11-25 basic/lifecycle#initialization."""
        version = self._wanted_version or spec.LEGACY[0]
        params = {"protocolVersion": version, "capabilities": self._capabilities(version), "clientInfo": self._info}
        found = await peer.request("initialize", params, **self._timeouts)
        self._choose([found.get("protocolVersion", "")])
        self._learn(found)
        peer.session.batches = self.protocol_version == spec.BATCHES
        await peer.notify("notifications/initialized")
        return peer

    def _learn(self, found: Result) -> None:
        self.capabilities = found.get("capabilities", {})
        self.instructions = found.get("instructions")
        self.server_info = found.get("serverInfo") or found.get("_meta", {}).get(spec.SERVER_INFO, {})

    def _capabilities(self, version: str) -> dict[str, Any]:
        return self._declared | ({"extensions": self.extensions} if self.extensions and version in spec.MODERN else {})

    def _stamped(self, params: Params) -> Params:
        """Add what every modern request MUST carry (2026-07-28 basic/index#_meta)."""
        if self.protocol_version not in spec.MODERN:
            return params
        meta = {
            spec.PROTOCOL_VERSION: self.protocol_version,
            spec.CLIENT_INFO: self._info,
            spec.CLIENT_CAPABILITIES: self._capabilities(self.protocol_version),
        }
        if self._log_level is not None:
            meta[spec.LOG_LEVEL] = self._log_level
        return params | {"_meta": params.get("_meta", {}) | meta}

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

        timeout is in seconds, by default the client's. Raises RpcError, ConnectionClosed or TimeoutError;
        on timeout or cancellation the server is told, and may have acted.
        """
        options = self._timeouts | ({} if timeout is None else {"timeout": timeout}) | {"on_progress": on_progress}
        params = params or {}
        asked = params
        for _ in range(MAX_INPUT_ROUNDS):
            result = await self._patiently(method, asked, options)
            kind = result.get("resultType", "complete")  # MUST treat an absent one as "complete"
            if kind == "input_required" and method in spec.INPUT_METHODS and self.protocol_version in spec.MODERN:
                # MUST echo requestState exactly, and MUST NOT include one that was not given (basic/patterns/mrtr).
                state = {"requestState": result["requestState"]} if "requestState" in result else {}
                asked = params | {"inputResponses": await self._answer_all(result.get("inputRequests", {}))} | state
            elif kind == "complete" or self.protocol_version not in spec.MODERN or self.extensions:
                return result
            else:
                # MUST be considered invalid (2026-07-28 basic#resulttype).
                raise RpcError(INVALID_REQUEST, "Invalid result", {"details": f"unknown resultType {kind!r}"})
        raise RpcError(INVALID_REQUEST, "Invalid result", {"details": f"input asked for {MAX_INPUT_ROUNDS} times"})

    async def _patiently(self, method: str | None, params: Params, options: dict[str, Any]) -> Result:
        """Send a request, or only connect when there is none; again after a pause where that can do no harm."""
        attempt = 0
        while True:
            opened, wait = False, 0.0
            try:
                peer = await self._open()
                opened = True
                return {} if method is None else await peer.request(method, self._stamped(params), **options)
            except (ConnectionClosed, RpcError) as problem:
                attempt += 1
                untouched = not (opened and getattr(problem, "sent", True))
                if isinstance(problem, RpcError):
                    if problem.code not in BUSY:
                        raise
                    untouched = problem.code in NOT_TAKEN
                    wait = min(float((problem.data or {}).get("retryAfter", 0)), MAX_PAUSE)
                # A child that dies at its start will not do better; a server on the network may be starting.
                repeatable = isinstance(self._target, str) if not opened else untouched or method in REPEATABLE
                if not repeatable or attempt > self._retries:
                    raise
                pause = max(wait, random.uniform(0.5, 1) * 0.1 * 2**attempt)
                logger.warning("%s: %s; attempt %d in %.1f s", method or "connecting", problem, attempt + 1, pause)
            await asyncio.sleep(pause)

    async def _answer_all(self, questions: dict[str, Any]) -> dict[str, Result]:
        answers = {}
        for key, question in questions.items():
            answer = self._questions.get(question["method"])
            if answer is None:
                details = f"the server asks for {question['method']}, which this client did not declare"
                raise RpcError(METHOD_NOT_FOUND, "Method not found", {"details": details})
            answers[key] = await answer(question.get("params", {}))
        return answers

    def _answers(self, method: str, callback: Callback) -> None:
        async def answer(params: Params) -> Result:
            value = callback(params)
            value = await value if isinstance(value, Awaitable) else value
            return {"roots": list(value)} if method == "roots/list" else value

        async def handler(params: Params, call: Call) -> Result:
            return await answer(params)

        self._questions[method] = answer
        self._methods[method] = handler
        self._declared[spec.CLIENT_CAPABILITY_OF[method]] = {}

    async def _pages(self, method: str, kind: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        params: Params = {}
        for _ in range(MAX_PAGES):
            page = await self.request(method, params)
            items += page.get(kind, [])
            if page.get("nextCursor") is None:  # "" is a cursor like any other (server/utilities/pagination)
                return items
            params = {"cursor": page["nextCursor"]}
        raise RpcError(INVALID_REQUEST, "Invalid result", {"details": f"{method} has more than {MAX_PAGES} pages"})

    async def list_tools(self) -> list[dict[str, Any]]:
        """Every tool of the server, from every page."""
        return await self._pages("tools/list", "tools")

    async def list_resources(self) -> list[dict[str, Any]]:
        """Every resource of the server, from every page."""
        return await self._pages("resources/list", "resources")

    async def list_resource_templates(self) -> list[dict[str, Any]]:
        """Every resource template of the server, from every page."""
        return await self._pages("resources/templates/list", "resourceTemplates")

    async def list_prompts(self) -> list[dict[str, Any]]:
        """Every prompt of the server, from every page."""
        return await self._pages("prompts/list", "prompts")

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Result:
        """Call a tool: {"content": […], "structuredContent": …, "isError": …}. A tool that fails raises nothing."""
        params = {"name": name, "arguments": arguments or {}}
        return await self.request("tools/call", params, timeout=timeout, on_progress=on_progress)

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
        await self.request("server/discover" if self.protocol_version in spec.MODERN else "ping")

    async def set_log_level(self, level: str) -> None:
        """Want log messages of this level and above: on this connection, or, in the modern era, with each request."""
        self._log_level = level
        if self.protocol_version not in spec.MODERN:
            await self.request("logging/setLevel", {"level": level})

    # --- listening -------------------------------------------------------------------------------

    async def listen(
        self, *, tools: bool = False, prompts: bool = False, resource_list: bool = False, resources: Iterable[str] = ()
    ) -> AsyncIterator[Message]:
        """Yield change notifications as they come: {"method": "notifications/resources/updated", "params": {"uri": …}}.

        resources: the URIs whose updates are wanted; resource_list: changes of the list itself. Changes that
        come while the caller is busy are kept, each once. Ends when the server ends the subscription,
        raises ConnectionClosed when the connection breaks; leaving the loop cancels the subscription.
        """
        wanted = {"toolsListChanged": tools, "promptsListChanged": prompts, "resourcesListChanged": resource_list}
        uris = list(resources)
        peer = await self._open()
        modern = self.protocol_version in spec.MODERN
        subscription = _Subscription({spec.CHANGES[key] for key, want in wanted.items() if want}, set(uris))
        self._subscriptions.append(subscription)
        try:
            if modern:
                subscription.id = peer.new_id()
                filter = {key: True for key, want in wanted.items() if want}
                params = self._stamped({"notifications": filter | ({"resourceSubscriptions": uris} if uris else {})})
                request = peer.request("subscriptions/listen", params, id=subscription.id)
            else:
                for uri in uris:
                    await self.request("resources/subscribe", {"uri": uri})
                request = peer.wait_closed()
            subscription.ends_with(asyncio.create_task(request))
            async for message in subscription.changes():
                yield message
        finally:
            self._subscriptions.remove(subscription)
            await subscription.close()
            if not modern and not peer.closed:
                for uri in uris:
                    await self.request("resources/unsubscribe", {"uri": uri})

    def _hear(self, method: str) -> Handler:
        async def hear(params: Params, call: Call) -> Result:
            id = params.get("_meta", {}).get(spec.SUBSCRIPTION_ID)
            message = {"method": method, "params": {key: value for key, value in params.items() if key != "_meta"}}
            for subscription in self._subscriptions:
                subscription.add(id, message)
            return {}

        return hear


class _Subscription:
    """What a `listen` loop has not yet taken."""

    def __init__(self, methods: set[str], uris: set[str]) -> None:
        self.id: RequestId | None = None  # None on a legacy connection
        self._methods = methods
        self._uris = uris
        self._pending: dict[tuple[str, Any], Message] = {}  # each change once, in order
        self._changed = asyncio.Event()
        self._end: asyncio.Task[Any] | None = None

    def ends_with(self, task: asyncio.Task[Any]) -> None:
        self._end = task
        task.add_done_callback(lambda _: self._changed.set())

    def add(self, id: RequestId | None, message: Message) -> None:
        method, uri = message["method"], message["params"].get("uri")
        if id == self.id and (method in self._methods or uri in self._uris):
            self._pending[method, uri] = message
            self._changed.set()

    async def changes(self) -> AsyncIterator[Message]:
        assert self._end is not None
        while True:
            while self._pending:
                yield self._pending.pop(next(iter(self._pending)))
            if self._end.done():
                self._end.result()
                return
            await self._changed.wait()
            self._changed.clear()

    async def close(self) -> None:
        if self._end is not None:
            self._end.cancel()
            await asyncio.wait([self._end])


async def open_transport(target: Target, **options: Any) -> Transport:
    """Return the transport that a target needs. Raises OSError when it cannot be opened, TypeError for no target.

    options: of HttpTransport, for a URL; older for HTTP+SSE.
    """
    if isinstance(target, str):
        from .http_transport import HttpTransport, SseTransport  # only those who use HTTP load it

        older = options.pop("older", False)
        return await SseTransport(target, **options).open() if older else HttpTransport(target, **options)
    if hasattr(target, "dispatch"):
        ours, theirs = memory_pair()
        serving = asyncio.create_task(answer(theirs, target.dispatch))
        _serving.add(serving)
        serving.add_done_callback(_serving.discard)
        return ours
    if hasattr(target, "read") and hasattr(target, "write"):
        given: Transport = target
        return given
    from . import stdio

    if isinstance(target, (list, tuple)):
        target = stdio.StdioServerParameters(target[0], list(target[1:]))
    return await stdio.connect_stdio(target)


def _handler(callback: Callback) -> Handler:
    async def handler(params: Params, call: Call) -> Result:
        await call_back(callback, params)
        return {}

    return handler


async def _pong(params: Params, call: Call) -> Result:
    return {}
