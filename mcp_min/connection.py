"""A target becomes a connection: a transport, a peer that speaks over it, a revision that both ends know.

`targets.py` opens the transport. `server.py` answers in whichever era it is spoken to; who speaks
first has to find out. A modern server answers `server/discover`. Whatever else comes of that
question, an error, silence, the death of the child, is the mark of a legacy server, which wants
`initialize`; and where nothing takes a POST, there may be an HTTP+SSE server.

A transport ends when its server does. A connection opens another when it is next asked for
something, and repeats what was lost where that can do no harm.

Spec: 2026-07-28 basic/versioning, basic/transports/stdio#backward-compatibility,
      basic/transports/streamable-http#backward-compatibility; 2025-11-25 basic/lifecycle.
Wire: → {"id":1,"method":"server/discover","params":{"_meta":{…}}}
      ← {"id":1,"result":{"supportedVersions":["2026-07-28"], …}}        a modern server
      ← {"id":1,"error":{"code":-32601, …}}                              a legacy one: `initialize` follows

A connection owns its transport, its peer, the task that reads and the one that opens; `close` ends all four.

Deliberately absent: what there is to ask. `client.py` knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import spec
from .dispatcher import Dispatch
from .jsonrpc import INVALID_REQUEST, ConnectionClosed, Message, Params, Result, RpcError
from .peer import Peer, call_back
from .stream import Transport
from .targets import Target, open_transport

logger = logging.getLogger("mcp_min")

T = TypeVar("T")

PROBE_TIMEOUT = 5.0  # seconds that a server may be silent on `server/discover` before it is taken for a legacy one
MAX_PAUSE = 30.0  # seconds before something is repeated; a server that wants more is left alone
MAX_REMEMBERED = 1000  # targets whose era is remembered
# HTTP statuses, which stand as error codes where the answer was no message.
NO_ENDPOINT = frozenset({400, 404, 405})  # what an HTTP+SSE server says to a POST
NO_ERA = frozenset({401, 403, 429, 502, 503, 504, None})  # what the server of any era may say, None: nothing
# What may be sent again when nobody knows whether the server has acted on it.
REPEATABLE = spec.CACHEABLE | {"ping", "prompts/get", "completion/complete", "logging/setLevel"}

_legacy_targets: set[str] = set()  # targets whose server did not know `server/discover`, to skip it the next time


@dataclass(eq=False, repr=False)
class Connection:
    """One server, from the first `ask` or `opened` to `close`."""

    _target: Target
    _options: dict[str, Any]  # of `open_transport`
    _dispatch: Dispatch  # answers what the server asks and tells
    # What each modern request says of the client: who it is, what it can be asked for. `initialize` says it once.
    _meta: dict[str, Any]
    protocol_version: str | None  # the revision to speak, None to search for one; then the one that both ends know
    _timeouts: dict[str, Any]  # timeout and max_timeout, as `Peer.request` takes them
    _retries: int  # how often something is repeated
    _on_message: Callable[[str, Message], object] | None
    server_info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)  # the server's
    instructions: str | None = None
    transport: Transport = field(init=False)
    peer: Peer = field(init=False)
    _reading: asyncio.Task[None] | None = None
    _opening: asyncio.Task[None] | None = None
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._wanted = self.protocol_version
        self._remote = isinstance(self._target, str)
        # Commands and URLs; the name of an object may be another's tomorrow.
        is_object = hasattr(self._target, "dispatch") or hasattr(self._target, "read")
        self._key = "" if self._wanted or is_object else repr(self._target)

    @property
    def modern(self) -> bool:
        """Whether each request stands alone."""
        return self.protocol_version in spec.MODERN

    # --- opening and closing ---------------------------------------------------------------------

    async def opened(self) -> None:
        """Return when the connection stands, which is opened for the first time or once more if need be.

        Raises OSError, RpcError, TimeoutError, and what `open_transport` does; nothing is left open then.
        """
        while self._closed.is_set() or self._reading is None or self.peer.closed:
            if self._closed.is_set():
                raise ConnectionClosed("the client is closed")
            if self._opening is None or self._opening.done():
                # A task of its own: many may wait for it, and any of them may be cancelled.
                self._opening = asyncio.get_running_loop().create_task(self._search())
            opening = self._opening
            await asyncio.wait([opening])
            if not opening.cancelled():  # by `close`
                opening.result()

    async def close(self) -> None:
        """Close the connection for good; a child process is gone when this returns. Any task may call it, again too."""
        self._closed.set()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._reading is not None:
            self.peer.fail(ConnectionClosed("the connection was closed"))
            try:
                await self.transport.close()
            finally:
                self._reading.cancel()
                await asyncio.wait([self._reading])
                await self.peer.drain(0)

    async def _start(self, **options: Any) -> None:
        await self._hang_up()
        self.transport = transport = await open_transport(self._target, **self._options, **options)
        self.peer = Peer(transport.write if self._on_message is None else self._write, self._dispatch)
        if hasattr(transport, "answered"):
            transport.answered = self._take
        self._reading = asyncio.get_running_loop().create_task(self.peer.run(self._read(transport)))

    # --- finding the era -------------------------------------------------------------------------

    async def _search(self) -> None:
        """Connect in the newest era that the server knows, or in the revision that is wanted."""
        try:
            await self._start()
            if self._wanted in spec.MODERN:
                self._speak(self._wanted)
            elif self._wanted or self._key in _legacy_targets or not await self._discover():
                await self._begin_session()
        except BaseException as problem:
            await self._hang_up()
            if self._key not in _legacy_targets or not isinstance(problem, (ConnectionClosed, RpcError)):
                raise
            # The server may no longer be what it was: `opened`, which finds no connection, begins once more.
            _legacy_targets.discard(self._key)

    def _speak(self, version: str) -> None:
        self.protocol_version = self._meta[spec.PROTOCOL_VERSION] = version

    async def _discover(self) -> bool:
        """Ask the modern way; False when the server is a legacy one."""
        self._speak(spec.MODERN[0])
        probing = self._timeouts if self._remote else {"timeout": PROBE_TIMEOUT}
        try:
            found = await self.peer.request("server/discover", self.stamped({}), **probing)
        # MUST NOT be keyed to one error code (2026-07-28 basic/transports/stdio#backward-compatibility).
        except (RpcError, ConnectionClosed, TimeoutError) as problem:
            code = getattr(problem, "code", None)
            is_modern = code in spec.MODERN_ERRORS and _newest(spec.LEGACY, _supported(problem)) is None
            if is_modern or (self._remote and code in NO_ERA):
                raise
            return False
        offered = found.get("supportedVersions")
        if not isinstance(offered, list) or _newest(spec.SUPPORTED, offered) in spec.LEGACY:
            return False
        self._speak(_agreed(spec.MODERN, offered))
        self._learn(found)
        return True

    async def _begin_session(self) -> None:
        if self.peer.closed:  # it died of the question
            await self._start()
        try:
            await self._initialize()
        except RpcError as refused:
            if not self._remote or refused.code not in NO_ENDPOINT:
                raise
            try:
                await self._start(older=True)
            except RpcError:  # nor is there an event stream
                raise refused from None
            await self._initialize()
        # Which the session before had been told; this server may be another one, which sends no messages.
        if spec.LOG_LEVEL in self._meta and "logging" in self.capabilities:
            await self.peer.request("logging/setLevel", {"level": self._meta[spec.LOG_LEVEL]}, **self._timeouts)
        if self._key and len(_legacy_targets) < MAX_REMEMBERED:
            _legacy_targets.add(self._key)

    async def _initialize(self) -> None:
        """Spec: 2025-11-25 basic/lifecycle#initialization."""
        self.protocol_version = version = self._wanted or spec.LEGACY[0]
        declared = self._meta[spec.CLIENT_CAPABILITIES].items()
        capabilities = {name: value for name, value in declared if spec.CAPABILITY_SINCE.get(name, "") <= version}
        params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": self._meta[spec.CLIENT_INFO]}
        found = await self.peer.request("initialize", params, **self._timeouts)
        self.protocol_version = version = _agreed(spec.LEGACY, [found.get("protocolVersion")])
        self._learn(found)
        self.peer.session.batches = version == spec.BATCHES
        told = self.peer.notify("notifications/initialized")
        await within(self._timeouts["timeout"], told, "the server has not taken notifications/initialized")

    def _learn(self, found: Result) -> None:
        self.capabilities = member(found, "capabilities", dict)
        meta = member(found, "_meta", dict)
        self.server_info = member(found, "serverInfo", dict) or member(meta, spec.SERVER_INFO, dict)
        self.instructions = member(found, "instructions", str) or None

    # --- asking ----------------------------------------------------------------------------------

    async def ask(self, method: str, params: Params, options: dict[str, Any]) -> Result:
        """Send one request; again after a pause where that can do no harm. options: of `Peer.request`, which see."""

        async def once() -> Result:
            await self.opened()
            return await self.peer.request(method, self.stamped(params), **options)

        return await self._repeated(once, harmless=method in REPEATABLE)

    async def _repeated(self, work: Callable[[], Coroutine[Any, Any, T]], harmless: bool) -> T:
        """Do something until it works, and raise its error where that will not help, or is not harmless."""
        attempt = 0
        while True:
            try:
                return await work()
            except (ConnectionClosed, RpcError) as problem:
                attempt += 1
                # SHOULD select one of `supported` and retry (2026-07-28 basic/versioning#protocol-version-negotiation).
                version = _newest(spec.MODERN, _supported(problem)) if self.modern else None
                if version is not None and attempt == 1:
                    self._speak(version)
                    continue
                # Of HTTP's errors: whether the server has the request, and in how many seconds a status passes.
                again = harmless or not getattr(problem, "sent", True)
                wait = getattr(problem, "retry_after", None if isinstance(problem, RpcError) else 0.0)
                passes = wait is not None and wait <= MAX_PAUSE and not self._closed.is_set()
                if not again or not passes or attempt > self._retries:
                    raise
                pause = max(wait, random.uniform(0.05, 0.1) * 2**attempt)
                logger.warning("%s; again in %.1f s", problem, pause)
            await self._sleep(pause)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    def stamped(self, params: Params) -> Params:
        """Add what every modern request MUST carry (2026-07-28 basic/index#_meta)."""
        return params | {"_meta": params.get("_meta", {}) | self._meta} if self.modern else params

    # --- messages --------------------------------------------------------------------------------

    async def _take(self, message: Message) -> None:
        if self._on_message is not None:
            await call_back(self._on_message, "←", message)
        self.peer.receive(message)

    async def _read(self, transport: Transport) -> AsyncIterator[Any]:
        async for message in transport.read():
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


def _supported(problem: Exception) -> Any:
    if isinstance(problem, RpcError) and problem.code == spec.UNSUPPORTED_VERSION and isinstance(problem.data, dict):
        return problem.data.get("supported")
    return None


def _newest(versions: tuple[str, ...], offered: Any) -> str | None:
    return next((version for version in versions if isinstance(offered, list) and version in offered), None)


def _agreed(versions: tuple[str, ...], offered: list[Any]) -> str:
    version = _newest(versions, offered)
    if version is None:
        details = f"the server speaks {offered!r:.200}, this client {', '.join(spec.SUPPORTED)}"
        raise RpcError(spec.UNSUPPORTED_VERSION, "No protocol version in common", {"details": details})
    return version


async def within(seconds: float | None, work: Awaitable[T], problem: str) -> T:
    """Return what some work comes to. Raises TimeoutError, with words, where that takes longer."""
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise TimeoutError(f"{problem} within {seconds} seconds") from None


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
