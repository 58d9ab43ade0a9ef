"""A Python signature as a JSON schema, arguments as Python values, return values as JSON.

`json_schema.py` says whether a value fits a schema. This file makes the schema, from what a Python
programmer has written anyway, and carries values across once they are known to fit:

    def paint(color: Color, at: Annotated[tuple[int, int], "x and y"], alpha: float = 1) -> list[str]: ...

Spec: 2026-07-28 basic#json-schema-usage, server/tools#tool, server/tools#output-schema.
Wire:
    {"type":"object","properties":{
        "color":{"type":"string","enum":["red","blue"]},
        "at":{"type":"array","prefixItems":[{"type":"integer"},{"type":"integer"}],
              "minItems":2,"maxItems":2,"description":"x and y"},
        "alpha":{"type":"number","default":1}},
     "required":["color","at"],"additionalProperties":false}
    {"color":"red","at":[1,2.0],"alpha":1}   arrives as   paint(color=Color.RED, at=(1, 2), alpha=1.0)

Rules:
- Everything is read at registration. An annotation that is not understood is an error there, never
  a schema that lets everything pass.
- No text is parsed: "5" stays a string. Numbers follow their annotation, since JSON has only one
  kind: 1.0 arrives at an `int` as 1, and 1 at a `float` as 1.0.
- Of a union, the first alternative whose schema fits the value is taken.
- A dataclass is what its constructor takes, both ways. It is closed, like a function without
  `**kwargs`; a TypedDict is open, as it is to Python's type checkers.
- Classes are written out where they are used, which keeps their properties within reach of
  `x-mcp-header`. A class that contains itself is therefore an error.

Deliberately absent: validation (whoever calls `bind` has validated); sets, bytes, dates and other
classes, for which JSON has no word; and names that exist for type checkers only, since annotations
are evaluated.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, EnumType, Flag
from functools import partial
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from .json_schema import Schema

# A schema, and what turns a JSON value that fits it into the Python value that the annotation
# promises: `_same` where they are the same, so that nothing is spent on them.
Shape = tuple[dict[str, Any], Callable[[Any], Any]]

_EMPTY = inspect.Parameter.empty  # no annotation, or no default
_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_TYPES |= {None: "null", list: "array", tuple: "array", dict: "object"}
_KNOWN = "str, int, float, bool, None, list, tuple, dict[str, …], Literal, Enum, a union, TypedDict, dataclass, Any"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a server needs to know of a function: how to describe it and how to call it.

    `bind(arguments)` gives the keyword arguments of the call, without the context. The arguments must
    fit `input_schema`. They are never changed, and where nothing is to be converted they are what
    comes back. Raises OverflowError for an integer that no `float` can hold, and whatever a dataclass
    raises when it is made.
    """

    input_schema: dict[str, Any]
    bind: Callable[[dict[str, Any]], dict[str, Any]]
    output_schema: dict[str, Any] | None  # None: what is returned is text, content or nothing
    context_name: str | None  # of the parameter that takes the context; the schema does not show it
    is_async: bool
    description: str  # the docstring, "" without one


def read_signature(
    function: Callable[..., Any],
    *,
    context_type: type | None = None,
    plain: tuple[type, ...] | None = None,
    given_schema: dict[str, Any] | None = None,
) -> Signature:
    """Read a function, a method, a partial or an object with `__call__`.

    The parameter whose annotation mentions context_type takes the context. What a partial fixes by
    name is no parameter any more. plain: classes that are content; a return annotation that mentions
    one has no schema, and neither have `str`, `None` and `Any`; without `plain`, the return annotation
    is not read at all. given_schema stands in place of what annotations say, and arguments stay the
    JSON values they are.

    Spec: 2026-07-28 server/tools#tool (inputSchema), server/tools#output-schema.
    Raises TypeError that names function, parameter and annotation for what cannot be described or called.
    """
    called, fixed = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
    method: Any = called if inspect.isroutine(called) or inspect.isclass(called) else type(called).__call__
    output, context_name, is_open, defaults = None, None, False, dict[str, Any]()
    try:
        hints = get_type_hints(method, include_extras=True)
        for name, parameter in inspect.signature(function).parameters.items():
            hints.setdefault(name, parameter.annotation)
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise TypeError(f"parameter {name!r}: arguments come by name, so *args and positional-only cannot be")
            is_open = parameter.kind is parameter.VAR_KEYWORD  # which is always the last
            if context_type and context_name is None and _mentions(hints[name], (context_type,)):
                context_name = name
            elif not is_open and name not in fixed:
                defaults[name] = parameter.default
        shape = (given_schema, _same) if given_schema else _read_members("parameter", hints, defaults, is_open)
        returned = hints.get("return", Any)
        if plain is not None and returned not in (Any, str, NoneType) and not _mentions(returned, plain):
            output = schema_of(returned)
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            raise TypeError("it yields, and a call has one result: return a list")
    # NameError: an annotation names what does not exist. ValueError: a schema in an Annotated is none.
    except (TypeError, ValueError, NameError, RecursionError) as problem:
        reason = "a class contains itself: give a schema for it" if isinstance(problem, RecursionError) else problem
        raise TypeError(f"{method.__qualname__.rpartition('<locals>.')[2]}(): {reason}") from None
    description = inspect.cleandoc(method.__doc__ or called.__doc__ or "")
    return Signature(*shape, output, context_name, inspect.iscoroutinefunction(method), description)


