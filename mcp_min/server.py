"""Tools, resources, prompts, completion: what stands in the dispatcher's table.

Everything below this file carries messages; this one gives them meaning. A `Server` is a dict of handlers behind one
dispatcher, and one function around them all, which decides for each request whether it is of the modern era
(everything it needs is in its `_meta`) or of a legacy connection (what `initialize` settled is in the session).
Handlers are written once and do not know which.

Spec: 2026-07-28 basic/index, basic/versioning, server/*; 2025-11-25 basic/lifecycle, server/*.
Wire: → {"id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2},"_meta":{…}}}
      ← {"id":1,"result":{"content":[{"type":"text","text":"3"}],"structuredContent":3,
         "resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{…}}}}

The server owns what is registered and the set of listeners. It owns no connection, and may stand behind many.

Deliberately absent: transports; `serving.py` joins the two.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import secrets
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import Any

from . import content, headers, jsonrpc, spec
from .catalogue import Catalogue
from .content import ToolResult
from .context import Caller, Context, InputRequired, ToolError, questions_in
from .dispatcher import Call, Dispatcher, Handler
from .features import Feature, caching_hints
from .jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, Params, Result, RpcError, invalid_params
from .request_state import RequestState
from .signature import to_json

logger = logging.getLogger("mcp_min")

Middleware = Callable[[Handler, Params, Context], Awaitable[Result]]

_COMPLETE: Result = {"resultType": "complete"}
MAX_COMPLETIONS = 100  # values in one answer, MUST (server/utilities/completion#completion-results)
_SCALARS = frozenset({str, int, float, bool, type(None)})
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=to_json).encode


class Server(Catalogue):
    """Tools, resources and prompts, ready for any transport.

    info: more of what `serverInfo` says (title, description, websiteUrl, icons). page_size: items in a page of a list.
    ttl_ms (milliseconds) and cache_scope ("private", "public"): how long, and by whom, lists and resources may be
    cached. state_key: 32 secret bytes, the same for all instances that answer the same clients; made at random by
    default. show_errors: send the text of unexpected exceptions to the client. extensions: in the capabilities, by id.
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
        if page_size < 1:
            raise ValueError(f"page_size={page_size}: a page of a list has at least 1 item")
        self.info: dict[str, Any] = {"name": name, "version": version} | (info or {})
        self.instructions = instructions
        self.extensions |= extensions or {}
        self.methods |= {"initialize": self._initialize, "ping": self._pong, "server/discover": self._discover}
        self.methods["logging/setLevel"] = self._set_level
        self.offerable |= {
            "tools/list": self._lister("tools", self.tools),
            "tools/call": self._call_tool,
            "resources/list": self._lister("resources", self.resources),
            "resources/templates/list": self._lister("resourceTemplates", self.templates),
            "resources/read": self._read_resource,
            "prompts/list": self._lister("prompts", self.prompts),
            "prompts/get": self._get_prompt,
            "completion/complete": self._complete,
        }
        self._page_size = page_size
        self._caching = caching_hints(ttl_ms, cache_scope)
        self._show_errors = show_errors
        self.request_state = RequestState(state_key or secrets.token_bytes(32))
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
            checked = jsonrpc.check(message)
        except RpcError as problem:
            return jsonrpc.error(problem.id, problem)
        return await self.dispatch(checked, Call(principal=principal)) if "method" in checked else None

    def run(self, transport: str | None = None, **options: Any) -> None:
        """Serve until the end of input or a signal; see `serving.run`."""
        from .serving import run  # the one import that looks down: servers know no transport

        run(self, transport, **options)

    async def _in_its_era(self, handler: Handler, params: Params, call: Call) -> Result:
        """Give a handler the `Context` of its request, and finish its result as the revision wants it."""
        method, meta = call.message["method"], params.get("_meta", {})
        header = None if call.headers is None else call.headers.get(spec.VERSION_HEADER)
        # A request is modern when its `_meta` or its version header says so, or its method exists nowhere else.
        call.stands_alone = (
            (isinstance(meta, dict) and spec.PROTOCOL_VERSION in meta)
            or method in spec.MODERN_METHODS
            or (header is not None and header not in spec.LEGACY and method != "initialize")
        )
        if not isinstance(meta, dict):
            raise invalid_params("_meta must be an object")
        for layer in reversed(self._middleware):
            handler = partial(layer, handler)
        if not call.stands_alone:
            state = {} if call.session is None else call.session.state
            caller = state.get("caller") or Caller(header or spec.ASSUMED, log_level="info")
            return await handler(params, Context(call, caller))
        ctx = Context(call, self._modern_caller(method, params, meta, call))
        if "inputResponses" in params or "requestState" in params:
            self._recall(method, params, ctx)
        try:
            result = await handler(params, ctx)
        except (InputRequired, BaseExceptionGroup) as problem:
            asked = questions_in(problem)
            sealed = self.request_state.seal(ctx.answers, ctx.round + 1, method, params, call.principal)
            result = {"resultType": "input_required", "inputRequests": asked, "requestState": sealed}
        # MUST include resultType (basic#result-responses); SHOULD include serverInfo (basic/index#_meta).
        result = _COMPLETE | result
        if method in spec.CACHEABLE and result["resultType"] == "complete":
            result = self._caching | result
        return result | {"_meta": {spec.SERVER_INFO: self.info} | result.get("_meta", {})}

    def _modern_caller(self, method: str, params: Params, meta: dict[str, Any], call: Call) -> Caller:
        """Check a modern request in the order that HTTP clients rely on: keys, version, headers, method, level."""
        version, info = meta.get(spec.PROTOCOL_VERSION), meta.get(spec.CLIENT_INFO, {})
        capabilities, level = meta.get(spec.CLIENT_CAPABILITIES), meta.get(spec.LOG_LEVEL)
        # MUST be included on every request; -32602 where they are not (2026-07-28 basic/index#_meta).
        if not isinstance(version, str) or not isinstance(capabilities, dict) or not isinstance(info, dict):
            needed = f"{spec.PROTOCOL_VERSION} (a string) and {spec.CLIENT_CAPABILITIES} (an object)"
            raise invalid_params(f"_meta needs {needed}, and {spec.CLIENT_INFO} is an object")
        # MUST match the version in `_meta` (basic/transports/streamable-http#protocol-version-header).
        if call.headers is not None and call.headers.get(spec.VERSION_HEADER) != version:
            raise headers.mismatch(call.headers, spec.VERSION_HEADER, version)
        if version not in spec.MODERN:
            data = {"supported": list(spec.MODERN), "requested": version}
            raise RpcError(spec.UNSUPPORTED_VERSION, "Unsupported protocol version", data)
        if call.headers is not None:
            tool = self.tools.get(str(params.get("name"))) if method == "tools/call" else None
            headers.check_request(call.headers, method, params, tool.mirrored if tool else {})
        if method in spec.LEGACY_METHODS:
            details = f"{method!r} ended with 2025-11-25; supported here: {', '.join(spec.SUPPORTED)}"
            raise RpcError(METHOD_NOT_FOUND, "Method not found", {"details": details})
        if level is not None and level not in spec.LOG_LEVELS:
            raise invalid_params(f"{spec.LOG_LEVEL} must be one of {', '.join(spec.LOG_LEVELS)}, not {level!r:.50}")
        return Caller(version, info, capabilities, level)

    def _recall(self, method: str, params: Params, ctx: Context) -> None:
        """Take up what earlier rounds of this request have learned."""
        responses = params.get("inputResponses")
        ctx.responses = {} if responses is None else responses
        if not isinstance(ctx.responses, dict):
            raise invalid_params("inputResponses must be an object")
        if "requestState" in params:
            ctx.answers, ctx.round = self.request_state.open(params["requestState"], method, params, ctx.principal)

    # --- the two beginnings ----------------------------------------------------------------------

    async def _initialize(self, params: Params, ctx: Context) -> Result:
        requested, session = params.get("protocolVersion"), ctx.call.session
        capabilities, info = params.get("capabilities", {}), params.get("clientInfo", {})
        if not isinstance(requested, str) or not isinstance(capabilities, dict) or not isinstance(info, dict):
            raise invalid_params("protocolVersion must be a string, capabilities and clientInfo objects")
        # MUST respond with the same version if supported, else with the latest one that is
        # (2025-11-25 basic/lifecycle#version-negotiation).
        version = requested if requested in spec.LEGACY else spec.LEGACY[0]
        if session is not None:
            session.state["caller"] = Caller(version, info, capabilities, "info")
            session.batches = version == spec.BATCHES
            self._listen_to_session(session)
        info = spec.known_members(self.info, version)
        return self._described({"protocolVersion": version, "serverInfo": info}, version)

    async def _discover(self, params: Params, ctx: Context) -> Result:
        return self._described({"supportedVersions": list(spec.SUPPORTED)}, ctx.client.version)

    def _described(self, result: Result, version: str) -> Result:
        result["capabilities"] = self.capabilities(version)
        return result if self.instructions is None else result | {"instructions": self.instructions}

    async def _pong(self, params: Params, ctx: Context) -> Result:
        return {}

    async def _set_level(self, params: Params, ctx: Context) -> Result:
        if params.get("level") not in spec.LOG_LEVELS:
            raise invalid_params(f"level must be one of {', '.join(spec.LOG_LEVELS)}")
        ctx.client.log_level = params["level"]  # the session's, where there is one
        return {}

    # --- lists -----------------------------------------------------------------------------------

    def _lister(self, kind: str, table: Mapping[str, Feature]) -> Handler:
        async def page(params: Params, ctx: Context) -> Result:
            start = _offset(params.get("cursor", ""), len(table))
            end = start + self._page_size
            result: Result = {kind: [item.shown(ctx.client.version) for item in list(table.values())[start:end]]}
            if end < len(table):
                result["nextCursor"] = urlsafe_b64encode(str(end).encode()).decode()
            return result

        return page

    # --- tools -----------------------------------------------------------------------------------

    async def _call_tool(self, params: Params, ctx: Context) -> Result:
        name, arguments = params.get("name"), params.get("arguments")
        tool = self.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            raise invalid_params(f"name: there is no tool {name!r:.200}")
        if ctx.call.scopes is not None and not tool.scopes <= ctx.call.scopes:
            data = {"scopes": sorted(tool.scopes), "details": f"the tool {name} needs the scopes {sorted(tool.scopes)}"}
            raise RpcError(spec.INSUFFICIENT_SCOPE, "Insufficient scope", data)
        arguments = {} if arguments is None else arguments
        plain = tool.input.fits_plainly(arguments)
        errors = [] if plain else tool.input.errors(arguments, "arguments")
        if errors and not isinstance(arguments, dict):
            raise invalid_params("arguments must be an object")
        # Input errors are for the model to read and mend (2025-11-25 server/tools#error-handling).
        if errors:
            return _failed("\n".join(errors))
        try:
            # An `async def` that takes its arguments as they came is called here, the shortest way there is.
            direct = plain and tool.signature.is_async and tool.signature.context_name is None
            value = await (tool.function(**arguments) if direct else _run(tool, arguments, ctx))
            return _tool_result(tool, value, ctx)
        except RpcError:
            raise
        except ToolError as error:
            return _failed(str(error))
        # A tool may do anything, sys.exit() included, and whatever becomes of it, the call has an answer.
        except (Exception, SystemExit) as error:
            logger.exception("the tool %s failed", name)
            return _failed(f"the tool {name} failed" + (f": {error}" if self._show_errors else ""))

    # --- resources, prompts, completion ----------------------------------------------------------

    async def _read_resource(self, params: Params, ctx: Context) -> Result:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise invalid_params("uri must be a string")
        try:
            resource, variables = self._find_resource(uri)
            value = await _run(resource, variables, ctx)
        except FileNotFoundError:
            # MUST answer with an error, not with empty contents (2026-07-28 server/resources#error-handling).
            code = INVALID_PARAMS if ctx.call.stands_alone else spec.RESOURCE_NOT_FOUND
            data = {"uri": uri, "details": f"uri: there is no resource {uri!r:.200}"}
            raise RpcError(code, "Resource not found", data) from None
        blocks = content.blocks(value) or [content.contents(uri, value, resource.definition.get("mimeType"))]
        return {"contents": blocks} | (resource.caching if ctx.call.stands_alone else {})

    def _find_resource(self, uri: str) -> tuple[Feature, dict[str, str]]:
        if uri in self.resources:
            return self.resources[uri], {}
        for feature in self.templates.values():
            variables = None if feature.template is None else feature.template.match(uri)
            if variables is not None and not feature.input.errors(variables):
                return feature, variables
        raise FileNotFoundError(uri)

    async def _get_prompt(self, params: Params, ctx: Context) -> Result:
        name, arguments = params.get("name"), params.get("arguments")
        prompt = self.prompts.get(name) if isinstance(name, str) else None
        if prompt is None:
            raise invalid_params(f"name: there is no prompt {name!r:.200}")
        arguments = {} if arguments is None else arguments
        if errors := prompt.input.errors(arguments, "arguments"):
            raise invalid_params("; ".join(errors))
        messages = content.prompt_messages(await _run(prompt, arguments, ctx), ctx.client.version)
        description = prompt.definition.get("description")
        return {"messages": messages} | ({} if description is None else {"description": description})

    async def _complete(self, params: Params, ctx: Context) -> Result:
        arguments = {name: params.get(name) for name in ("ref", "argument")} | {"context": params.get("context", {})}
        if self.completer is None or not all(isinstance(argument, dict) for argument in arguments.values()):
            raise invalid_params("ref and argument must be objects, and context if there is one")
        values = await _run(self.completer, arguments, ctx)
        total = len(values)
        return {"completion": {"values": values[:MAX_COMPLETIONS], "total": total, "hasMore": total > MAX_COMPLETIONS}}


