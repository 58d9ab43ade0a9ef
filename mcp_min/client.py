"""The same from the other end: one method per MCP request, both eras.

`server.py` answers; a `Client` asks. `connection.py` has found out which era the server lives in, and
this file hides the difference: questions of the server reach the same callbacks, whether they come as
requests on a legacy connection or inside an `input_required` result.

Spec: 2026-07-28 basic/patterns/mrtr, basic/patterns/subscriptions, server/*; 2025-11-25 client/*, server/*.
Wire: ← {"id":1,"result":{"resultType":"input_required","inputRequests":{"1":{"method":"elicitation/create", …}}}}
      → {"id":2,"method":"tools/call","params":{…,"inputResponses":{"1":{"action":"accept","content":{…}}}}}

Deliberately absent: a model and a user. Callbacks bring them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from . import spec
from .connection import Connection
from .dispatcher import Call, Handler
from .jsonrpc import INVALID_REQUEST, METHOD_NOT_FOUND, Message, Params, Result, RpcError
from .peer import OnProgress, call_back
from .subscription import Subscription
from .targets import Target

Callback = Callable[[Params], Any]

HEARD = (*spec.CHANGES.values(), spec.RESOURCE_UPDATED, "notifications/subscriptions/acknowledged")
MAX_INPUT_ROUNDS = 32  # of one request
MAX_PAGES = 10_000  # of one list


class Client(Connection):
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
        self._methods: dict[str, Handler] = {"ping": _pong}
        self._questions: dict[str, Callable[[Params], Awaitable[Result]]] = {}
        self._subscriptions: list[Subscription] = []
        declared: dict[str, Any] = {"extensions": extensions} if extensions else {}
        answers = {"elicitation/create": on_elicit, "sampling/createMessage": on_sample, "roots/list": _listed(roots)}
        for method, callback in answers.items():
            if callback is not None:
                declared[spec.CLIENT_CAPABILITY_OF[method]] = {}
                self._answers(method, callback)
        self._methods |= {} if on_log is None else {"notifications/message": _handler(on_log)}
        self._methods |= {method: self._hear(method) for method in HEARD}
        super().__init__(
            target,
            self._methods,
            declared=declared | (capabilities or {}),
            client_info=client_info,
            protocol_version=protocol_version,
            timeouts={"timeout": timeout, "max_timeout": max_timeout},
            retries=retries,
            on_message=on_message,
            transport_options=transport_options,
        )

    async def __aenter__(self) -> Client:
        await self._patiently(None, {}, {})
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

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
            elif kind == "complete" or self.protocol_version not in spec.MODERN or "extensions" in self._declared:
                return result
            else:
                # MUST be considered invalid (2026-07-28 basic#resulttype).
                raise RpcError(INVALID_REQUEST, "Invalid result", {"details": f"unknown resultType {kind!r}"})
        raise RpcError(INVALID_REQUEST, "Invalid result", {"details": f"input asked for {MAX_INPUT_ROUNDS} times"})

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
        subscription = Subscription({spec.CHANGES[key] for key, want in wanted.items() if want}, set(uris))
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
            subscription.ends_with(request)
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


def _handler(callback: Callback) -> Handler:
    async def handler(params: Params, call: Call) -> Result:
        await call_back(callback, params)
        return {}

    return handler


async def _pong(params: Params, call: Call) -> Result:
    return {}


def _listed(roots: Any) -> Callback | None:
    if roots is None:
        return None
    return lambda params: roots() if callable(roots) else roots
