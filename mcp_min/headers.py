"""MCP's own HTTP headers: what a client writes and a server checks.

A modern request says in its headers what its body says, so that a proxy can route without reading
bodies. The client writes them from the body, the server refuses a request where the two differ.

Spec: 2026-07-28 basic/transports/streamable-http#request-metadata; server/tools#x-mcp-header.
Wire: MCP-Protocol-Version: 2026-07-28
      Mcp-Method: tools/call
      Mcp-Name: execute_sql
      Mcp-Param-Region: =?base64?w6k=?=

Deliberately absent: HTTP. Header names are in lower case here, as both ends' parsers give them.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from . import spec
from .jsonrpc import Message, Params, RpcError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ENCODED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_PLAIN = re.compile(r"(?! )[\x20-\x7e]*(?<! )")
_INTEGER = re.compile(r"(-?[0-9]{1,400})(\.0*)?")
Mirrored = Mapping[str, tuple[str, ...]]  # header name -> path of the argument


def encode_value(value: str | int) -> str:
    """Return an argument as a header value: as it is where that is safe, else wrapped as base64 of its UTF-8."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    # MUST wrap what looks as if it were wrapped (streamable-http#value-encoding).
    if _PLAIN.fullmatch(text) and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    return f"=?base64?{b64encode(text.encode()).decode()}?="


def decode_value(text: str) -> str:
    """Return what `encode_value` was given, as a string. Raises ValueError for broken base64 or UTF-8."""
    wrapped = _ENCODED.fullmatch(text)
    return b64decode(wrapped[1], validate=True).decode("utf-8") if wrapped else text


def mirrored_arguments(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the header of each argument that a tool's input schema annotates with `x-mcp-header`.

    Raises ValueError, saying what is wrong, for an annotation that the specification forbids.
    """
    found: dict[str, tuple[str, ...]] = {}
    unseen: list[tuple[Any, tuple[str, ...] | None]] = [(schema, ())]
    while unseen:
        part, path = unseen.pop()  # path: None where the part is not reached through `properties` alone
        if isinstance(part, list):
            unseen += [(item, None) for item in part]
        elif isinstance(part, dict):
            if spec.PARAM_ANNOTATION in part:
                _add(found, part, path)
            for key, value in part.items():
                if key == "properties" and isinstance(value, dict):
                    unseen += [(inner, None if path is None else (*path, name)) for name, inner in value.items()]
                else:
                    unseen.append((value, None))
    return found


def _add(found: dict[str, tuple[str, ...]], schema: dict[str, Any], path: tuple[str, ...] | None) -> None:
    name = schema[spec.PARAM_ANNOTATION]
    header = spec.PARAM_HEADER + str(name).lower()
    # MUST: a token, a primitive type, reached through `properties` alone, unique (streamable-http#schema-extension).
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        problem = "is no HTTP header name"
    elif schema.get("type") not in ("string", "integer", "boolean"):
        problem = "can only be the header of a string, an integer or a boolean"
    elif path is None:
        problem = "is not on a property, or on one that is not always there"
    elif header in found:
        problem = "is used twice"
    else:
        found[header] = path
        return
    raise ValueError(f"{spec.PARAM_ANNOTATION} {name!r:.100} {problem}")


def request_headers(message: Message, mirrored: Mirrored) -> dict[str, str]:
    """Return the headers that repeat a modern request's body; `mirrored` is the called tool's."""
    method, params = message["method"], message.get("params", {})
    headers = {spec.METHOD_HEADER: method}
    version = params.get("_meta", {}).get(spec.PROTOCOL_VERSION)
    if version is not None:
        headers[spec.VERSION_HEADER] = version
    repeated = _arguments(params, mirrored)
    if method in spec.NAME_OF:
        name = params.get(spec.NAME_OF[method])
        repeated[spec.NAME_HEADER] = name if isinstance(name, str) else None
    return headers | {
        header: encode_value(value) for header, value in repeated.items() if isinstance(value, (str, int))
    }


def check_request(headers: Mapping[str, str], method: str, params: Params, mirrored: Mirrored) -> None:
    """MUST reject where headers differ from the body (streamable-http#server-validation). Raises RpcError -32020."""
    if headers.get(spec.METHOD_HEADER) != method:
        raise mismatch(headers, spec.METHOD_HEADER, method)
    repeated = _arguments(params, mirrored) if mirrored else {}
    if method in spec.NAME_OF:
        name = params.get(spec.NAME_OF[method])
        repeated[spec.NAME_HEADER] = name if isinstance(name, str) else None
    for header, value in repeated.items():
        given = headers.get(header)
        plain = given == value and not (given or "").startswith("=?")
        if not plain and not _same(given, value):
            raise mismatch(headers, header, value)


def _arguments(params: Params, mirrored: Mirrored) -> dict[str, Any]:
    values = {}
    for header, path in mirrored.items():
        value = params.get("arguments")
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        # JSON has one kind of number: 42.0 is an integer.
        values[header] = int(value) if isinstance(value, float) and value.is_integer() else value
    return values


def _same(given: str | None, value: Any) -> bool:
    # What is of another type has no header; it fails the tool's schema, which says so better.
    if given is None or not isinstance(value, (str, int)):
        return given is None and not isinstance(value, (str, int))
    try:
        text = decode_value(given)
    except ValueError:
        return False
    integer = _INTEGER.fullmatch(text)
    if type(value) is int and integer:
        return int(integer[1]) == value  # SHOULD compare integers numerically: 42.0 and 42 are equal
    return text == (value if isinstance(value, str) else encode_value(value))


def mismatch(headers: Mapping[str, str], header: str, value: Any) -> RpcError:
    """Return the error for a header that does not say what the body does."""
    sent = f"is {headers[header]!r:.100}" if header in headers else "is missing"
    details = f"the header {header} {sent}, but the body says {value!r:.100}"
    return RpcError(spec.HEADER_MISMATCH, "Header mismatch", {"details": details})
