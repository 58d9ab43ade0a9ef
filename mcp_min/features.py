"""Tools, resources and prompts: what is registered, and how a list shows it.

`signature.py` reads a function; this file makes a `Feature` of it: the definition that lists show,
the schemas that check what goes in and out, and the function itself. Whatever could go wrong in
every call goes wrong here, when the function is registered.

Spec: 2026-07-28 server/tools, server/resources, server/prompts (#data-types of each), basic/index#icons.
Wire: {"name":"add","description":"Add two numbers.","inputSchema":{…},"outputSchema":{"type":"integer"}}
      {"name":"add", …,"outputSchema":{"type":"object","properties":{"result":{"type":"integer"}}, …}}   before 2026

A feature owns nothing and never changes.

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

# What may be given beside a function, and what it is called on the wire. size is in bytes.
_MEMBERS = {"name": "name", "title": "title", "description": "description", "mime_type": "mimeType", "size": "size"}
_MEMBERS |= {"annotations": "annotations", "icons": "icons", "meta": "_meta"}


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """One registered tool, resource, template or prompt."""

    key: str  # the name or URI by which requests mean it
    definition: dict[str, Any]  # what lists show to the newest revision
    function: Function
    signature: Signature
    input: Schema  # checks the arguments
    run_in_thread: bool = True  # where the function is a `def`
    output: Schema | None = None  # checks a tool's structured result
    wrapped: bool = False  # that result need not be an object: legacy revisions see {"result": …}
    mirrored: dict[str, tuple[str, ...]] = field(default_factory=dict)  # Mcp-Param header: path of the argument
    scopes: frozenset[str] = frozenset()  # that the caller must have been granted
    template: UriTemplate | None = None  # a resource template's
    caching: dict[str, Any] = field(default_factory=dict)  # a resource's own ttlMs and cacheScope

    def shown(self, version: str) -> dict[str, Any]:
        """Return the definition as a peer of this revision knows it."""
        definition = spec.known_members(self.definition, version)
        if self.wrapped and version not in spec.MODERN and "outputSchema" in definition:
            inner = _moved(definition["outputSchema"])
            definition["outputSchema"] = {"type": "object", "properties": {"result": inner}, "required": ["result"]}
        return definition


def make_tool(
    function: Function,
    *,
    input_schema: dict[str, Any] | None = None,
    output_schema: dict[str, Any] | None = None,
    run_in_thread: bool = True,
    scopes: tuple[str, ...] = (),
    **members: Any,
) -> Feature:
    """Return the tool that `function` is.

    members: name, title, description, annotations, icons, meta; name and description are by default
    the function's. input_schema and output_schema replace those made from annotations; with
    input_schema, arguments reach the function as they came, under its parameters' names or in
    `**kwargs`. run_in_thread: False for a `def` that is short, or bound to the event loop's thread.
    scopes: of the authorization, without which a caller is refused.

    Spec: 2026-07-28 server/tools#tool. Raises TypeError for an annotation or an option that is not
    understood, ValueError for a schema or a name that is wrong.
    """
    plain = (Content, ToolResult) if output_schema is None else None
    signature = read_signature(function, context_type=Context, plain=plain, given_schema=input_schema)
    takes, gives = signature.input_schema, signature.output_schema if output_schema is None else output_schema
    if output_schema is None and gives in ({"type": "array"}, {"type": "array", "items": {}}):
        gives = None  # a list of anything may be one of content, which is no structured result
    definition = _define(function, signature, members)
    name = definition["name"]
    if not _NAME.fullmatch(name):
        raise ValueError(f"tool name {name!r}: use 1 to 128 of the characters A-Z a-z 0-9 _ . -, or give name=…")
    # MUST be a valid JSON Schema object, and arguments are one (server/tools#tool).
    if takes.get("type") != "object":
        raise ValueError(f'tool {name!r}: the input schema must have "type": "object"')
    return Feature(
        name,
        definition | {"inputSchema": takes} | ({} if gives is None else {"outputSchema": gives}),
        function,
        signature,
        Schema(takes),
        run_in_thread,
        None if gives is None else Schema(gives),
        wrapped=gives is not None and gives.get("type") != "object",
        mirrored=headers.mirrored_arguments(takes),
        scopes=frozenset(scopes),
    )


def make_resource(
    uri: str,
    function: Function,
    *,
    ttl_ms: int | None = None,
    cache_scope: str | None = None,
    run_in_thread: bool = True,
    **members: Any,
) -> Feature:
    """Return the resource, or with `{name}` in the URI the template, whose contents `function` returns.

    members: as for `make_tool`, and mime_type, size (bytes). ttl_ms (milliseconds), cache_scope: where
    they differ from the server's. A function that raises FileNotFoundError says that there is no such
    resource.

    Spec: 2026-07-28 server/resources#resource, #resource-templates. Raises TypeError when the function's
    parameters are not the template's variables, ValueError for a template that cannot be matched.
    """
    signature = read_signature(function, context_type=Context)
    template = UriTemplate(uri) if "{" in uri else None
    gives = [] if template is None else template.names
    takes = _string_parameters(signature, f"resource {uri!r}")
    if set(takes) != set(gives):
        raise TypeError(f"resource {uri!r}: the function takes {takes}, the URI gives {gives}; they must be the same")
    definition = {"uri" if template is None else "uriTemplate": uri}
    definition |= _define(function, signature, {"name": getattr(function, "__name__", uri)} | members)
    checks, hints = Schema(signature.input_schema), caching_hints(ttl_ms, cache_scope)
    return Feature(uri, definition, function, signature, checks, run_in_thread, template=template, caching=hints)


def make_prompt(function: Function, *, run_in_thread: bool = True, **members: Any) -> Feature:
    """Return the prompt whose messages `function` returns. members: as for `make_tool`.

    Spec: 2026-07-28 server/prompts#prompt. Raises TypeError for a parameter that no string fits, since
    a prompt's arguments are strings.
    """
    signature = read_signature(function, context_type=Context)
    definition = _define(function, signature, members)
    schema, arguments = signature.input_schema, []
    for name in _string_parameters(signature, f"prompt {definition['name']!r}"):
        described = {key: text for key, text in schema["properties"][name].items() if key in ("title", "description")}
        arguments.append({"name": name, **described, "required": name in schema["required"]})
    if arguments:
        definition["arguments"] = arguments
    return Feature(definition["name"], definition, function, signature, Schema(schema), run_in_thread)


def make_completion(function: Function) -> Feature:
    """Return what completes arguments: function(ref, argument, context) -> list of strings, the best first."""
    signature = read_signature(function, context_type=Context)
    names = list(signature.input_schema["properties"])
    if set(names) != {"ref", "argument", "context"}:
        raise TypeError(f"a completion takes ref, argument and context, and not {', '.join(names) or 'nothing'}")
    return Feature("", {}, function, signature, Schema(signature.input_schema))


def caching_hints(ttl_ms: int | None, cache_scope: str | None) -> dict[str, Any]:
    """Return the hints that are given, by their names on the wire. Raises ValueError for what none may be."""
    # MUST be >= 0, and "public" or "private" (2026-07-28 server/utilities/caching#cacheable-model).
    if (ttl_ms or 0) < 0 or cache_scope not in (None, "private", "public"):
        raise ValueError(f"ttl_ms={ttl_ms}, cache_scope={cache_scope!r}: 0 or more milliseconds, 'private' or 'public'")
    hints = {"ttlMs": ttl_ms, "cacheScope": cache_scope}
    return {key: hint for key, hint in hints.items() if hint is not None}


def _define(function: Function, signature: Signature, members: dict[str, Any]) -> dict[str, Any]:
    if unknown := members.keys() - _MEMBERS.keys():
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}; there are {', '.join(_MEMBERS)}")
    given = {"name": getattr(function, "__name__", None), "description": signature.description or None} | members
    definition = {member: given[option] for option, member in _MEMBERS.items() if given.get(option) is not None}
    if not definition.get("name"):
        raise ValueError(f"{function!r} has no name of its own: give name=…")
    return definition


def _string_parameters(signature: Signature, what: str) -> list[str]:
    """Return the names of the parameters, each of which a string must fit, since strings are all that arrives."""
    for name, schema in signature.input_schema["properties"].items():
        if not any(choice.get("type", "string") == "string" for choice in schema.get("anyOf", [schema])):
            raise TypeError(f"{what}: {name!r} arrives as a string, and no string fits its annotation")
    return list(signature.input_schema["properties"])


def _moved(schema: Any) -> Any:
    """Return a schema as it must read one level deeper, where references begin at another root."""
    if isinstance(schema, list):
        return [_moved(item) for item in schema]
    if not isinstance(schema, dict) or "$id" in schema:  # an `$id` is a root of its own
        return schema
    moved = {key: _moved(value) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        moved["$ref"] = "#/properties/result" + reference[1:]
    return moved