def schema_of(annotation: Any) -> dict[str, Any]:
    """Return the schema of an annotation.

    Raises TypeError for one that is not understood, NameError for one that names what does not exist.

    >>> schema_of(list[int] | None)
    {'anyOf': [{'type': 'array', 'items': {'type': 'integer'}}, {'type': 'null'}]}
    """
    return _read(annotation)[0]


def to_json(value: Any) -> Any:
    """Return a copy with dataclasses as dicts, Enum members as their values and tuples as lists, at any depth.

    Raises TypeError for what JSON cannot hold, ValueError for NaN and infinity.
    """
    return json.loads(json.dumps(value, default=_simplify, allow_nan=False))


def _simplify(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value) if field.init}
    raise TypeError(f"{value!r:.100} is no JSON value")


def _mentions(annotation: Any, classes: tuple[type, ...]) -> bool:
    found = isinstance(annotation, type) and issubclass(annotation, classes)
    return found or any(_mentions(inner, classes) for inner in get_args(annotation))


def _same(value: Any) -> Any:
    return value


def _read(annotation: Any) -> Shape:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (Any, object, _EMPTY):
        return {}, _same
    if (annotation is None or isinstance(annotation, type)) and annotation in _TYPES:
        return {"type": _TYPES[annotation]}, annotation if annotation in (int, float, tuple) else _same
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        schema, convert = _read(inner[0])
        for note in inner[1:]:
            if isinstance(note, (str, dict)):
                schema |= to_json({"description": note} if isinstance(note, str) else note)
        return schema, convert
    # The members of a Flag can be added up to values that are no members.
    if origin is typing.Literal or (isinstance(annotation, EnumType) and not issubclass(annotation, Flag)):
        return _choose(inner or list(annotation))
    if typing.is_typeddict(annotation) or is_dataclass(annotation):
        return _read_fields(annotation)
    shapes = [_read(part) for part in inner if part is not ...]
    schemas = [schema for schema, _ in shapes]
    same = all(convert is _same for _, convert in shapes)
    if origin in (typing.Union, UnionType):
        checks = [(Schema(schema).errors, convert) for schema, convert in shapes]
        first = _same if same else lambda value: next(make(value) for errors, make in checks if not errors(value, ""))
        return {"anyOf": schemas}, first
    if origin is tuple and inner and ... not in inner:
        schema = {"type": "array", "prefixItems": schemas, "minItems": len(inner), "maxItems": len(inner)}
        return schema, lambda values: tuple(convert(value) for (_, convert), value in zip(shapes, values, strict=True))
    if origin in (list, tuple) and inner:
        schema, convert = shapes[0]
        each = _same if same and origin is list else lambda values: origin(map(convert, values))
        return {"type": "array", "items": schema}, each
    if origin is dict and inner[:1] == (str,):
        schema, convert = shapes[1]
        each = _same if same else lambda members: {key: convert(value) for key, value in members.items()}
        return {"type": "object", "additionalProperties": schema}, each
    raise TypeError(f"{annotation!r} is not understood: use {_KNOWN}, or give input_schema= (output_schema=)")


def _read_members(owner: str, hints: dict[str, Any], defaults: dict[str, Any], is_open: bool) -> Shape:
    """The object that has a member for each of `defaults`, where `_EMPTY` stands for a required one."""
    properties, converters = {}, {}
    for name, default in defaults.items():
        try:
            properties[name], convert = _read(hints.get(name, Any))
        except TypeError as problem:
            raise TypeError(f"{owner} {name!r}: {problem}") from None
        if convert is not _same:
            converters[name] = convert
        with suppress(TypeError, ValueError):  # a default that JSON cannot hold is not shown
            properties[name] |= {"default": to_json(default)}
    required = [name for name, default in defaults.items() if default is _EMPTY]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": is_open}
    if not converters:
        return schema, _same
    return schema, lambda members: {name: converters.get(name, _same)(value) for name, value in members.items()}


def _read_fields(cls: Any) -> Shape:
    hints = get_type_hints(cls, include_extras=True)
    if not typing.is_typeddict(cls):
        defaults = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
        schema, convert = _read_members(f"{cls.__name__} field", hints, defaults, False)
        return schema, lambda members: cls(**convert(members))
    # `__required_keys__` is blind to Required and NotRequired where annotations are strings.
    marks = {typing.Required: True, typing.NotRequired: False}
    needed = {key: marks.get(get_origin(hint), key in cls.__required_keys__) for key, hint in hints.items()}
    # `...` is a default that JSON cannot hold.
    return _read_members(f"{cls.__name__} key", hints, {key: _EMPTY if needed[key] else ... for key in hints}, True)


def _choose(members: Any) -> Shape:
    values = to_json(members)
    kinds = {_TYPES[type(value)] for value in values}
    schema = {"type": kinds.pop(), "enum": values} if len(kinds) == 1 else {"enum": values}
    same = {type(member) for member in members} <= {str, bool, NoneType}
    return schema, _same if same else lambda value: members[values.index(value)]
