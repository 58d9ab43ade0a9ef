"""A message: bytes to dict and back, the error codes, the exceptions.

This file stands at the bottom. It turns what arrives into checked dicts and what leaves into
bytes; every other file passes those dicts on and none wraps them.

Spec: JSON-RPC 2.0; 2026-07-28 basic#messages; 2026-07-28 basic/transports/stdio.
Wire:
    {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}     a request, wants an answer
    {"jsonrpc":"2.0","method":"notifications/initialized"}         a notification, wants none
    {"jsonrpc":"2.0","id":1,"result":{"tools":[]}}                 an answer
    {"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"…"}} an answer that is an error

Deliberately absent: sockets, tasks and every word of MCP.
"""

from __future__ import annotations

import json
import math
from typing import Any

Params = dict[str, Any]
Result = dict[str, Any]
Message = dict[str, Any]
RequestId = str | int

# JSON-RPC 2.0 section 5.1.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

MAX_LINE = 16 * 2**20  # bytes, without the newline; asyncio's own line reader gives up at 64 KiB


class RpcError(Exception):
    """An error that crosses the wire: what a handler raises, and what `request` raises when the peer answers with one.

    Wire: {"code": code, "message": message, "data": data}; `data` is left out when it is None.
    id: of the message that was wrong, where it could be read.
    """

    def __init__(self, code: int, message: str, data: Any = None, *, id: RequestId | None = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data
        self.id = id

    def __str__(self) -> str:
        details = self.data.get("details") if isinstance(self.data, dict) else None
        return f"{self.message} ({self.code})" + (f": {details}" if details else "")


class ConnectionClosed(ConnectionError):
    """No answer will come: the connection is gone. What is known of the reason stands in the text."""


def invalid_request(details: str, id: RequestId | None = None) -> RpcError:
    """Return the error for what is no message, or comes where it may not. details: what was wrong."""
    return RpcError(INVALID_REQUEST, "Invalid request", {"details": details}, id=id)


def invalid_params(details: str) -> RpcError:
    """Return the error for a request that cannot be served as it stands. details: which member was wrong."""
    return RpcError(INVALID_PARAMS, "Invalid params", {"details": details})


# --- bytes to messages ---------------------------------------------------------------------------


def decode(data: bytes) -> Message:
    """Return the one message that `data` holds.

    Raises RpcError, and never anything else: -32700 when the bytes are not JSON, -32600 when the JSON is no message.
    """
    value = decode_any(data)
    if isinstance(value, list):
        raise invalid_request("a message is a JSON object")
    return value


def decode_any(data: bytes) -> Message | list[Any]:
    """Return the message or the batch that `data` holds; the members of a batch are not checked. Raises as `decode`.

    JSON is read as strictly as RFC 8259 has it: UTF-8, no NaN, no repeated key.
    """
    try:
        text = data.decode("utf-8").strip(" \t\r\n")
        value, end = _DECODER.raw_decode(text)
        if end < len(text):
            raise ValueError(f"it ends at character {end}, and more follows")
        if "\\ud" in text or "\\uD" in text:
            _refuse_lone_surrogates(value)
    # Not only JSONDecodeError: deep nesting and numbers of over 4,300 digits raise these.
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RpcError(PARSE_ERROR, "Parse error", {"details": f"the message is not JSON: {reason}"}) from None
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise invalid_request("a message is a JSON object")
    id, parts = value.get("id"), value.keys() & _PARTS
    # MUST: a string or integer id, never null (2026-07-28 basic#requests). True is an int to Python only.
    readable = isinstance(id, str) or type(id) is int
    problem = None
    if value.get("jsonrpc") != "2.0":
        problem = '"jsonrpc" must be "2.0"'
    elif len(parts) != 1:
        problem = 'a message has either "method", or "result", or "error"'
    # An error lacks its id where the request's could not be read; older peers write null then.
    elif not readable and ("id" in value or "result" in value) and not (id is None and "error" in value):
        problem = '"id" must be a string or an integer'
    elif "method" in value:
        if not isinstance(value["method"], str) or not isinstance(value.get("params", {}), dict):
            problem = '"method" must be a string, and "params" an object'
    elif not isinstance(value.get("result", {}), dict) or not _is_error(value.get("error", _ERROR)):
        problem = '"result" must be an object, "error" one with an integer "code" and a string "message"'
    if problem is not None:
        # The id of an answer is that of a request of ours, no address for an error.
        raise invalid_request(problem, id if readable and parts <= {"method"} else None)
    return value


def check(value: Any) -> Message:
    """Return `value` when it is a message, as it would come off a wire. Raises RpcError -32600 otherwise."""
    try:
        return decode(encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid_request(f"it is not JSON: {error}") from None


_PARTS = frozenset({"method", "result", "error"})
_ERROR = {"code": 0, "message": ""}


def _is_error(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("code")) is int and isinstance(value.get("message"), str)


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same key twice")
    return members


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits:.20} is too large")
    return number


def _refuse_lone_surrogates(value: Any) -> None:
    # Half a character, "\ud800", is valid JSON text that no UTF-8 encoder can write.
    json.dumps(value, ensure_ascii=False).encode("utf-8")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_refuse_repeated_keys, parse_constant=_refuse_constant, parse_float=_finite_float
)

# --- messages to bytes ---------------------------------------------------------------------------

# ASCII only, so that no reader can mistake U+2028 or U+0085 for the end of a line.
_encode_text = json.JSONEncoder(allow_nan=False, separators=(",", ":"), check_circular=False).encode


def encode(message: Message | list[Message]) -> bytes:
    """Return the bytes of a message, or of a batch, with the newline that ends it.

    Raises ValueError or TypeError for what JSON cannot hold: NaN, half a surrogate pair, an object
    of the program, one that holds itself, nesting past Python's limit. Nothing is half written then.
    """
    try:
        text = _encode_text(message)
        if "\\ud" in text:
            _refuse_lone_surrogates(message)
    except RecursionError:
        raise ValueError("the message is nested too deeply, or holds itself") from None
    # MUST NOT contain embedded newlines (2026-07-28 basic/transports/stdio): the encoder escapes them.
    return text.encode("ascii") + b"\n"


def request(id: RequestId, method: str, params: Params) -> Message:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def notification(method: str, params: Params | None = None) -> Message:
    return {"jsonrpc": "2.0", "method": method} | ({} if params is None else {"params": params})


def error(id: RequestId | None, problem: RpcError) -> Message:
    body = {"code": problem.code, "message": problem.message} | ({} if problem.data is None else {"data": problem.data})
    # MUST: "the same ID as the request", left out where it could not be read (2026-07-28 basic#error-responses).
    return {"jsonrpc": "2.0"} | ({} if id is None else {"id": id}) | {"error": body}
