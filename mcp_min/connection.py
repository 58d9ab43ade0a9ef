"""A target becomes a connection: a transport, a peer that speaks over it, an era that both ends know.

`targets.py` opens the transport. `server.py` answers in whichever era it is spoken to; who speaks
first has to find out. A modern server answers `server/discover`. Whatever else comes of that
question, an error, silence, the death of the child, is the mark of a legacy server, which wants
`initialize`; and where nothing takes a POST, there may be an HTTP+SSE server.

Spec: 2026-07-28 basic/versioning, basic/transports/stdio#backward-compatibility,
      basic/transports/streamable-http#backward-compatibility; 2025-11-25 basic/lifecycle.
Wire: → {"id":1,"method":"server/discover","params":{"_meta":{…}}}
      ← {"id":1,"result":{"supportedVersions":["2026-07-28"], …}}        a modern server
      ← {"id":1,"error":{"code":-32601, …}}                              a legacy one: `initialize` follows

A connection owns its transport, its peer and the task that reads; `close` ends all three.

Deliberately absent: a second life. `client.py` opens another connection when this one is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from . import spec
from .dispatcher import Dispatch
from .jsonrpc import INVALID_REQUEST, ConnectionClosed, Message, Params, Result, RpcError
from .peer import Peer, call_back
from .stream import Transport
from .targets import Target, open_transport

logger = logging.getLogger("mcp_min")

T = TypeVar("T")
Timeouts = dict[str, Any]  # timeout and max_timeout, as `Peer.request` takes them

PROBE_TIMEOUT = 5.0  # seconds that a server may be silent on `server/discover` before it is taken for a legacy one
MAX_REMEMBERED = 1000  # targets whose era is remembered
# HTTP statuses, which stand as error codes where the answer was no message.
NO_ENDPOINT = frozenset({400, 404, 405})  # what an HTTP+SSE server says to a POST
NO_ERA = frozenset({401, 403, 429, 502, 503, 504})  # what the server of any era may say

_legacy_targets: set[str] = set()  # targets whose server did not know `server/discover`, to skip it the next time


class Connection:
    """One server for as long as it stays: `open` it once, `request`, `close`.

    target, options: of `open_transport`. dispatch: answers what the server asks and tells. meta: what each
    modern request says of the client, who it is, what it can be asked for; `initialize` says it once.
    """

    peer: Peer
    transport: Transport

    def __init__(
        self,
        target: Target,
        options: dict[str, Any],
        dispatch: Dispatch,
        meta: dict[str, Any],
        on_message: Callable[[str, Message], object] | None,
    ) -> None:
        self.version = ""  # that both ends speak, or that is being tried
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self._target, self._options = target, options
        self._remote = isinstance(target, str)
        # Commands and URLs; the name of an object may be another's tomorrow.
        self._key = "" if hasattr(target, "dispatch") or hasattr(target, "read") else repr(target)
        self._dispatch = dispatch
        self._meta = meta
        self._on_message = on_message
        self._reading: asyncio.Task[None] | None = None

    @property
    def modern(self) -> bool:
        """Whether each request stands alone."""
        return self.version in spec.MODERN

    async def open(self, wanted: str | None, timeouts: Timeouts) -> None:
        """Connect in the newest era that the server knows, or in the revision `wanted`.

        Raises OSError, RpcError, TimeoutError, and what `open_transport` does; nothing is left open then.
        """
        known_as_legacy = wanted is None and self._key in _legacy_targets
        try:
            await self._search(wanted, known_as_legacy, timeouts)
        except BaseException as problem:
            await self.close()
            _legacy_targets.discard(self._key)
            if not known_as_legacy or not isinstance(problem, RpcError):
                raise
            await self.open(wanted, timeouts)  # the server is no longer what it was

    async def _search(self, wanted: str | None, known_as_legacy: bool, timeouts: Timeouts) -> None:
        await self._start()
        if wanted in spec.MODERN:
            self.version = wanted
            return
        if wanted is None and not known_as_legacy:
            if await self._discover(timeouts):
                return
            if self.peer.closed:  # it died of the question
                await self._start()
        try:
            await self._initialize(wanted or spec.LEGACY[0], timeouts)
        except RpcError as refused:
            if not self._remote or refused.code not in NO_ENDPOINT:
                raise
            try:
                await self._start(older=True)
            except RpcError:  # nor is there an event stream
                raise refused from None
            await self._initialize(wanted or spec.LEGACY[0], timeouts)
        if wanted is None and self._key and len(_legacy_targets) < MAX_REMEMBERED:
            _legacy_targets.add(self._key)

    async def _start(self, **options: Any) -> None:
        await self.close()
        self.transport = await open_transport(self._target, **self._options, **options)
        self.peer = Peer(self.transport.write if self._on_message is None else self._write, self._dispatch)
        if hasattr(self.transport, "answered"):
            self.transport.answered = self._take
        self._reading = asyncio.get_running_loop().create_task(self.peer.run(self._read()))

    async def close(self) -> None:
        """Close the transport and fail what waits for an answer; may be called more than once."""
        if self._reading is not None:
            self.peer.fail(ConnectionClosed("the connection was closed"))
            try:
                await self.transport.close()
            finally:
                self._reading.cancel()
                await asyncio.wait([self._reading])
                await self.peer.drain(0)

    # --- the two beginnings ----------------------------------------------------------------------

    async def _discover(self, timeouts: Timeouts) -> bool:
        """Ask the modern way; False when the server is a legacy one."""
        self.version = spec.MODERN[0]
        probing: Timeouts = timeouts if self._remote else {"timeout": PROBE_TIMEOUT}
        try:
            found = await self.request("server/discover", {}, **probing)
        except RpcError as problem:
            is_modern = problem.code in spec.MODERN_ERRORS and _newest(spec.LEGACY, _supported(problem)) is None
            if is_modern or (self._remote and problem.code in NO_ERA):
                raise
            # MUST NOT be keyed to one error code (2026-07-28 basic/transports/stdio#backward-compatibility).
            return False
        except (TimeoutError, ConnectionClosed):
            if self._remote:  # which is the network's affair, not the server's
                raise
            return False
        offered = found.get("supportedVersions")
        if not isinstance(offered, list) or _newest(spec.SUPPORTED, offered) in spec.LEGACY:
            return False
        self.version = self._agreed(spec.MODERN, offered)
        self._learn(found)
        return True

    async def _initialize(self, version: str, timeouts: Timeouts) -> None:
        """Spec: 2025-11-25 basic/lifecycle#initialization."""
        self.version = version
        declared = self._meta[spec.CLIENT_CAPABILITIES].items()
        capabilities = {name: value for name, value in declared if spec.CAPABILITY_SINCE.get(name, "") <= version}
        params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": self._meta[spec.CLIENT_INFO]}
        found = await self.peer.request("initialize", params, **timeouts)
        self.version = self._agreed(spec.LEGACY, [found.get("protocolVersion")])
        self._learn(found)
        self.peer.session.batches = self.version == spec.BATCHES
        await self.peer.notify("notifications/initialized")

    def _agreed(self, versions: tuple[str, ...], offered: list[Any]) -> str:
        version = _newest(versions, offered)
        if version is None:
            details = f"the server speaks {offered!r:.200}, this client {', '.join(spec.SUPPORTED)}"
            raise RpcError(spec.UNSUPPORTED_VERSION, "No protocol version in common", {"details": details})
        return version

    def _learn(self, found: Result) -> None:
        self.capabilities = member(found, "capabilities", dict)
        self.server_info = member(found, "serverInfo", dict) or member(
            member(found, "_meta", dict), spec.SERVER_INFO, dict
        )
        self.instructions = member(found, "instructions", str) or None

    # --- messages --------------------------------------------------------------------------------

    def stamped(self, params: Params) -> Params:
        """Add what every modern request MUST carry (2026-07-28 basic/index#_meta)."""
        if not self.modern:
            return params
        return params | {"_meta": params.get("_meta", {}) | self._meta | {spec.PROTOCOL_VERSION: self.version}}

    async def request(self, method: str, params: Params, **options: Any) -> Result:
        """Send a request; options, and what is raised, are those of `Peer.request`."""
        try:
            return await self.peer.request(method, self.stamped(params), **options)
        except RpcError as problem:
            # SHOULD select one of `supported` and retry (2026-07-28 basic/versioning#protocol-version-negotiation).
            version = _newest(spec.MODERN, _supported(problem))
            if version is None or not self.modern:
                raise
            self.version = version
        return await self.peer.request(method, self.stamped(params), **options)

    async def _take(self, message: Message) -> None:
        if self._on_message is not None:
            await call_back(self._on_message, "←", message)
        self.peer.receive(message)

    async def _read(self) -> AsyncIterator[Any]:
        async for message in self.transport.read():
            if self._on_message is not None:
                await call_back(self._on_message, "←", message)
            # MUST NOT send responses (2026-07-28 basic/transports/streamable-http#sending-messages).
            if self.modern and "method" in message and "id" in message:
                logger.warning("the server asked, which it must not in this revision: %.200r", message)
            else:
                yield message

    async def _write(self, message: Any) -> None:
        assert self._on_message is not None
        await call_back(self._on_message, "→", message)
        await self.transport.write(message)


def _supported(problem: RpcError) -> Any:
    about_versions = problem.code == spec.UNSUPPORTED_VERSION and isinstance(problem.data, dict)
    return problem.data.get("supported") if about_versions else None


def _newest(versions: tuple[str, ...], offered: Any) -> str | None:
    return next((version for version in versions if isinstance(offered, list) and version in offered), None)


def member(result: Result, name: str, kind: type[T]) -> T:
    """Return what a result says under `name`, or an empty value. Raises RpcError where it is of another kind."""
    value = result.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise invalid_result(f"{name} is {value!r:.50}, which is not of the type {kind.__name__}")
    return value


def invalid_result(details: str) -> RpcError:
    """Return the error for an answer that a server must not give. details: what is wrong with it."""
    return RpcError(INVALID_REQUEST, f"the server's answer has not the form it should have: {details}")
