"""One server and the way to it: found, opened, opened again when it is lost.

`targets.py` opens a transport; a `Connection` adds the protocol's beginning. It asks the modern way
first, takes anything but a modern answer for a legacy server's, and remembers what it found.

Spec: 2026-07-28 basic/versioning, basic/transports/stdio#backward-compatibility; 2025-11-25 basic/lifecycle.
Wire: → {"id":1,"method":"server/discover","params":{"_meta":{…}}}
      ← {"id":1,"result":{"supportedVersions":["2026-07-28"], …}}        a modern server
      ← {"id":1,"error":{"code":-32601, …}}                              a legacy one: `initialize` follows

A connection owns its transport, its peer and the task that reads; `close` ends all three.

Deliberately absent: what is asked of the server; `client.py` asks.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from . import spec
from .dispatcher import Dispatcher, Handler
from .jsonrpc import ConnectionClosed, Message, Params, Result, RpcError
from .peer import Peer, call_back
from .stream import Transport
from .targets import Target, open_transport

logger = logging.getLogger("mcp_min")

PROBE_TIMEOUT = 5.0  # seconds that a server may be silent on `server/discover` before it is taken for a legacy one
# What can be sent again when it is unknown whether the server has acted on it.
REPEATABLE = spec.CACHEABLE | {"ping", "initialize", "prompts/get", "completion/complete", "logging/setLevel"}
# HTTP statuses, which stand as error codes where an answer was no message.
BUSY = frozenset({429, 502, 503, 504})
NOT_TAKEN = frozenset({429, 503})  # the server says that it did nothing
NO_ENDPOINT = frozenset({400, 404, 405})  # what a server of 2024-11-05 says to a POST
MAX_PAUSE = 30.0  # seconds that a server may ask us to wait

_legacy_targets: set[str] = set()  # those whose server did not know `server/discover`, to skip the probe next time


class Connection:
    """A connection to `target`; `methods` answers what the server sends, `declared` are our capabilities."""

    def __init__(
        self,
        target: Target,
        methods: dict[str, Handler],
        *,
        declared: dict[str, Any],
        client_info: dict[str, Any] | None,
        protocol_version: str | None,
        timeouts: dict[str, Any],
        retries: int,
        on_message: Callable[[str, Message], object] | None,
        transport_options: dict[str, Any],
    ) -> None:
        if protocol_version is not None and protocol_version not in spec.SUPPORTED:
            raise ValueError(f"protocol_version {protocol_version!r}: there are {', '.join(spec.SUPPORTED)}")
        self.protocol_version: str | None = protocol_version
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self._target = target
        self._transport_options = transport_options
        self._wanted_version = protocol_version
        self._declared = declared
        self._info = client_info or {"name": "mcp_min", "version": "0.1.0"}
        self._timeouts = timeouts
        self._retries = retries
        self._on_message = on_message
        self._log_level: str | None = None
        self._dispatcher = Dispatcher(methods)
        self._peer: Peer | None = None
        self._transport: Transport | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

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
            peer = await self._start() if peer.closed else peer  # a server may die of the question
        try:
            return await self._initialize(peer)
        except RpcError as refused:
            if refused.code not in NO_ENDPOINT or not isinstance(self._target, str):
                raise
        return await self._initialize(await self._start(older=True))

    async def _start(self, **options: Any) -> Peer:
        await self.close()
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
        """Return what is declared to a server of this revision."""
        return {name: value for name, value in self._declared.items() if spec.CAPABILITY_SINCE.get(name, "") <= version}

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
