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
_PLAIN = re.compile(r"[\x20-\x7e]*")
Mirrored = Mapping[str, tuple[str, ...]]  # header name -> path of the argument


def encode_value(value: str | int | bool) -> str:
    """Return an argument as a header value: as it is where that is safe, else wrapped as base64 of its UTF-8."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _PLAIN.fullmatch(text) and text == text.strip(" ") and not _ENCODED.fullmatch(text):
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
    _collect(schema, (), found)
    return found


def _collect(schema: Any, path: tuple[str, ...], found: dict[str, tuple[str, ...]]) -> None:
    if not isinstance(schema, dict):
        return
    if spec.PARAM_ANNOTATION in schema:
        name, where = schema[spec.PARAM_ANNOTATION], ".".join(path) or "the schema's root"
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"{spec.PARAM_ANNOTATION} of {where}: {name!r} is no HTTP header name")
        if schema.get("type") not in ("string", "integer", "boolean"):
            raise ValueError(
                f"{spec.PARAM_ANNOTATION} of {where}: only a string, an integer or a boolean can be a header"
            )
        header = spec.PARAM_HEADER + name.lower()
        if header in found:
            raise ValueError(f"{spec.PARAM_ANNOTATION} of {where}: {name!r} is used twice")
        found[header] = path
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            for name, inner in value.items():
                _collect(inner, (*path, name), found)
        elif _holds_annotation(value):
            # MUST only be applied to properties that are statically reachable: through `properties` alone.
            raise ValueError(f"{spec.PARAM_ANNOTATION} under {key!r}: only properties can be headers")


def _holds_annotation(value: Any) -> bool:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if spec.PARAM_ANNOTATION in item:
                return True
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False


def request_headers(message: Message, mirrored: Mirrored) -> dict[str, str]:
    """Return the headers that repeat a modern request's body; `mirrored` is the called tool's."""
    params = message.get("params", {})
    headers = {spec.METHOD_HEADER: message["method"]}
    version = params.get("_meta", {}).get(spec.PROTOCOL_VERSION)
    if version is not None:
        headers[spec.VERSION_HEADER] = version
    name = params.get(spec.NAME_OF.get(message["method"], ""))
    if isinstance(name, str):
        headers[spec.NAME_HEADER] = encode_value(name)
    for header, path in mirrored.items():
        value = _argument(params, path)
        if value is not None:
            headers[header] = encode_value(value)
    return headers


def check_version(headers: Mapping[str, str], version: str) -> None:
    """MUST match the version in `_meta` (streamable-http#protocol-version-header). Raises RpcError -32020."""
    if headers.get(spec.VERSION_HEADER) != version:
        raise _mismatch(spec.VERSION_HEADER, headers.get(spec.VERSION_HEADER), version)


def check_request(headers: Mapping[str, str], method: str, params: Params, mirrored: Mirrored) -> None:
    """MUST reject where headers differ from the body (streamable-http#server-validation). Raises RpcError -32020."""
    if headers.get(spec.METHOD_HEADER) != method:
        raise _mismatch(spec.METHOD_HEADER, headers.get(spec.METHOD_HEADER), method)
    if method in spec.NAME_OF:
        _check(headers, spec.NAME_HEADER, params.get(spec.NAME_OF[method]))
    for header, path in mirrored.items():
        _check(headers, header, _argument(params, path))


def _check(headers: Mapping[str, str], header: str, value: Any) -> None:
    given = headers.get(header)
    try:
        decoded = None if given is None else decode_value(given)
    except ValueError:
        raise _mismatch(header, given, value) from None
    if value is None or not isinstance(value, (str, int)):
        if given is not None:
            raise _mismatch(header, given, value)
    elif decoded is None or not _same(decoded, value):
        raise _mismatch(header, given, value)


def _same(text: str, value: str | int) -> bool:
    if isinstance(value, (str, bool)):
        return text == (encode_value(value) if isinstance(value, bool) else value)
    # SHOULD compare integers numerically: 42.0 and 42 are equal.
    try:
        return float(text) == value and "_" not in text
    except (ValueError, OverflowError):
        return False


def _argument(params: Params, path: tuple[str, ...]) -> Any:
    value = params.get("arguments")
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _mismatch(header: str, given: Any, value: Any) -> RpcError:
    sent = "is missing" if given is None else f"is {given!r:.100}"
    details = f"the header {header} {sent}, but the body says {value!r:.100}"
    return RpcError(spec.HEADER_MISMATCH, "Header mismatch", {"details": details})
