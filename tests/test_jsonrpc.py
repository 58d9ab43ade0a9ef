"""A message: what is one, what is none and why, both ways; the error codes; framing at any border of the chunks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_min import jsonrpc
from mcp_min.jsonrpc import ConnectionClosed, RpcError, check, decode, encode

REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}

# --- messages ------------------------------------------------------------------------------------

MESSAGES = {
    "request": '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}',
    "request without params": '{"jsonrpc":"2.0","id":1,"method":"ping"}',
    "string id": '{"jsonrpc":"2.0","id":"1","method":"ping"}',
    "empty id": '{"jsonrpc":"2.0","id":"","method":"ping"}',
    "zero id": '{"jsonrpc":"2.0","id":0,"method":"ping"}',
    "negative id": '{"jsonrpc":"2.0","id":-1,"method":"ping"}',
    "id beyond 64 bits": '{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}',
    "notification": '{"jsonrpc":"2.0","method":"notifications/initialized"}',
    "answer": '{"jsonrpc":"2.0","id":1,"result":{}}',
    "error": '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}',
    "error with data": '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"","data":[null]}}',
    "error without id": '{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}',
    "error with null id, as older peers write": '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}',
    "unknown members": '{"jsonrpc":"2.0","id":1,"method":"ping","extra":[1,2.5,true,null]}',
    "spaces and CR": ' {"jsonrpc" : "2.0" , "method" : "a"}\t\r',
    "text beyond ASCII": '{"jsonrpc":"2.0","method":"a","params":{"é":"世界🎉\\u2028\\u0085"}}',
    "surrogate pair": '{"jsonrpc":"2.0","method":"a","params":{"x":"\\ud83c\\udf89"}}',
    "an escaped backslash, no surrogate": '{"jsonrpc":"2.0","method":"a","params":{"x":"\\\\ud800","y":"\\\\uD800"}}',
    "NUL and DEL": '{"jsonrpc":"2.0","method":"a","params":{"x":"\\u0000\\u007f"}}',
    "empty key": '{"jsonrpc":"2.0","method":"","params":{"":""}}',
    "the largest float": '{"jsonrpc":"2.0","method":"a","params":{"x":1.7976931348623157e308,"y":-1e-999}}',
    "4,300 digits": '{"jsonrpc":"2.0","method":"a","params":{"x":' + "9" * 4300 + "}}",
    "nesting 400 deep": '{"jsonrpc":"2.0","method":"a","params":{"x":' + "[" * 400 + "]" * 400 + "}}",
}


@pytest.mark.parametrize("text", MESSAGES.values(), ids=MESSAGES)
def test_decode_and_encode_are_inverse(text):
    message = decode(text.encode())
    assert message == json.loads(text)
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


# (bytes, a piece of the details)
NOT_JSON = {
    "nothing": (b"", "Expecting value"),
    "blank": (b" \r\n", "Expecting value"),
    "half": (b'{"jsonrpc":"2.0"', "Expecting"),
    "two": (b"{}{}", "more follows"),
    "single quotes": (b"{'jsonrpc':'2.0'}", "Expecting property name"),
    "two commas": (b"[1,,2]", "Expecting value"),
    "raw control character": (b'{"a":"\x01"}', "Invalid control character"),
    "raw newline in a string": (b'{"a":"\n"}', "Invalid control character"),
    "bad UTF-8": (b'{"a":"\xff"}', "utf-8"),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', "utf-8"),
    "a surrogate as UTF-8": (b'{"a":"\xed\xa0\x80"}', "utf-8"),
    "UTF-16": (json.dumps(REQUEST).encode("utf-16"), "utf-8"),
    "UTF-16-LE": (json.dumps(REQUEST).encode("utf-16-le"), "Expecting"),
    "UTF-16-BE": (json.dumps(REQUEST).encode("utf-16-be"), "Expecting"),
    "UTF-32": (json.dumps(REQUEST).encode("utf-32"), "utf-8"),
    "UTF-8 with a byte order mark": (b"\xef\xbb\xbf" + json.dumps(REQUEST).encode(), "Expecting value"),
    "NaN": (b'{"a":NaN}', "NaN is no JSON number"),
    "Infinity": (b'{"a":Infinity}', "Infinity is no JSON number"),
    "minus Infinity": (b'{"a":-Infinity}', "-Infinity is no JSON number"),
    "1e999": (b'{"a":1e999}', "1e999 is too large"),
    "-1e999": (b'{"a":-1e999}', "-1e999 is too large"),
    "a float of 5,000 digits": (b'{"a":' + b"9" * 5000 + b".5}", "is too large"),
    "an integer of 5,000 digits": (b'{"a":' + b"9" * 5000 + b"}", "4300 digits"),
    "nesting 100,000 arrays deep": (b"[" * 100_000, "nested too deeply"),
    "nesting 100,000 arrays deep, closed": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "nesting 100,000 objects deep": (b'{"a":' * 100_000, "nested too deeply"),
    "the same key twice": (b'{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}', "same key twice"),
    "the same key twice, deep": (b'[{"a":[{"b":1,"b":1}]}]', "same key twice"),
    "the same key twice, escaped": (b'{"a":1,"\\u0061":2}', "same key twice"),
    "a high surrogate": (b'{"a":"\\ud800"}', "surrogates"),
    "a low surrogate": (b'{"a":"\\uDFFF"}', "surrogates"),
    "a surrogate before a character": (b'{"a":"\\uD800x"}', "surrogates"),
    "surrogates in the wrong order": (b'{"a":"\\udf89\\ud83c"}', "surrogates"),
    "a surrogate as a key": (b'{"\\ud800":1}', "surrogates"),
}


@pytest.mark.parametrize(("data", "details"), NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json(data, details):
    with pytest.raises(RpcError) as raised:
        decode(data)
    assert (raised.value.code, raised.value.message, raised.value.id) == (-32700, "Parse error", None)
    assert details in raised.value.data["details"]
    assert len(raised.value.data["details"]) < 300
    assert decode(encode(jsonrpc.error(None, raised.value)))["error"]["code"] == -32700


# (JSON, a piece of the details, the id to answer to)
NO_MESSAGE = [
    ("[]", "object", None),
    ('[{"jsonrpc":"2.0","id":1,"method":"a"}]', "object", None),
    ("null", "object", None),
    ("1", "object", None),
    ('"a"', "object", None),
    ("true", "object", None),
    ("{}", "jsonrpc", None),
    ('{"id":1,"method":"a"}', "jsonrpc", 1),
    ('{"jsonrpc":"1.0","id":"x","method":"a"}', "jsonrpc", "x"),
    ('{"jsonrpc":2.0,"id":1,"method":"a"}', "jsonrpc", 1),
    ('{"jsonrpc":["2.0"],"id":1,"method":"a"}', "jsonrpc", 1),
    ('{"JSONRPC":"2.0","id":1,"method":"a"}', "jsonrpc", 1),
    ('{"jsonrpc":"2.0"}', "either", None),
    ('{"jsonrpc":"2.0","id":1}', "either", 1),
    ('{"jsonrpc":"2.0","id":1,"Method":"tools/call"}', "either", 1),
    ('{"jsonrpc":"2.0","id":1,"method":"a","result":{}}', "either", None),
    ('{"jsonrpc":"2.0","id":1,"method":"a","error":{"code":1,"message":""}}', "either", None),
    ('{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}', "either", None),
    ('{"jsonrpc":"2.0","id":null,"method":"a"}', '"id"', None),
    ('{"jsonrpc":"2.0","id":true,"method":"a"}', '"id"', None),
    ('{"jsonrpc":"2.0","id":false,"method":"a"}', '"id"', None),
    ('{"jsonrpc":"2.0","id":1.0,"method":"a"}', '"id"', None),
    ('{"jsonrpc":"2.0","id":1e2,"method":"a"}', '"id"', None),
    ('{"jsonrpc":"2.0","id":[1],"method":"a"}', '"id"', None),
    ('{"jsonrpc":"2.0","id":{},"method":"a"}', '"id"', None),
    ('{"jsonrpc":"2.0","result":{}}', '"id"', None),
    ('{"jsonrpc":"2.0","id":null,"result":{}}', '"id"', None),
    ('{"jsonrpc":"2.0","id":true,"result":{}}', '"id"', None),
    ('{"jsonrpc":"2.0","id":true,"error":{"code":1,"message":""}}', '"id"', None),
    ('{"jsonrpc":"2.0","id":1,"method":5}', '"method"', 1),
    ('{"jsonrpc":"2.0","id":1,"method":null}', '"method"', 1),
    ('{"jsonrpc":"2.0","method":["a"]}', '"method"', None),
    ('{"jsonrpc":"2.0","id":1,"method":"a","params":[]}', '"params"', 1),
    ('{"jsonrpc":"2.0","id":1,"method":"a","params":null}', '"params"', 1),
    ('{"jsonrpc":"2.0","id":1,"method":"a","params":"x"}', '"params"', 1),
    # The id of an answer is that of a request of ours, no address for an error.
    ('{"jsonrpc":"2.0","id":1,"result":5}', '"result"', None),
    ('{"jsonrpc":"2.0","id":1,"result":null}', '"result"', None),
    ('{"jsonrpc":"2.0","id":1,"result":[]}', '"result"', None),
    ('{"jsonrpc":"2.0","id":1,"error":"no"}', '"error"', None),
    ('{"jsonrpc":"2.0","id":1,"error":null}', '"error"', None),
    ('{"jsonrpc":"2.0","id":1,"error":{}}', '"code"', None),
    ('{"jsonrpc":"2.0","id":1,"error":{"code":1}}', '"message"', None),
    ('{"jsonrpc":"2.0","id":1,"error":{"message":""}}', '"code"', None),
    ('{"jsonrpc":"2.0","id":1,"error":{"code":1.0,"message":""}}', '"code"', None),
    ('{"jsonrpc":"2.0","id":1,"error":{"code":true,"message":""}}', '"code"', None),
    ('{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":""}}', '"code"', None),
    ('{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":null}}', '"message"', None),
]


@pytest.mark.parametrize(("text", "details", "id"), NO_MESSAGE)
def test_what_is_no_message(text, details, id):
    with pytest.raises(RpcError) as raised:
        decode(text.encode())
    assert (raised.value.code, raised.value.message, raised.value.id) == (-32600, "Invalid request", id)
    assert details in raised.value.data["details"]


# --- errors --------------------------------------------------------------------------------------

# As every revision's schema has them; 2026-07-28 also as constants of its JSON schema.
CODES = {
    "PARSE_ERROR": -32700,
    "INVALID_REQUEST": -32600,
    "METHOD_NOT_FOUND": -32601,
    "INVALID_PARAMS": -32602,
    "INTERNAL_ERROR": -32603,
}


def test_error_codes():
    assert {name: value for name, value in vars(jsonrpc).items() if name.isupper() and value in CODES.values()} == CODES


def test_an_error_that_crosses_the_wire():
    error = RpcError(-32602, "Invalid params", {"details": "uri must be a string"}, id=7)
    assert str(error) == "Invalid params (-32602): uri must be a string"
    assert error.args == (-32602, "Invalid params", {"details": "uri must be a string"})
    assert jsonrpc.error(error.id, error) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": -32602, "message": "Invalid params", "data": {"details": "uri must be a string"}},
    }


@pytest.mark.parametrize("data", [None, 5, [1], {"uri": "x"}])
def test_an_error_without_details(data):
    assert str(RpcError(1, "Broken", data)) == "Broken (1)"
    assert RpcError(1, "Broken").args == (1, "Broken", None)


def test_an_error_leaves_out_what_is_not_there():
    assert jsonrpc.error(None, RpcError(1, "Broken")) == {"jsonrpc": "2.0", "error": {"code": 1, "message": "Broken"}}
    assert jsonrpc.error(0, RpcError(1, "Broken", 0))["id"] == 0
    assert jsonrpc.error("", RpcError(1, "Broken", 0))["error"]["data"] == 0


def test_the_two_errors_that_many_raise():
    assert jsonrpc.invalid_request("why", 3).id == 3
    assert str(jsonrpc.invalid_request("why")) == "Invalid request (-32600): why"
    assert str(jsonrpc.invalid_params("why")) == "Invalid params (-32602): why"


def test_a_closed_connection_is_a_connection_error():
    with pytest.raises(ConnectionError, match="gone"):
        raise ConnectionClosed("gone")


# --- messages to bytes ---------------------------------------------------------------------------


def test_what_is_written():
    assert encode(jsonrpc.request(1, "a", {})) == b'{"jsonrpc":"2.0","id":1,"method":"a","params":{}}\n'
    assert encode(jsonrpc.notification("a")) == b'{"jsonrpc":"2.0","method":"a"}\n'
    assert encode(jsonrpc.notification("a", {})) == b'{"jsonrpc":"2.0","method":"a","params":{}}\n'
    assert (
        encode([jsonrpc.notification("a")] * 2) == b'[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"a"}]\n'
    )


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\x85", "\n", "\r", "\r\n", "\x0b\x0c\x1c\x1d\x1e", "é", "🎉"])
def test_a_line_is_one_line_of_ascii_to_every_reader(text):
    line = encode(jsonrpc.notification("a", {text: text}))
    assert line.isascii()
    assert len(line.decode().splitlines()) == 1
    assert decode(line)["params"] == {text: text}


def endless() -> list:
    inside: list = []
    inside.append(inside)
    return inside


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


UNSENDABLE = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "a high surrogate": "\ud800",
    "a low surrogate": ["a\udfff"],
    "a surrogate as a key": {"\ud83d": 1},
    "an object": object(),
    "bytes": b"a",
    "a set": {1},
    "a path": Path("a"),
    "a tuple as a key": {(1, 2): 3},
    "a list in itself": endless(),
    "nesting 100,000 deep": nested(100_000),
    "an integer of 5,000 digits": 10**5000,
}


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_json_cannot_hold(value):
    with pytest.raises((TypeError, ValueError)):
        encode(jsonrpc.notification("a", {"x": value}))


def test_a_value_of_the_program_is_checked_as_if_it_came_off_a_wire():
    message = {"jsonrpc": "2.0", "id": 1, "method": "a", "params": {"x": (1, 2)}}
    assert check(message) == {"jsonrpc": "2.0", "id": 1, "method": "a", "params": {"x": [1, 2]}}


NO_MESSAGES = {"null": None, "a list": [], "an object": {}, "no method": {"jsonrpc": "2.0", "method": 5}} | UNSENDABLE


@pytest.mark.parametrize("value", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message_is_refused(value):
    with pytest.raises(RpcError) as caught:
        check(value)
    assert caught.value.code == -32600


@pytest.mark.parametrize("batch", [b"[]", b'[{"jsonrpc":"2.0","method":"a"}]', b"[1,[2]]"])
def test_a_batch_is_for_those_who_ask_for_it(batch):
    assert jsonrpc.decode_any(batch) == json.loads(batch)
    with pytest.raises(RpcError, match="a message is a JSON object"):
        decode(batch)
