"""Tools, resources, prompts, completion: what stands in the dispatcher's table.

Everything below this file carries messages; this one gives them meaning. A `Server` is a dict of
handlers behind one dispatcher, and one middleware, which decides for each request whether it is of
the modern era (everything it needs is in its `_meta`) or of a legacy connection (what `initialize`
settled is in the session). Handlers are written once and do not know which.

Spec: 2026-07-28 basic/index, basic/versioning, server/*; 2025-11-25 basic/lifecycle, server/*.
Wire: → {"id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2},"_meta":{…}}}
      ← {"id":1,"result":{"content":[{"type":"text","text":"3"}],"structuredContent":3,
         "resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{…}}}}

The server owns what is registered and the set of listeners. It owns no connection, and one server
may stand behind many.

Deliberately absent: transports; `serving.py` joins the two.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from . import content, headers, jsonrpc, spec
from .catalogue import Catalogue
from .content import ToolResult
from .context import Caller, Context, InputRequired, ToolError
from .dispatcher import Call, Dispatcher, Handler, Session
from .features import Feature
from .jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, Params, Result, RpcError
from .listener import Listener
from .request_state import RequestState
from .signature import to_json

logger = logging.getLogger("mcp_min")

Middleware = Callable[[Handler, Params, Context], Awaitable[Result]]

MAX_COMPLETIONS = 100  # values in one answer, MUST (server/utilities/completion#data-types)
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class Server(Catalogue):
    """Tools, resources and prompts, ready for any transport.

    info: more of what `serverInfo` says (title, description, websiteUrl, icons). page_size: items in
    a page of a list. ttl_ms (milliseconds) and cache_scope ("private", "public"): how long, and by whom,
    lists may be cached. state_key: 32 secret bytes, the same for all instances that answer the same
    clients; made at random by default. show_errors: send the text of unexpected exceptions to the
    client. extensions: declared in the capabilities, by identifier.
    """

    def __init__(
        self,
        name: str,
        version: str = "0",
        *,
        instructions: str | None = None,
        info: dict[str, Any] | None = None,
        page_size: int = 100,
        ttl_ms: int = 0,
        cache_scope: str = "private",
        state_key: bytes | None = None,
        show_errors: bool = False,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.info: dict[str, Any] = {"name": name, "version": version} | (info or {})
        self.instructions = instructions
        self.extensions = extensions or {}
        self.methods |= {
            "initialize": self._initialize,
            "ping": self._ignore,
            "server/discover": self._discover,
            "subscriptions/listen": self._listen,
            "logging/setLevel": self._set_level,
        }
        self.offerable |= {
            "tools/list": self._lister("tools", self.tools),
            "tools/call": self._call_tool,
            "resources/list": self._lister("resources", self.resources),
            "resources/templates/list": self._lister("resourceTemplates", self.templates),
            "resources/read": self._read_resource,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "prompts/list": self._lister("prompts", self.prompts),
            "prompts/get": self._get_prompt,
            "completion/complete": self._complete,
        }
        self._page_size = page_size
        self._caching: Result = {"ttlMs": ttl_ms, "cacheScope": cache_scope}
        self._show_errors = show_errors
        self._state = RequestState(state_key or secrets.token_bytes(32))
        self._middleware: list[Middleware] = []
        self.dispatch = Dispatcher(self.methods, self._in_its_era).dispatch  # what every transport calls

    def middleware(self, function: Middleware) -> Middleware:
        """Put `async def function(call_next, params, ctx)` around every handler; the last added is the innermost."""
        self._middleware.append(function)
        return function

    # --- answering -------------------------------------------------------------------------------

    async def handle(self, message: Message, *, principal: str | None = None) -> Message | None:
        """Answer one message without any connection: one dict in, one dict or None out.

        Progress and logs have nowhere to go and are dropped; what needs a stream is refused.
        """
        try:
            return await self.dispatch(jsonrpc.check(message), Call(principal=principal))
        except RpcError as problem:
            return jsonrpc.error(problem.id, problem)

    def run(self, transport: str | None = None, **options: Any) -> None:
        """Serve until the end of input or a signal; see `serving.run`."""
        from .serving import run  # the one import that looks down: servers know no transport

        run(self, transport, **options)

    async def _in_its_era(self, handler: Handler, params: Params, call: Call) -> Result:
        """Give a handler the `Context` of its request, and finish its result as the revision wants it."""
        method, meta = call.message["method"], params.get("_meta", {})
        if not isinstance(meta, dict):
            raise _invalid("_meta must be an object")
        for layer in reversed(self._middleware):
            handler = partial(layer, handler)
        header = None if call.headers is None else call.headers.get(spec.VERSION_HEADER)
        # A request is modern when its `_meta` or its version header says so, or its method exists nowhere else.
        modern = spec.PROTOCOL_VERSION in meta or method in spec.MODERN_METHODS
        if not modern and (header is None or header in spec.LEGACY or method == "initialize"):
            state = {} if call.session is None else call.session.state
            caller = state.get("caller") or Caller(header or spec.ASSUMED, log_level="info")
            return await handler(params, Context(call, caller))
        ctx = Context(call, self._modern_caller(method, params, meta, call))
        if method in spec.INPUT_METHODS:
            self._recall(params, ctx)
        try:
            result = await handler(params, ctx)
        except InputRequired as asked:
            sealed = self._state.seal(asked.answers, ctx.round + 1, method, params, call.principal)
            result = {"resultType": "input_required", "inputRequests": asked.questions, "requestState": sealed}
        # MUST include resultType (basic#result-responses); SHOULD include serverInfo (basic/index#_meta).
        result = {"resultType": "complete"} | result
        if method in spec.CACHEABLE and result["resultType"] == "complete":
            result = self._caching | result
        own: Result = {spec.SERVER_INFO: self.info}
        return result | {"_meta": own | result.get("_meta", {})}

    def _modern_caller(self, method: str, params: Params, meta: dict[str, Any], call: Call) -> Caller:
        """Check a modern request in the order that HTTP clients rely on: keys, version, headers, method, level."""
        version = meta.get(spec.PROTOCOL_VERSION)
        # MUST be included on every request; -32602 where they are not (2026-07-28 basic/index#_meta).
        if not isinstance(version, str) or not isinstance(meta.get(spec.CLIENT_CAPABILITIES), dict):
            raise _invalid(f"_meta needs {spec.PROTOCOL_VERSION} (a string) and {spec.CLIENT_CAPABILITIES} (an object)")
        if call.headers is not None:
            headers.check_version(call.headers, version)
        if version not in spec.MODERN:
            data = {"supported": list(spec.MODERN), "requested": version}
            raise RpcError(spec.UNSUPPORTED_VERSION, "Unsupported protocol version", data)
        if call.headers is not None:
            tool = self.tools.get(str(params.get("name"))) if method == "tools/call" else None
            headers.check_request(call.headers, method, params, tool.mirrored if tool else {})
        if method in spec.LEGACY_METHODS:
            details = f"{method!r} ended with 2025-11-25; supported here: {', '.join(spec.SUPPORTED)}"
            raise RpcError(METHOD_NOT_FOUND, "Method not found", {"details": details})
        level = meta.get(spec.LOG_LEVEL)
        if level is not None and level not in spec.LOG_LEVELS:
            raise _invalid(f"{spec.LOG_LEVEL} must be one of {', '.join(spec.LOG_LEVELS)}, not {level!r:.50}")
        return Caller(version, meta.get(spec.CLIENT_INFO, {}), meta[spec.CLIENT_CAPABILITIES], level)

    def _recall(self, params: Params, ctx: Context) -> None:
        """Take up what earlier rounds of this request have learned."""
        responses = params.get("inputResponses") or {}
        if not isinstance(responses, dict):
            raise _invalid("inputResponses must be an object")
        ctx.responses = responses
        if "requestState" in params:
            method, principal = ctx.call.message["method"], ctx.call.principal
            ctx.answers, ctx.round = self._state.open(params["requestState"], method, params, principal)

    # --- the two beginnings ----------------------------------------------------------------------

    async def _initialize(self, params: Params, ctx: Context) -> Result:
        requested = params.get("protocolVersion")
        # MUST respond with the same version if supported, else with the latest one that is
        # (2025-11-25 basic/lifecycle#version-negotiation).
        version = requested if requested in spec.LEGACY else spec.LEGACY[0]
        capabilities, info = params.get("capabilities", {}), params.get("clientInfo", {})
        if not isinstance(requested, str) or not isinstance(capabilities, dict) or not isinstance(info, dict):
            raise _invalid("protocolVersion must be a string, capabilities and clientInfo objects")
        if ctx.call.session is not None:
            ctx.call.session.state["caller"] = Caller(version, info, capabilities, "info")
            ctx.call.session.batches = version == spec.BATCHES
            self._listen_for(ctx.call.session)
        info = spec.known_members(self.info, version)
        return self._described({"protocolVersion": version, "serverInfo": info}, version)

    async def _discover(self, params: Params, ctx: Context) -> Result:
        return self._described({"supportedVersions": list(spec.SUPPORTED)}, ctx.client.version)

    def _described(self, result: Result, version: str) -> Result:
        result["capabilities"] = self.capabilities(version)
        return result if self.instructions is None else result | {"instructions": self.instructions}

    async def _ignore(self, params: Params, ctx: Context) -> Result:
        return {}

    # --- subscriptions and logging ---------------------------------------------------------------

    async def _listen(self, params: Params, ctx: Context) -> Result:
        """Answer only when the subscription ends. Spec: 2026-07-28 basic/patterns/subscriptions."""
        wanted = params.get("notifications", {})
        if not isinstance(wanted, dict) or not isinstance(wanted.get("resourceSubscriptions", []), list):
            raise _invalid("notifications must be an object, its resourceSubscriptions a list")
        if ctx.call.send is None:
            raise _invalid("subscriptions/listen needs a transport that can stream")
        listener = Listener(ctx.call.send, ctx.request_id)
        offered = self.capabilities(ctx.client.version)
        agreed: dict[str, Any] = {}
        for key, method in spec.CHANGES.items():
            if wanted.get(key) is True and method.split("/")[1] in offered:
                listener.methods.add(method)
                agreed[key] = True
        if "resourceSubscriptions" in wanted and "resources" in offered:
            for uri in wanted["resourceSubscriptions"]:
                listener.watch(uri)
            agreed["resourceSubscriptions"] = wanted["resourceSubscriptions"]
        if ctx.call.session is not None:
            ctx.call.session.on_close.append(listener.end)
        self.listeners.add(listener)
        try:
            # MUST be the first message of the subscription.
            await listener.notify("notifications/subscriptions/acknowledged", {"notifications": agreed})
            await listener.run()
        finally:
            self.listeners.discard(listener)
            if ctx.call.session is not None and listener.end in ctx.call.session.on_close:
                ctx.call.session.on_close.remove(listener.end)
        return {"_meta": {spec.SUBSCRIPTION_ID: ctx.request_id}}

    def _listen_for(self, session: Session) -> None:
        """A legacy connection is one listener for as long as it lasts: list changes at once, resources as it asks."""
        if "listener" not in session.state:
            listener = session.state["listener"] = Listener(session.notify)
            listener.methods.update(spec.CHANGES.values())
            self.listeners.add(listener)
            task = asyncio.get_running_loop().create_task(listener.run())
            session.on_close += [lambda: self.listeners.discard(listener), task.cancel]

    async def _subscribe(self, params: Params, ctx: Context) -> Result:
        self._legacy_listener(ctx).watch(params.get("uri"))
        return {}

    async def _unsubscribe(self, params: Params, ctx: Context) -> Result:
        self._legacy_listener(ctx).uris.discard(str(params.get("uri")))
        return {}

    def _legacy_listener(self, ctx: Context) -> Listener:
        if ctx.call.session is None or "listener" not in ctx.call.session.state:
            raise _invalid("subscribing needs a session: send initialize first, on a transport that keeps one")
        listener: Listener = ctx.call.session.state["listener"]
        return listener

    async def _set_level(self, params: Params, ctx: Context) -> Result:
        if params.get("level") not in spec.LOG_LEVELS:
            raise _invalid(f"level must be one of {', '.join(spec.LOG_LEVELS)}")
        ctx.client.log_level = params["level"]  # the session's, where there is one
        return {}

    # --- lists -----------------------------------------------------------------------------------

    def _lister(self, kind: str, table: Mapping[str, Feature]) -> Handler:
        async def page(params: Params, ctx: Context) -> Result:
            start = _offset(params.get("cursor", ""), len(table))
            items = list(table.values())[start : start + self._page_size]
            result: Result = {kind: [feature.shown(ctx.client.version) for feature in items]}
            if start + self._page_size < len(table):
                result["nextCursor"] = urlsafe_b64encode(str(start + self._page_size).encode()).decode()
            return result

        return page

    # --- tools -----------------------------------------------------------------------------------

    async def _call_tool(self, params: Params, ctx: Context) -> Result:
        name = params.get("name")
        tool = self.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            raise _invalid(f"name: there is no tool {name!r:.200}")
        if ctx.call.scopes is not None and not tool.scopes <= ctx.call.scopes:
            data = {"scopes": sorted(tool.scopes), "details": f"the tool {name} needs the scopes {sorted(tool.scopes)}"}
            raise RpcError(spec.INSUFFICIENT_SCOPE, "Insufficient scope", data)
        arguments = _arguments(params)
        # Input errors are for the model to read and mend (2025-11-25 server/tools#error-handling).
        errors = tool.input.errors(arguments, "arguments")
        if errors:
            return _failed("\n".join(errors))
        try:
            return self._tool_result(tool, await _run(tool, arguments, ctx), ctx)
        except RpcError:
            raise
        except ToolError as error:
            return _failed(str(error))
        except (Exception, SystemExit) as error:
            logger.exception("the tool %s failed", name)
            return _failed(f"the tool {name} failed" + (f": {error}" if self._show_errors else ""))

    def _tool_result(self, tool: Feature, value: Any, ctx: Context) -> Result:
        if isinstance(value, ToolResult):
            return dict(value)
        blocks = content.blocks(value) if isinstance(value, (dict, list)) else None
        if blocks is not None:
            return {"content": [content.known_content(block, ctx.client.version) for block in blocks]}
        if tool.output is None and (value is None or isinstance(value, str)):
            return {"content": [] if value is None else [{"type": "text", "text": value}]}
        try:
            text = _dump(value)
        except TypeError:
            value = to_json(value)
            text = _dump(value)
        # MUST provide structured results that conform to the output schema (server/tools#output-schema).
        errors = [] if tool.output is None else tool.output.errors(value, "result")
        if errors:
            return _failed("the tool's result does not fit its output schema:\n" + "\n".join(errors))
        result: Result = {"content": [{"type": "text", "text": text}]}
        if ctx.client.version >= spec.MEMBER_SINCE["structuredContent"]:
            wrapped = ctx.client.version not in spec.MODERN and (tool.wrapped or not isinstance(value, dict))
            result["structuredContent"] = {"result": value} if wrapped else value
        return result

    # --- resources, prompts, completion ----------------------------------------------------------

    async def _read_resource(self, params: Params, ctx: Context) -> Result:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise _invalid("uri must be a string")
        for feature, variables in self._candidates(uri):
            value = await _run(feature, variables, ctx)
            blocks = content.blocks(value) or [content.contents(uri, value, feature.definition.get("mimeType"))]
            return {"contents": blocks} | (feature.caching if ctx.client.version in spec.MODERN else {})
        # MUST answer with an error, not with empty contents (2026-07-28 server/resources#error-handling).
        code = INVALID_PARAMS if ctx.client.version in spec.MODERN else spec.RESOURCE_NOT_FOUND
        raise RpcError(code, "Resource not found", {"uri": uri, "details": f"uri: there is no resource {uri!r:.200}"})

    def _candidates(self, uri: str) -> list[tuple[Feature, dict[str, str]]]:
        if uri in self.resources:
            return [(self.resources[uri], {})]
        matches = [(feature, feature.template.match(uri)) for feature in self.templates.values() if feature.template]
        return [(feature, variables) for feature, variables in matches if variables is not None]

    async def _get_prompt(self, params: Params, ctx: Context) -> Result:
        name = params.get("name")
        prompt = self.prompts.get(name) if isinstance(name, str) else None
        if prompt is None:
            raise _invalid(f"name: there is no prompt {name!r:.200}")
        arguments = _arguments(params)
        errors = prompt.input.errors(arguments, "arguments")
        if errors:
            raise _invalid("; ".join(errors))
        messages = content.prompt_messages(await _run(prompt, arguments, ctx))
        for message in messages:
            message["content"] = content.known_content(message["content"], ctx.client.version)
        description = prompt.definition.get("description")
        return {"messages": messages} | ({} if description is None else {"description": description})

    async def _complete(self, params: Params, ctx: Context) -> Result:
        names = ("ref", "argument")
        if self.completer is None or not all(isinstance(params.get(name), dict) for name in names):
            raise _invalid("ref and argument must be objects")
        arguments = {"ref": params["ref"], "argument": params["argument"], "context": params.get("context", {})}
        values = await _run(self.completer, arguments, ctx)
        total = len(values)
        return {"completion": {"values": values[:MAX_COMPLETIONS], "total": total, "hasMore": total > MAX_COMPLETIONS}}


async def _run(feature: Feature, arguments: dict[str, Any], ctx: Context) -> Any:
    """Call the function: `async def` here, `def` in a thread, so that one that blocks stalls nobody else."""
    signature = feature.signature
    kwargs = signature.bind(arguments)
    if signature.context_name is not None:
        kwargs = {**kwargs, signature.context_name: ctx}
    if signature.is_async:
        return await feature.function(**kwargs)
    if feature.run_in_thread and await _threads_start():
        return await asyncio.to_thread(feature.function, **kwargs)
    return feature.function(**kwargs)


_threads: bool | None = None


async def _threads_start() -> bool:
    """Whether this interpreter has threads; a browser's has none. Tried once."""
    global _threads
    if _threads is None:
        try:
            await asyncio.to_thread(int)
            _threads = True
        except RuntimeError:
            _threads = False
    return _threads


def _arguments(params: Params) -> dict[str, Any]:
    arguments = params.get("arguments")
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise _invalid("arguments must be an object")
    return arguments


def _offset(cursor: Any, length: int) -> int:
    if cursor == "":  # a valid cursor, like any other string (server/utilities/pagination)
        return 0
    try:
        offset = int(urlsafe_b64decode(cursor))
    except (TypeError, ValueError):
        offset = -1
    if not 0 < offset <= length:
        raise _invalid("cursor: not one of this list; begin again without a cursor")
    return offset


def _failed(text: str) -> Result:
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _invalid(details: str) -> RpcError:
    return RpcError(INVALID_PARAMS, "Invalid params", {"details": details})
