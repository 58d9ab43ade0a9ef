"""Tools, resources and prompts: what is registered, and how a list shows it.

`signature.py` reads a function; this file makes a `Feature` of it: the definition that lists show,
the schemas that check what goes in and out, and the function itself.

Spec: 2026-07-28 server/tools, server/resources, server/prompts (#data-types of each), basic/index#icons.
Wire: {"name":"add","description":"Add two numbers.","inputSchema":{…},"outputSchema":{"type":"integer"}}

Deliberately absent: methods; `server.py` answers those.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import headers, spec
from .content import Content, ToolResult
from .context import Context
from .json_schema import Schema
from .signature import Signature, read_signature
from .uri_template import UriTemplate

Function = Callable[..., Any]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")  # SHOULD (2026-07-28 server/tools#tool-names)


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """One registered tool, resource, template or prompt."""

    definition: dict[str, Any]  # what lists show to the newest revision
    function: Function
    signature: Signature
    input: Schema  # checks the arguments
    output: Schema | None = None  # checks a tool's structured result
    run_in_thread: bool = True  # where the function is a `def`
    template: UriTemplate | None = None  # a resource template's
    caching: dict[str, Any] = field(default_factory=dict)  # a resource's own ttlMs and cacheScope
    mirrored: dict[str, tuple[str, ...]] = field(default_factory=dict)  # Mcp-Param header: path of the argument
    scopes: frozenset[str] = frozenset()  # that the caller must have been granted
    legacy_definition: dict[str, Any] = field(default_factory=dict)  # with an outputSchema that is an object

    def shown(self, version: str) -> dict[str, Any]:
        """Return the definition as a peer of this revision knows it."""
        definition = self.definition if version in spec.MODERN else self.legacy_definition or self.definition
        return spec.known_members(definition, version)

    @property
    def wrapped(self) -> bool:
        """Whether legacy revisions see the structured result as {"result": …}, since it need not be an object."""
        return bool(self.legacy_definition)


def make_tool(
    function: Function,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    annotations: dict[str, Any] | None = None,
    icons: list[dict[str, Any]] | None = None,
    meta: dict[str, Any] | None = None,
    input_schema: dict[str, Any] | None = None,
    output_schema: dict[str, Any] | None = None,
    run_in_thread: bool = True,
    scopes: tuple[str, ...] = (),
) -> Feature:
    """Return the tool that `function` is; what is not given is read from its name, docstring and annotations.

    input_schema and output_schema replace those made from annotations; with input_schema, arguments
    reach the function as they came, under its parameters' names or in `**kwargs`.
    Raises TypeError for an annotation that is not understood, ValueError for a schema or a name that is wrong.
    """
    signature = read_signature(
        function,
        context_type=Context,
        plain=(Content, ToolResult),
        given_schema=input_schema,
        given_output=output_schema,
    )
    name = name or str(getattr(function, "__name__", ""))
    if not _NAME.fullmatch(name):
        raise ValueError(f"tool name {name!r}: use 1 to 128 of the characters A-Z a-z 0-9 _ . -, or give name=…")
    if signature.input_schema.get("type") != "object":
        raise ValueError(f'tool {name!r}: the input schema must have "type": "object"')
    output = signature.output_schema
    definition = _definition(
        {"name": name, "title": title, "description": description or signature.description},
        {"inputSchema": signature.input_schema, "outputSchema": output},
        {"annotations": annotations, "icons": icons, "_meta": meta},
    )
    legacy = {}
    if output is not None and output.get("type") != "object":
        legacy = definition | {"outputSchema": _wrap(output)}
    return Feature(
        definition,
        function,
        signature,
        Schema(signature.input_schema),
        Schema(output) if output is not None else None,
        run_in_thread,
        mirrored=headers.mirrored_arguments(signature.input_schema),
        scopes=frozenset(scopes),
        legacy_definition=legacy,
    )


def make_resource(
    uri: str,
    function: Function,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    mime_type: str | None = None,
    size: int | None = None,
    annotations: dict[str, Any] | None = None,
    icons: list[dict[str, Any]] | None = None,
    meta: dict[str, Any] | None = None,
    ttl_ms: int | None = None,
    cache_scope: str | None = None,
    run_in_thread: bool = True,
) -> Feature:
    """Return the resource, or with `{name}` in the URI the template, whose contents `function` returns.

    size is in bytes, ttl_ms in milliseconds. Raises TypeError when the function's parameters are not
    the template's variables, ValueError for a template that cannot be matched.
    """
    signature = read_signature(function, context_type=Context, plain=(Content,), check_output=False)
    template = UriTemplate(uri) if "{" in uri else None
    names = template.names if template is not None else []
    takes = list(signature.input_schema["properties"])
    if set(takes) != set(names):
        raise TypeError(f"resource {uri!r}: the function takes {takes}, the URI gives {names}; they must be the same")
    definition = _definition(
        {"uri" if template is None else "uriTemplate": uri, "name": name or getattr(function, "__name__", uri)},
        {"title": title, "description": description or signature.description, "mimeType": mime_type, "size": size},
        {"annotations": annotations, "icons": icons, "_meta": meta},
    )
    caching = _definition({"ttlMs": ttl_ms, "cacheScope": cache_scope})
    schema = Schema(signature.input_schema)
    return Feature(definition, function, signature, schema, None, run_in_thread, template, caching)


def make_prompt(
    function: Function,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    icons: list[dict[str, Any]] | None = None,
    meta: dict[str, Any] | None = None,
    run_in_thread: bool = True,
) -> Feature:
    """Return the prompt whose messages `function` returns; its arguments arrive as strings. Raises as make_tool."""
    signature = read_signature(function, context_type=Context, check_output=False)
    required = signature.input_schema.get("required", [])
    arguments = [
        _definition({"name": key, "description": schema.get("description"), "required": key in required})
        for key, schema in signature.input_schema["properties"].items()
    ]
    definition = _definition(
        {"name": name or getattr(function, "__name__", ""), "title": title},
        {"description": description or signature.description, "arguments": arguments or None},
        {"icons": icons, "_meta": meta},
    )
    return Feature(definition, function, signature, Schema(signature.input_schema), None, run_in_thread)


def _definition(*members: dict[str, Any]) -> dict[str, Any]:
    return {key: value for part in members for key, value in part.items() if value not in (None, "")}


def _wrap(output: dict[str, Any]) -> dict[str, Any]:
    # References inside begin at the root, so definitions move up with them.
    inner = {key: value for key, value in output.items() if key != "$defs"}
    wrapped: dict[str, Any] = {"type": "object", "properties": {"result": inner}, "required": ["result"]}
    return wrapped | ({"$defs": output["$defs"]} if "$defs" in output else {})
