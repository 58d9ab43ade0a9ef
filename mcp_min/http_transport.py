"""The client's end of Streamable HTTP, and of HTTP+SSE before it: messages out as POSTs, messages in from answers.

`http_client.py` moves bytes; here they become a transport like any other. Every message goes out as
a POST of its own, and what comes back, as JSON or as events, from that answer or from a standing
stream, is read in the order of its arrival.

Spec: 2026-07-28 basic/transports/streamable-http; 2025-11-25 basic/transports#streamable-http;
      2024-11-05 basic/transports#http-with-sse.
Wire: → POST /mcp, Mcp-Session-Id, MCP-Protocol-Version {"jsonrpc":"2.0","id":2,"method":"tools/call", …}
      ← 200 text/event-stream   id: 3-1 ⏎ retry: 500 ⏎ data: {"jsonrpc":"2.0", …}
      → GET /mcp, Last-Event-ID: 3-1                       when the stream ends before the answer

A transport owns its HTTP client, one task per POST that is being answered, and one for the standing stream.

Deliberately absent: authorization. A `headers` function brings it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import urljoin

from . import headers as mcp_headers
from . import jsonrpc, spec, sse
from .http_client import HttpClient, HttpError, Response, Timeouts, split_url
from .jsonrpc import ConnectionClosed, Message, RequestId, RpcError

logger = logging.getLogger("mcp_min")

RETRY = 1.0  # seconds before a lost stream is asked for again, where the server names none
MAX_RESUMPTIONS = 10  # of one stream, without an event between them
DELETE_TIMEOUT = 2.0  # seconds for the goodbye to a session
ACCEPT = "application/json, text/event-stream"  # MUST list both

HeaderSource = Mapping[str, str] | Callable[[], Any]


class _Lost(ConnectionClosed):
    """One request's answer will not come. sent: False when the server cannot have seen the request."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class HttpTransport:
    """One server at one URL.

    headers: sent with every request; a mapping, or a function (`def` or `async def`) that returns one
    and is asked again after each 401. http: an HttpClient with other limits, timeouts or certificates.
    """

    def __init__(self, url: str, *, headers: HeaderSource | None = None, http: HttpClient | None = None) -> None:
        split_url(url)  # raises ValueError now and not with the first message
        self.url = url
        # Told of a request whose answer will not come, where the connection as a whole goes on.
        self.on_lost: Callable[[RequestId, ConnectionClosed], None] = lambda id, reason: None
        self._headers = headers or {}
        # A head may take as long as the tool; how long that is allowed to be is the caller's affair.
        self._http = http or HttpClient(timeouts=Timeouts(head=None))
        self._arrived: asyncio.Queue[Message | ConnectionClosed | None] = asyncio.Queue()
        self._tasks: dict[Any, asyncio.Task[None]] = {}  # by request id; others under names of their own
        self._session: str | None = None
        self._version: str | None = None  # negotiated by `initialize`
        self._mirrored: dict[str, mcp_headers.Mirrored] = {}  # tool name: arguments that are headers too
        self._closed = False

    # --- the Transport ---------------------------------------------------------------------------

    async def read(self) -> AsyncIterator[Any]:
        while (item := await self._arrived.get()) is not None:
            if isinstance(item, ConnectionClosed):
                raise item
            yield item

    async def write(self, message: Any) -> None:
        """Start the POST of a message; what it brings comes by `read`, what goes wrong by `on_lost`."""
        if self._closed:
            raise ConnectionClosed("the transport is closed")
        body = jsonrpc.encode(message)
        method = message.get("method")
        cancelled = message.get("params", {}).get("requestId") if method == "notifications/cancelled" else None
        if cancelled is not None and self._version is None and cancelled in self._tasks:
            # Closing the response is the signal in the modern era (2026-07-28 basic/patterns/cancellation).
            self._tasks[cancelled].cancel()
            return
        id = message.get("id") if method is not None else None
        self._start(id if id is not None else object(), self._post(message, body, id))

    async def close(self) -> None:
        """End the session at the server, and every request."""
        if self._closed:
            return
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        try:
            if self._session is not None:
                async with asyncio.timeout(DELETE_TIMEOUT):
                    (await self._request("DELETE", {})).close()
        except (OSError, TimeoutError) as error:
            logger.debug("the session was left to expire: %s", error)
        finally:
            self._http.close()
            self._arrived.put_nowait(None)

    def _start(self, key: Any, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    # --- requests --------------------------------------------------------------------------------

    async def _request(self, verb: str, extra: Mapping[str, str], body: bytes | None = None) -> Response:
        given = self._headers() if callable(self._headers) else self._headers
        given = await given if inspect.isawaitable(given) else given
        own = {"accept": ACCEPT} | ({} if body is None else {"content-type": "application/json"})
        if self._session is not None:
            own[spec.SESSION_HEADER] = self._session
        if self._version is not None:
            own[spec.VERSION_HEADER] = self._version
        return await self._http.request(verb, self.url, {**own, **extra, **given}, body)

    async def _post(self, message: Message, body: bytes, id: RequestId | None) -> None:
        try:
            params = message.get("params", {})
            modern = spec.PROTOCOL_VERSION in params.get("_meta", {})
            mirrored = self._mirrored.get(str(params.get("name")), {}) if message.get("method") == "tools/call" else {}
            extra = mcp_headers.request_headers(message, mirrored) if modern else {}
            response = await self._request("POST", extra, body)
            if response.status == 401 and callable(self._headers):
                response.close()
                response = await self._request("POST", extra, body)
            self._session = response.headers.get(spec.SESSION_HEADER, self._session)
            await self._take(response, message, id)
            if message.get("method") == "notifications/initialized":
                self._start("standing stream", self._stand())
        except (HttpError, TimeoutError, ValueError) as error:
            if id is None:
                logger.warning("a message was lost: %s", error)
                return
            self.on_lost(id, _Lost(str(error), sent=getattr(error, "sent", True)))

    async def _take(self, response: Response, message: Message, id: RequestId | None) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status == 404 and self._session is not None:
            # MUST start a new session (2025-11-25 basic/transports#session-management).
            self._session = None
            self._arrived.put_nowait(ConnectionClosed("the server has ended the session (404)"))
        elif kind == "text/event-stream" and response.status == 200:
            await self._follow(response, message, id)
        else:
            body = await response.read()
            if id is not None:
                self._arrived.put_nowait(self._answer(response, kind, body, message, id))

    def _answer(self, response: Response, kind: str, body: bytes, message: Message, id: RequestId) -> Message:
        try:
            if kind == "application/json":
                answer = jsonrpc.decode(body)
                # To `initialize`, these say that there is no such endpoint, whatever else they say.
                absent = message.get("method") == "initialize" and response.status in (404, 405)
                if response.status < 400 or ("error" in answer and not absent):
                    # A refusal that came before the body was read has no id; it is this request's.
                    return self._learn(answer | {"id": id}, message)
            details = f"the server answered with {kind or 'no content type'}"
        except RpcError as problem:
            details = str(problem)
        # Positive codes are HTTP's: no peer's error can be mistaken for them.
        data = {"details": details}
        if response.headers.get("retry-after", "").isdigit():
            data["retryAfter"] = response.headers["retry-after"]
        error = RpcError(response.status, f"HTTP {response.status} from {self.url}", data)
        return jsonrpc.error(id, error)

    def _learn(self, answer: Message, message: Message) -> Message:
        result, method = answer.get("result", {}), message.get("method")
        if method == "initialize":
            self._version = result.get("protocolVersion", self._version)
        if method == "tools/list" and spec.PROTOCOL_VERSION in message["params"].get("_meta", {}):
            result["tools"] = [tool for tool in result.get("tools", []) if self._is_valid(tool)]
        return answer

    def _is_valid(self, tool: dict[str, Any]) -> bool:
        """MUST exclude a tool with an invalid `x-mcp-header`, SHOULD log a warning (2026-07-28 server/tools)."""
        try:
            self._mirrored[tool["name"]] = mcp_headers.mirrored_arguments(tool.get("inputSchema"))
        except ValueError as error:
            logger.warning("the tool %s is left out: %s", tool.get("name"), error)
            return False
        return True

    # --- event streams ---------------------------------------------------------------------------

    async def _follow(self, response: Response, request: Message, id: RequestId | None) -> None:
        """Read events until the answer to `id`; a stream that ends before is asked for again where it can be."""
        resumptions, last_event_id, retry = 0, "", RETRY
        while True:
            parser = sse.Parser()
            try:
                async for chunk in response.chunks():
                    for event in parser.feed(chunk):
                        resumptions = 0
                        if self._event(event.data, request, id):
                            return
            except HttpError as error:
                logger.debug("a stream broke: %s", error)
            finally:
                response.close()
            last_event_id = parser.last_event_id or last_event_id
            retry = retry if parser.retry is None else parser.retry / 1000
            resumptions += 1
            if self._session is None or not last_event_id or resumptions > MAX_RESUMPTIONS:
                if id is None:
                    return
                raise HttpError("the stream ended before the answer")
            await asyncio.sleep(retry)
            response = await self._request("GET", {"last-event-id": last_event_id})
            if response.status != 200:
                response.close()
                raise HttpError(f"the stream cannot be resumed: HTTP {response.status}")

    def _event(self, data: str, request: Message, id: RequestId | None) -> bool:
        try:
            message = jsonrpc.decode(data.encode())
        except RpcError as problem:
            logger.warning("skipped an event that is no message: %s", problem)
            return False
        is_answer = id is not None and "method" not in message and message.get("id") == id
        self._arrived.put_nowait(self._learn(message, request) if is_answer else message)
        return is_answer

    async def _stand(self) -> None:
        """Hold the stream for what the server says unasked; a server may have none (405)."""
        try:
            response = await self._request("GET", {"accept": "text/event-stream"})
            if response.status == 200:
                await self._follow(response, {}, None)
            else:
                response.close()
        except (HttpError, TimeoutError) as error:
            logger.debug("no standing stream: %s", error)


class SseTransport(HttpTransport):
    """HTTP+SSE, the transport of 2024-11-05: one stream for everything that comes, and a URL to post to."""

    async def open(self) -> SseTransport:
        """Open the stream and learn where to post. Raises HttpError, TimeoutError."""
        response = await self._request("GET", {"accept": "text/event-stream"})
        if response.status != 200 or "text/event-stream" not in response.headers.get("content-type", ""):
            response.close()
            raise HttpError(f"{self.url} opens no event stream: HTTP {response.status}", sent=False)
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._start("stream", self._listen(response, told))
        endpoint = urljoin(self.url, await told)
        # A server may not send its client elsewhere with what was meant for itself.
        if split_url(endpoint)[0] != split_url(self.url)[0]:
            await self.close()
            raise HttpError(f"the server's endpoint {endpoint} is of another origin")
        self.url = endpoint
        return self

    async def _listen(self, response: Response, told: asyncio.Future[str]) -> None:
        parser = sse.Parser()
        reason = ConnectionClosed("the server closed its event stream")
        try:
            async for chunk in response.chunks():
                for event in parser.feed(chunk):
                    if event.event == "endpoint" and not told.done():
                        told.set_result(event.data)
                    else:
                        self._event(event.data, {}, None)
        except (HttpError, ValueError) as error:
            reason = ConnectionClosed(str(error))
        finally:
            response.close()
            if not told.done():
                told.set_exception(HttpError(str(reason)))
            self._arrived.put_nowait(reason)

    async def _take(self, response: Response, message: Message, id: RequestId | None) -> None:
        body = await response.read()
        if response.status >= 400 and id is not None:
            kind = response.headers.get("content-type", "").partition(";")[0]
            self._arrived.put_nowait(self._answer(response, kind, body, message, id))

    def _learn(self, answer: Message, message: Message) -> Message:
        return answer
