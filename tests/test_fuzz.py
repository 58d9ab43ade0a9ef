"""Seeded fuzzing: any bytes give a message or an RpcError, and the borders of the chunks change nothing."""

from __future__ import annotations

import json
import random

import pytest
from framing import read_all

from mcp_min import jsonrpc
from mcp_min.jsonrpc import RpcError, decode, encode

SEEDS = range(20)
ROUNDS = 150
PIECES = [
    *[
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b'"',
        b"\\",
        b"\\u",
        b"\\ud800",
        b"\\ud83c\\udf89",
        b" ",
        b"\r",
        b"\t",
        b"\n",
    ],
    *[b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"0.1", b"9" * 40, b"1E+2", b"-", b"."],
    *[b'"jsonrpc"', b'"2.0"', b'"id"', b'"method"', b'"params"', b'"result"', b'"error"', b'"code"', b'"message"'],
    *[b'{"jsonrpc":"2.0","method":"a"}', b'{"jsonrpc":"2.0","id":1,"result":{}}', b"[" * 50, b'{"a":' * 50],
    *[b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", "é世🎉\u2028".encode(), b"\0", b"\xef\xbb\xbf"],
]
MESSAGE = encode(
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "é\u2028", "arguments": {"a": [1, 2.5, None, True, {"b": "🎉"}]}, "_meta": {}},
    }
)


def soup(rng: random.Random) -> bytes:
    """Tokens in any order."""
    return b"".join(rng.choice(PIECES) for _ in range(rng.randrange(30)))


def noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(60))


def damaged(rng: random.Random) -> bytes:
    """A good message with a few bytes changed, removed, doubled or inserted."""
    data = bytearray(MESSAGE[:-1])
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data))
        end = at + rng.randrange(6)
        data[at:end] = rng.choice([b"", rng.randbytes(1), data[at:end] * 2, rng.choice(PIECES)])
        data = data or bytearray(b"0")
    return bytes(data)


def value(rng: random.Random, depth: int = 0) -> object:
    """Any JSON value, often with the names of a message's members."""
    kind = rng.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        names = ["jsonrpc", "id", "method", "params", "result", "error", "code", "message", "", "x\u2028"]
        return {name: value(rng, depth + 1) for name in rng.sample(names, rng.randrange(6))}
    return [None, rng.random() < 0.5, rng.randrange(-3, 3), rng.random() * 10, "2.0", rng.choice("aé🎉\0\n")][kind]


def structured(rng: random.Random) -> bytes:
    """A good message, or one with a member or two replaced, added or taken away."""
    message = json.loads(MESSAGE) | {"id": rng.choice([0, -1, "", "7", 10**20])}
    for _ in range(rng.randrange(3)):
        name = rng.choice(["jsonrpc", "id", "method", "params", "result", "error", "x"])
        message[name] = value(rng)
        if rng.random() < 0.3:
            del message[name]
    if rng.random() < 0.4:
        message.pop("method", None)
    return json.dumps(message, ensure_ascii=rng.random() < 0.5).encode()


def outcome(data: bytes) -> jsonrpc.Message | RpcError:
    try:
        return decode(data)
    except RpcError as problem:
        return problem


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [soup, noise, damaged, structured])
def test_any_bytes_give_a_message_or_an_rpc_error(make, seed):
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        data = make(rng)
        found = outcome(data)
        if isinstance(found, RpcError):
            assert found.code in (jsonrpc.PARSE_ERROR, jsonrpc.INVALID_REQUEST)
            assert decode(encode(jsonrpc.error(found.id, found)))["error"]["data"] == found.data
        else:
            assert found == json.loads(data)
            assert decode(encode(found)) == found


def shown(items: list) -> list:
    return [(item.code, item.data, item.id) if isinstance(item, RpcError) else item for item in items]


def cut(stream: bytes, rng: random.Random) -> list[bytes]:
    chunks = []
    while stream:
        size = rng.choice([1, 2, 3, 10, 100])
        chunks.append(stream[:size])
        stream = stream[size:]
    return chunks


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("max_line", [40, jsonrpc.MAX_LINE])
def test_the_borders_of_chunks_change_nothing(seed, max_line):
    rng = random.Random(seed)
    lines = [rng.choice([soup, noise, damaged, structured, lambda rng: MESSAGE[:-1]])(rng) for _ in range(40)]
    stream = b"\n".join(lines) + b"\n"
    whole = shown(read_all([stream], max_line))
    for chunks in (cut(stream, rng), [stream[at : at + 1] for at in range(len(stream))]):
        assert shown(read_all(chunks, max_line)) == whole
    # A line alone gives what it gives among others.
    alone = [shown(read_all([line], max_line)) for line in stream.split(b"\n")]
    assert [item for items in alone for item in items] == whole
