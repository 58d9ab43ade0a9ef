"""What a server offers, and who wants to know when that changes.

`features.py` describes one tool, resource or prompt; a `Catalogue` holds them all, in the order in
which they were registered, and the listeners that hear of changes. The first tool registered
brings `tools/list` and `tools/call` to the table of methods, so that what a server declares and
what it answers cannot differ.

Spec: 2026-07-28 server/index, basic/patterns/subscriptions; 2025-11-25 basic/lifecycle#capability-negotiation.
Wire: "capabilities": {"tools": {"listChanged": true}, "logging": {}}

Deliberately absent: answers. `server.py` fills the table of methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import features, spec
from .dispatcher import Handler
from .features import Feature
from .listener import Listener

Function = Callable[..., Any]

# What is declared with each family; a change of any list is told to whoever asked.
_SETTINGS: dict[str, dict[str, Any]] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
}


class Catalogue:
    """The registered features, by name or URI, and the methods that their kinds bring."""

    def __init__(self) -> None:
        self.tools: dict[str, Feature] = {}
        self.resources: dict[str, Feature] = {}
        self.templates: dict[str, Feature] = {}
        self.prompts: dict[str, Feature] = {}
        self.completer: Feature | None = None
        self.listeners: set[Listener] = set()
        self.methods: dict[str, Handler] = {}  # what the dispatcher looks in
        self.offerable: dict[str, Handler] = {}  # what moves to `methods` with the first feature of a kind
        self.extensions: dict[str, dict[str, Any]] = {}

    # --- registering -----------------------------------------------------------------------------

    def tool(self, function: Function | None = None, /, **options: Any) -> Any:
        """Register a tool: `@server.tool`, or `@server.tool(title="Search")`; options of `features.make_tool`."""
        if function is None:
            return lambda function: self.tool(function, **options)
        feature = features.make_tool(function, **options)
        self._add("tools", self.tools, feature.definition["name"], feature)
        return function

    def resource(self, uri: str, /, **options: Any) -> Callable[[Function], Function]:
        """Register a resource, or with `{name}` in the URI a template; options of `features.make_resource`."""

        def register(function: Function) -> Function:
            feature = features.make_resource(uri, function, **options)
            self._add("resources", self.resources if feature.template is None else self.templates, uri, feature)
            return function

        return register

    def prompt(self, function: Function | None = None, /, **options: Any) -> Any:
        """Register a prompt: `@server.prompt`, or with options of `features.make_prompt`."""
        if function is None:
            return lambda function: self.prompt(function, **options)
        feature = features.make_prompt(function, **options)
        self._add("prompts", self.prompts, feature.definition["name"], feature)
        return function

    def completion(self, function: Function) -> Function:
        """Register what completes arguments: function(ref, argument, context) -> list of strings, the best first."""
        self.completer = features.make_tool(function, name="completion", input_schema={"type": "object"})
        self._offer("completions")
        return function

    def method(self, name: str) -> Callable[[Handler], Handler]:
        """Add a method of your own, or of an extension: `async def handler(params, ctx) -> result`."""

        def register(handler: Handler) -> Handler:
            self.methods[name] = handler
            return handler

        return register

    def _add(self, kind: str, table: dict[str, Feature], key: str, feature: Feature) -> None:
        if key in table:
            raise ValueError(f"{key!r} is registered already; remove it first, or give another name")
        table[key] = feature
        self._offer(kind)
        self._post(f"notifications/{kind}/list_changed")

    def _offer(self, kind: str) -> None:
        self.methods |= {method: self.offerable[method] for method in spec.FAMILIES[kind]}

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
        declared |= {kind: _SETTINGS[kind] for kind, methods in spec.FAMILIES.items() if methods[0] in self.methods}
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
        """End every subscription with its final result, as at shutdown."""
        for listener in list(self.listeners):
            listener.end()