async def _run(feature: Feature, arguments: dict[str, Any], ctx: Context) -> Any:
    """Call the function: `async def` here, `def` in a thread, so that one that blocks stalls nobody else."""
    signature = feature.signature
    kwargs = signature.bind(arguments)
    if signature.context_name is not None:
        kwargs = {**kwargs, signature.context_name: ctx}
    if signature.is_async or not feature.run_in_thread or not _threads_start():
        value = feature.function(**kwargs)
    else:
        value = await asyncio.to_thread(feature.function, **kwargs)
    # A `def` may return a coroutine: a decorated `async def` does.
    return await value if inspect.isawaitable(value) else value


@cache
def _threads_start() -> bool:
    """Whether this interpreter has threads; a browser's has none. Tried once."""
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        return False
    return True


def _tool_result(tool: Feature, value: Any, ctx: Context) -> Result:
    """Return what a tool returned as the revision wants it. Raises TypeError or ValueError for what is not JSON."""
    whole: Result = {}
    blocks: Any = None
    if isinstance(value, ToolResult):
        whole, blocks = value, value.get("content", [])
    elif isinstance(value, (dict, list)):
        blocks = content.blocks(value)
    if blocks is not None:
        result = whole | {"content": [content.known_content(block, ctx.client.version) for block in blocks]}
    elif value is None and tool.output is None:
        result = {"content": []}
    else:
        plain = tool.output is None and isinstance(value, str)
        # An int is its own JSON, and spares the call an encoder.
        text = value if plain else str(value) if type(value) is int else _dump(value)
        text.encode()  # half of a surrogate pair is no text, and nothing could send it
        result = {"content": [{"type": "text", "text": text}]}
        if not plain:
            # Enum members and the like as JSON shows them.
            result["structuredContent"] = value if type(value) in _SCALARS else json.loads(text)
    structured = result.get("structuredContent")
    # MUST provide structured results that conform to the output schema (server/tools#output-schema).
    output = None if "isError" in result else tool.output
    errors = [] if output is None or output.fits_plainly(structured) else output.errors(structured, "result")
    if errors:
        return _failed("the tool's structured result does not fit its output schema:\n" + "\n".join(errors))
    if ctx.client.version < spec.MEMBER_SINCE["structuredContent"]:
        return spec.known_members(result, ctx.client.version)
    bare = "structuredContent" in result and (tool.wrapped or not isinstance(structured, dict))
    if bare and not ctx.call.stands_alone:
        result["structuredContent"] = {"result": structured}
    return result


def _offset(cursor: Any, length: int) -> int:
    if cursor == "":  # a valid cursor, like any other string (server/utilities/pagination)
        return 0
    try:
        offset = int(urlsafe_b64decode(cursor))
    except (TypeError, ValueError):
        offset = -1
    if not 0 < offset <= length:
        raise invalid_params("cursor: not one of this list; begin again without a cursor")
    return offset


def _failed(text: str) -> Result:
    return {"content": [{"type": "text", "text": text}], "isError": True}
