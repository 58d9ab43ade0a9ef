"""What a server offers, and who wants to know when that changes.

`features.py` describes one tool, resource or prompt; a `Catalogue` holds them all, in the order in
which they were registered, and the listeners that hear of changes. The first tool registered
brings `tools/list` and `tools/call` to the table of methods, so that what a server declares and
what it answers cannot differ.

Spec: 2026-07-28 server/index, basic/patterns/subscriptions; 2025-11-25 basic/lifecycle#capability-negotiation,
      server/resources#subscriptions.
Wire: "capabilities": {"tools": {"listChanged": true}, "logging": {}}
      → {"id":4,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{…}}}
      ← {"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"toolsListChanged":true}, …}}
      ← {"method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":4}}}

The catalogue owns its listeners for as long as their requests or connections last.

Deliberately absent: all other answers. `server.py` fills the table of methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

from . import features, spec
from .context import Context
from .dispatcher import Handler, Session
from .features import Feature, Function
from .jsonrpc import Params, Result, invalid_params
from .listener import Listener

F = TypeVar("F", bound=Function)

# What is declared with each family; a change of any list is told to whoever asked.
_LIST: dict[str, Any] = {"listChanged": True}
_SETTINGS = {"tools": _LIST, "prompts": _LIST, "resources": _LIST | {"subscribe": True}, "completions": {}}


class Catalogue:
    """The registered features, by name or URI, and the methods that their kinds bring."""

    def __init__(self) -> None:
        self.tools: dict[str, Feature] = {}
        self.resources: dict[str, Feature] = {}
        self.templates: dict[str, Feature] = {}
        self.prompts: dict[str, Feature] = {}
        self.completer: Feature | None = None
        self.extensions: dict[str, dict[str, Any]] = {}  # settings by identifier, as the capabilities declare them
        self.listeners: set[Listener] = set()
        self.methods: dict[str, Handler] = {"subscriptions/listen": self._listen}  # what the dispatcher looks in
        self.offerable: dict[str, Handler] = {  # what moves there with the first feature of its family
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
        }

    # --- registering; at any time ----------------------------------------------------------------

    @overload
    def tool(self, function: F, /) -> F: ...
    @overload
    def tool(self, /, **options: Any) -> Callable[[F], F]: ...
    def tool(self, function: Any = None, /, **options: Any) -> Any:
        """Register a tool: `@server.tool`, or `@server.tool(title="Search")`; options of `features.make_tool`."""
        return self._register("tools", features.make_tool, function, options)

    @overload
    def prompt(self, function: F, /) -> F: ...
    @overload
    def prompt(self, /, **options: Any) -> Callable[[F], F]: ...
    def prompt(self, function: Any = None, /, **options: Any) -> Any:
        """Register a prompt: `@server.prompt`, or with options of `features.make_prompt`."""
        return self._register("prompts", features.make_prompt, function, options)

    def resource(self, uri: str, /, **options: Any) -> Callable[[F], F]:
        """Register a resource, or with `{name}` in the URI a template; options of `features.make_resource`."""
        return lambda function: self._register("resources", partial(features.make_resource, uri), function, options)

    def completion(self, function: F) -> F:
        """Register what completes arguments: function(ref, argument, context) -> list of strings, the best first."""
        self.completer = features.make_completion(function)
        self._offer("completions")
        return function

    def method(self, name: str) -> Callable[[Handler], Handler]:
        """Add a method of your own, or of an extension: `async def handler(params, ctx) -> result`."""

        def register(handler: Handler) -> Handler:
            self.methods[name] = handler
            return handler

        return register

    def _register(self, family: str, make: Callable[..., Feature], function: Any, options: dict[str, Any]) -> Any:
        if function is None:  # the decorator has options, and its function is still to come
            return lambda function: self._register(family, make, function, options)
        feature = make(function, **options)
        tables = {"tools": self.tools, "prompts": self.prompts, "resources": self.resources}
        table = tables[family] if feature.template is None else self.templates
        if feature.key in table:
            raise ValueError(f"{feature.key!r} is registered already; remove it first, or give another name")
        table[feature.key] = feature
        self._offer(family)
        self._post(f"notifications/{family}/list_changed")
        return function

    def _offer(self, family: str) -> None:
        for method in spec.FAMILIES[family]:
            self.methods.setdefault(method, self.offerable[method])

    def remove_tool(self, name: str) -> None:
        """Take a tool away and tell the listeners. Raises KeyError."""
        del self.tools[name]
        self.tools_changed()

    def remove_prompt(self, name: str) -> None:
        """Take a prompt away and tell the listeners. Raises KeyError."""
        del self.prompts[name]
        self.prompts_changed()

    def remove_resource(self, uri: str) -> None:
        """Take a resource or a template away and tell the listeners. Raises KeyError."""
        del (self.resources if uri in self.resources else self.templates)[uri]
        self.resources_changed()

    def capabilities(self, version: str) -> dict[str, Any]:
        """Return what is declared to a client of this revision: what has been registered by now."""
        declared: dict[str, Any] = {"logging": {}}
        declared |= {name: _SETTINGS[name] for name, methods in spec.FAMILIES.items() if methods[0] in self.methods}
        if self.extensions:
            declared["extensions"] = self.extensions
        return {name: value for name, value in declared.items() if spec.CAPABILITY_SINCE.get(name, "") <= version}

    # --- telling of changes; from any thread -----------------------------------------------------

    def tools_changed(self) -> None:
        """Tell every listener that asked for it that the list of tools has changed."""
        self._post("notifications/tools/list_changed")

    def prompts_changed(self) -> None:
        """Tell every listener that asked for it that the list of prompts has changed."""
        self._post("notifications/prompts/list_changed")

    def resources_changed(self) -> None:
        """Tell every listener that asked for it that the list of resources has changed."""
        self._post("notifications/resources/list_changed")

    def resource_updated(self, uri: str) -> None:
        """Tell every listener that watches this resource that it reads differently now."""
        self._post(spec.RESOURCE_UPDATED, uri)

    def _post(self, method: str, uri: str | None = None) -> None:
        for listener in list(self.listeners):
            listener.post((method, uri))

    def end_listeners(self) -> None:
        """End every subscription with its final result, as at shutdown; on the event loop's thread."""
        for listener in list(self.listeners):
            listener.end()

    # --- listening: in the modern era for as long as the request lasts ---------------------------

    async def _listen(self, params: Params, ctx: Context) -> Result:
        """Answer only when the subscription ends. Spec: 2026-07-28 basic/patterns/subscriptions."""
        wanted, session = params.get("notifications"), ctx.call.session
        uris = wanted.get("resourceSubscriptions", []) if isinstance(wanted, dict) else None
        if not isinstance(wanted, dict) or not isinstance(uris, list):
            raise invalid_params("notifications must be an object, its resourceSubscriptions a list")
        if ctx.call.send is None or ctx.request_id is None:
            raise invalid_params("subscriptions/listen must be a request, over a transport that can stream")
        listener, agreed = Listener(ctx.call.send, ctx.request_id), dict[str, Any]()
        offered = self.capabilities(ctx.client.version)
        # MUST NOT send what was not requested; what is not supported yet is left out of the acknowledgement alone, so
        # that the first feature of its kind is told of (2026-07-28 basic/patterns/subscriptions#acknowledgment).
        for key, method in spec.CHANGES.items():
            if wanted.get(key) is True:
                listener.methods.add(method)
                if method.split("/")[1] in offered:
                    agreed[key] = True
        for uri in uris:
            listener.watch(uri)
        if uris and "resources" in offered:
            agreed["resourceSubscriptions"] = uris
        self.listeners.add(listener)
        if session is not None:
            session.on_close.append(listener.end)
        try:
            # MUST be the first message of the subscription (2026-07-28 basic/patterns/subscriptions#acknowledgment).
            await listener.notify("notifications/subscriptions/acknowledged", {"notifications": agreed})
            await listener.run()
        finally:
            self.listeners.discard(listener)
            if session is not None and listener.end in session.on_close:
                session.on_close.remove(listener.end)
        return {"_meta": {spec.SUBSCRIPTION_ID: ctx.request_id}}

    # --- listening: a legacy connection is one listener for as long as it lasts ------------------

    def _listen_to_session(self, session: Session) -> None:
        """Tell this connection of list changes from now on, and of those resources that it will ask for."""
        if "listener" not in session.state:
            listener = session.state["listener"] = Listener(session.notify)
            listener.methods.update(spec.CHANGES.values())
            self.listeners.add(listener)
            task = asyncio.get_running_loop().create_task(listener.run())
            session.on_close += [lambda: self.listeners.discard(listener), task.cancel]

    async def _subscribe(self, params: Params, ctx: Context) -> Result:
        _listener_of(ctx).watch(params.get("uri"))
        return {}

    async def _unsubscribe(self, params: Params, ctx: Context) -> Result:
        _listener_of(ctx).uris.discard(str(params.get("uri")))
        return {}


def _listener_of(ctx: Context) -> Listener:
    if ctx.call.session is None or "listener" not in ctx.call.session.state:
        raise invalid_params("subscribing needs a session: send initialize first, on a transport that keeps one")
    listener: Listener = ctx.call.session.state["listener"]
    return listener
