"""The client's end of Streamable HTTP, and of HTTP+SSE before it: messages out as POSTs, messages in from answers.

`http_client.py` moves bytes; here they become a transport like any other. Every message goes out as
a POST of its own, in the task that writes it: a request has been written when its answer has been
read, and who cancels the write closes the response. What comes back, as JSON or as events, from that
response or from a standing stream, is read in the order of its arrival.

Spec: 2026-07-28 basic/transports/streamable-http; 2025-11-25 basic/transports#streamable-http;
      2024-11-05 basic/transports#http-with-sse.
Wire: → POST /mcp, Mcp-Session-Id, MCP-Protocol-Version {"jsonrpc":"2.0","id":2,"method":"tools/call", …}
      ← 200 text/event-stream   id: 3-1 ⏎ retry: 500 ⏎ data: {"jsonrpc":"2.0", …}
      → GET /mcp, Last-Event-ID: 3-1                       when the stream ends before the answer

A transport owns its HTTP client, the responses being read, and the tasks that read the standing stream and what
answered streams have left.

Deliberately absent: authorization. A `headers` function brings it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from asyncio import sleep
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, NoReturn
from urllib.parse import urljoin

from . import headers as mcp_headers
from . import jsonrpc, spec, sse
from .http_client import HttpClient, HttpError, Response, Timeouts, split_url
from .jsonrpc import ConnectionClosed, Message, RequestId, RpcError

logger = logging.getLogger("mcp_min")

MAX_UNREAD = 256  # messages that wait for `read`; past it, responses are read no further
RETRY = 1.0  # seconds before a stream that has ended is asked for again, where the server names none
MIN_RETRY = 0.1  # seconds, whatever the server names: it may name 0, and end every stream at once
MAX_SILENT = 5  # streams in a row without an event: each doubles the pause, then their request is given up
ACCEPTED = 30.0  # seconds in which a server must take what it need not answer
GOODBYE = 2.0  # seconds for the DELETE of a session, and for the rest of a stream after its answer
ENDPOINT_TIMEOUT = 10.0  # seconds in which an HTTP+SSE server must say where to post
EVENTS = "text/event-stream"
ACCEPT = f"application/json, {EVENTS}"  # MUST list both
# What a server says that may not say it a moment later.
BUSY = frozenset({429, 502, 503, 504})

HeaderSource = Mapping[str, str] | Callable[[], Any]


class SessionEnded(ConnectionClosed):
    """The server has forgotten the session, and not done what was asked, which may be `sent` again in another one."""

    sent = False


class Refused(RpcError):
    """An HTTP status that carried no answer. `code` is the status, positive, so that no peer's error looks like it.

    retry_after: seconds until it is worth another try, None when it never is. sent: as for HttpError.
    """

    def __init__(self, response: Response, message: str, data: Any = None) -> None:
        status, wait = response.status, response.headers.get("retry-after", "")
        super().__init__(status, message, data)
        told = wait.isascii() and wait.isdigit() and len(wait) < 10
        self.retry_after = (float(wait) if told else 0.0) if status in BUSY else None
        # Only the server itself asks to be left alone for a while; other 5xx may come from between.
        self.sent = not (status == 429 or (status == 503 and told))


class HttpTransport:
    """One server at one URL.

    headers: sent with every request; a mapping, or a function (`def` or `async def`) that returns one
    and is asked again after a 401. http: an HttpClient with other limits, timeouts or certificates,
    which serves this transport alone and is closed with it.
    """

    def __init__(self, url: str, *, headers: HeaderSource | None = None, http: HttpClient | None = None) -> None:
        split_url(url)  # raises ValueError now and not with the first message
        self.url = url
        self._headers = headers if callable(headers) else _lowered(headers or {})
        # An answer may take as long as the tool; how long that is allowed to be is the caller's affair.
        self._http = http or HttpClient(timeouts=Timeouts(head=None, read=None))
        self._arrived: asyncio.Queue[Any] = asyncio.Queue(MAX_UNREAD)
        # Takes an answer that came whole; may be replaced by what saves it the way through `read`.
        self.answered: Callable[[Message], Coroutine[Any, Any, None]] = self._arrived.put
        self._writing: set[asyncio.Timeout] = set()  # by which `close` ends what is being written
        self._tasks: set[asyncio.Task[None]] = set()  # the standing stream, and rests of others
        self._modern = True  # until a server has taken `initialize`
        self._session: dict[str, str] = {}  # the headers that `initialize` has settled: the version, and who we are
        self._mirrored: dict[str, mcp_headers.Mirrored] = {}  # tool name: arguments that are headers too
        self._closed = False

    # --- the Transport ---------------------------------------------------------------------------

    async def read(self) -> AsyncIterator[Any]:
        while (item := await self._arrived.get()) is not None:
            if isinstance(item, ConnectionClosed):
                raise item
            yield item

    async def write(self, message: Any) -> None:
        """POST a message; for a request, until its answer has come, which `read` yields.

        Raises ConnectionClosed when none will come, RpcError for a status that says so, and what a
        `headers` function raises. Cancelled, it closes the response; the server may have acted.
        """
        if self._closed:
            raise ConnectionClosed("the transport is closed")
        body = jsonrpc.encode(message)
        message = message if isinstance(message, dict) else {}
        method = message.get("method")
        if method == "notifications/cancelled" and self._modern:
            return  # closing the response was the signal (2026-07-28 basic/patterns/cancellation)
        asked = message if method is not None and "id" in message else {}
        scope = asyncio.timeout(None if asked else ACCEPTED)
        self._writing.add(scope)
        try:
            async with scope:
                own = {"content-type": "application/json", **self._repeated(message)}
                response = await self._request("POST", own, body)
                await self._take(response, asked)
        except TimeoutError:
            raise HttpError("the transport was closed" if self._closed else f"not taken within {ACCEPTED} s") from None
        finally:
            self._writing.discard(scope)
        if method == "notifications/initialized":
            self._start(self._stand())

    async def close(self) -> None:
        """End every request, and the session at the server."""
        if self._closed:
            return
        self._closed = True
        for scope in self._writing:
            if not scope.expired():  # of itself, in this very moment
                scope.reschedule(0)
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if spec.SESSION_HEADER in self._session:
                async with asyncio.timeout(GOODBYE):
                    (await self._request("DELETE", {})).close()
        except Exception as error:  # of the network, or of a `headers` function
            logger.debug("the session was left to expire: %s", error)
        finally:
            self._http.close()
            while self._arrived.full():
                self._arrived.get_nowait()
            self._arrived.put_nowait(None)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._closed:
            task.cancel()

    # --- requests --------------------------------------------------------------------------------

    async def identity(self) -> Mapping[str, str]:
        """Return the headers that say who asks, names in lower case."""
        if not callable(self._headers):
            return self._headers
        given = self._headers()
        return _lowered(await given if inspect.isawaitable(given) else given)

    async def _request(self, verb: str, extra: Mapping[str, str], body: bytes | None = None) -> Response:
        own = {"accept": ACCEPT, **self._session, **extra}
        response = await self._http.request(verb, self.url, {**own, **await self.identity()}, body)
        if response.status == 401 and callable(self._headers):
            await response.read()
            response = await self._http.request(verb, self.url, {**own, **await self.identity()}, body)
        return response

    def _repeated(self, message: Message) -> dict[str, str]:
        """Return the headers that repeat a modern message's body."""
        if not self._modern or "method" not in message:
            return {}
        tool = message.get("params", {}).get("name", "") if message["method"] == "tools/call" else ""
        return mcp_headers.request_headers(message, self._mirrored.get(tool, {}))

    async def _take(self, response: Response, asked: Message) -> None:
        """Read a response: until it answers what was asked, or to its end where that was nothing ({})."""
        kind = _kind(response)
        if asked and response.status == 200 and kind == EVENTS:
            await self._follow(response, asked)
            return
        body = await response.read()
        if asked:
            answer = self._answer(response, kind, body, asked["id"])
            await self.answered(self._learn(answer, asked, response))
        elif response.status >= 400:
            logger.warning("the server did not take a message: HTTP %d %.200r", response.status, body)

    def _answer(self, response: Response, kind: str, body: bytes, id: RequestId) -> Message:
        """Return the answer that a response is as a whole. Raises Refused, SessionEnded."""
        details = {"details": f"the server answered with {kind or 'no content type'}"}
        if kind == "application/json":
            details = {"details": "the server answered another request"}
            try:
                answer = jsonrpc.decode(body)
            except RpcError as problem:
                answer, details = {}, problem.data
            if "method" not in answer and answer.get("id") == id:
                return answer
            # What was refused before its id was read has none. A modern error tells the era all the same.
            if "error" in answer and answer.get("id") is None:
                error = answer["error"]
                if response.status < 400 or error["code"] in spec.MODERN_ERRORS:
                    return answer | {"id": id}
                self._refuse(response, error["message"], error.get("data"))
        self._refuse(response, f"HTTP {response.status} from {self.url}", details)

    def _refuse(self, response: Response, message: str, data: Any = None) -> NoReturn:
        if response.status == 404 and spec.SESSION_HEADER in self._session:
            # MUST start a new session (2025-11-25 basic/transports#session-management): with a new connection.
            reason = "the server has ended the session (404)"
            # Others wait for an answer to what the server may have done: for them it is any lost connection.
            with contextlib.suppress(asyncio.QueueFull):  # many may hear of it, and nobody reads on after the first
                self._arrived.put_nowait(ConnectionClosed(reason))
            raise SessionEnded(reason)
        raise Refused(response, message, data)

    def _learn(self, answer: Message, asked: Message, response: Response) -> Message:
        """Take from an answer what later requests need."""
        result, method = answer.get("result", {}), asked["method"]
        if method == "initialize" and "error" not in answer:
            self._modern = False
            self._session = {spec.VERSION_HEADER: str(result.get("protocolVersion"))}
            if spec.SESSION_HEADER in response.headers:
                self._session[spec.SESSION_HEADER] = response.headers[spec.SESSION_HEADER]
        if method == "tools/list" and self._modern and isinstance(result.get("tools"), list):
            result["tools"] = [tool for tool in result["tools"] if self._is_valid(tool)]
        return answer

    def _is_valid(self, tool: Any) -> bool:
        """MUST exclude a tool with an invalid `x-mcp-header`, SHOULD log a warning (2026-07-28 server/tools)."""
        try:
            self._mirrored[tool["name"]] = mcp_headers.mirrored_arguments(tool.get("inputSchema"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.warning("a tool is left out: %s: %.200r", error, tool)
            return False
        return True

    # --- event streams ---------------------------------------------------------------------------

    async def _follow(self, response: Response | None, asked: Message) -> None:
        """Read events until the answer to what was asked; a stream that ends before is taken up where that can help.

        Where nothing was asked ({}), for ever. Spec: 2025-11-25 basic/transports#resumability-and-redelivery.
        Raises Refused, ConnectionClosed.
        """
        last_event_id, pause, silent, broken = "", RETRY, 0, ""
        while True:
            parser = sse.Parser()
            try:
                response = response or await self._reopen(last_event_id)
                if await self._read_events(response, parser, asked):
                    self._start(_read_rest(response))
                    return
            except (HttpError, sse.TooLong) as error:
                broken = f": {error}"
            response = None
            if parser.last_event_id:
                silent = 0
                # What is not printable cannot be sent back.
                last_event_id = parser.last_event_id if parser.last_event_id.isprintable() else ""
            pause = pause if parser.retry is None else max(parser.retry / 1000, MIN_RETRY)
            if asked and (self._modern or not last_event_id or silent == MAX_SILENT):
                raise HttpError(f"the stream ended before the answer{broken}")
            # MUST respect the retry field (2025-11-25 basic/transports#sending-messages-to-the-server).
            await sleep(pause * 2 ** min(silent, MAX_SILENT))
            silent += 1

    async def _read_events(self, response: Response, parser: sse.Parser, asked: Message) -> bool:
        answered = False
        try:
            while not answered and (piece := await response.read_some()):
                for event in parser.feed(piece):
                    answered = answered or await self._deliver(event, asked, response)
        finally:
            if not answered:
                response.close()
        return answered

    async def _reopen(self, last_event_id: str) -> Response:
        # UTF-8, says the standard of event streams; HTTP shows it as Latin-1.
        extra = {"last-event-id": last_event_id.encode().decode("latin-1")} if last_event_id else {}
        response = await self._request("GET", {"accept": EVENTS, **extra})
        if response.status != 200 or _kind(response) != EVENTS:
            response.close()
            self._refuse(response, f"HTTP {response.status} from {self.url}: no event stream")
        return response

    async def _deliver(self, event: sse.Event, asked: Message, response: Response) -> bool:
        """Pass on what an event holds. Returns whether it was the answer to what was asked."""
        if not event.data:  # it has only brought an id to resume from
            return False
        try:
            found = jsonrpc.decode_any(event.data.encode())
        except RpcError as problem:
            logger.warning("skipped an event that is no message: %s", problem)
            return False
        if asked and isinstance(found, dict) and "method" not in found and found.get("id") == asked["id"]:
            await self._arrived.put(self._learn(found, asked, response))
            return True
        await self._arrived.put(found)
        return False

    async def _stand(self) -> None:
        """Hold the stream for what the server says unasked; a server may have none (405)."""
        try:
            await self._follow(None, {})
        except (Refused, SessionEnded) as error:
            logger.debug("no standing stream: %s", error)
        # Whatever a `headers` function raises; here nobody else would hear of it.
        except Exception:
            logger.exception("no standing stream")


class SseTransport(HttpTransport):
    """HTTP+SSE, the transport of 2024-11-05: one stream for everything that comes, and a URL to post to."""

    async def open(self) -> SseTransport:
        """Open the stream and learn where to post. Raises Refused, ConnectionClosed."""
        self._modern = False
        self._endpoint: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ENDPOINT_TIMEOUT):
                self._start(self._listen(await self._reopen("")))
                endpoint = urljoin(self.url, await self._endpoint)
            # A server may not send its client elsewhere with what was meant for itself.
            if split_url(endpoint)[0] != split_url(self.url)[0]:
                raise ValueError(f"the endpoint {endpoint} is of another origin")
            self.url = endpoint
        except BaseException as error:
            await self.close()
            if isinstance(error, (HttpError, TimeoutError, ValueError)):
                text = str(error) or f"no endpoint within {ENDPOINT_TIMEOUT} s"
                raise HttpError(f"HTTP+SSE at {self.url}: {text}", sent=False) from None
            raise
        return self

    async def _listen(self, response: Response) -> None:
        reason = "the server closed its event stream"
        try:
            await self._read_events(response, sse.Parser(), {})
        except (HttpError, sse.TooLong) as error:
            reason = str(error)
        if not self._endpoint.done():
            self._endpoint.set_exception(HttpError(reason))
        await self._arrived.put(ConnectionClosed(reason))

    async def _deliver(self, event: sse.Event, asked: Message, response: Response) -> bool:
        if event.event != "endpoint":
            return await super()._deliver(event, asked, response)
        if not self._endpoint.done():
            self._endpoint.set_result(event.data)
        return False

    async def _take(self, response: Response, asked: Message) -> None:
        # "Accepted": the answer comes by the stream.
        await super()._take(response, asked if response.status >= 400 else {})


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _kind(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_rest(response: Response) -> None:
    """Read the end of a stream that has served its purpose, so that its connection can serve another request."""
    with contextlib.suppress(HttpError, TimeoutError):
        async with asyncio.timeout(GOODBYE):
            while await response.read_some():
                pass
