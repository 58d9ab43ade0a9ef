"""What a server may ask its client: the same callbacks answer, as requests and as rounds of input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from raw_peers import Scripted, initialized

from mcp_min import Client, RpcError
from mcp_min.dispatcher import Call
from mcp_min.questions import Questions

ERAS = ["2026-07-28", "2025-11-25"]
ACCEPTED = {"action": "accept", "content": {"name": "Bo"}}
SAMPLED = {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"}
ROOTS = [{"uri": "file:///a"}]


def elicit(params: dict[str, Any]) -> dict[str, Any]:
    return ACCEPTED


async def sample(params: dict[str, Any]) -> dict[str, Any]:
    return SAMPLED


async def compute_roots() -> list[dict[str, Any]]:
    return ROOTS


def asking(version: str, method: str, params: dict[str, Any] | None) -> Scripted:
    """A server of either era whose tool asks one question and returns the answer."""
    question: dict[str, Any] = {"method": method} | ({} if params is None else {"params": params})

    async def call_tool(given: dict[str, Any], call: Call) -> dict[str, Any]:
        if version == ERAS[1]:
            assert call.request is not None
            return {"answer": await call.request(method, params or {})}
        if "inputResponses" not in given:
            return {"resultType": "input_required", "inputRequests": {"key": question}}
        return {"answer": given["inputResponses"]["key"]}

    server = Scripted(initialize=initialized(ERAS[1]), notifications__initialized={})
    server.methods["tools/call"] = call_tool
    return server


ALL: dict[str, Any] = {"on_elicit": elicit, "on_sample": sample, "roots": ROOTS}
URL = {"mode": "url", "message": "Pay", "url": "https://example.com", "elicitationId": "1"}


def questions(**options: Any) -> Questions:
    return Client(Scripted(), **options)._questions


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(
    ("options", "method", "params", "answer"),
    [
        (ALL, "elicitation/create", {"message": "Who?", "requestedSchema": {}}, ACCEPTED),
        (ALL, "elicitation/create", {"mode": "form", "message": "Who?"}, ACCEPTED),
        (ALL | {"capabilities": {"elicitation": {"url": {}}}}, "elicitation/create", URL, ACCEPTED),
        (ALL, "sampling/createMessage", {"messages": []}, SAMPLED),
        (ALL | {"capabilities": {"sampling": {"tools": {}}}}, "sampling/createMessage", {"tools": []}, SAMPLED),
        (ALL, "roots/list", {}, {"roots": ROOTS}),
        (ALL, "roots/list", None, {"roots": ROOTS}),
        ({"roots": tuple(ROOTS)}, "roots/list", {}, {"roots": ROOTS}),
        ({"roots": lambda: ROOTS}, "roots/list", {}, {"roots": ROOTS}),
        ({"roots": compute_roots}, "roots/list", {}, {"roots": ROOTS}),
        ({"roots": []}, "roots/list", {}, {"roots": []}),
    ],
)
async def test_who_answers(version: str, options: dict[str, Any], method: str, params: Any, answer: Any) -> None:
    async with Client(asking(version, method, params), protocol_version=version, **options) as client:
        assert await client.call_tool("t") == {"answer": answer}


def fail(params: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("mine")


@pytest.mark.parametrize(
    ("options", "method", "params", "code", "said"),
    [
        ({}, "elicitation/create", {}, -32601, "'elicitation/create'"),
        ({"on_elicit": elicit}, "sampling/createMessage", {}, -32601, "'sampling/createMessage'"),
        ({"on_elicit": elicit}, "roots/list", {}, -32601, "'roots/list'"),
        (ALL, "tools/call", {}, -32601, "'tools/call'"),
        (ALL, "elicitation/create", URL, -32602, "'url' for elicitation/create"),
        (ALL, "elicitation/create", {"mode": "other"}, -32602, "'other' for elicitation/create"),
        (ALL | {"capabilities": {"elicitation": {"url": {}}}}, "elicitation/create", {}, -32602, "'form'"),
        (ALL, "sampling/createMessage", {"tools": []}, -32602, "'tools' for sampling/createMessage"),
        (ALL, "sampling/createMessage", {"toolChoice": {}}, -32602, "'tools' for sampling/createMessage"),
    ],
)
@pytest.mark.parametrize("version", ERAS)
async def test_what_was_not_declared_is_refused(
    version: str, options: dict[str, Any], method: str, params: Any, code: int, said: str
) -> None:
    async with Client(asking(version, method, params), protocol_version=version, **options) as client:
        with pytest.raises(RpcError) as caught:
            await client.call_tool("t")
    assert caught.value.code == code
    if version == ERAS[0] or code == -32602:
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("callback", "error", "said"),
    [(fail, ZeroDivisionError, "mine"), (lambda params: "yes", TypeError, "must return a dict, not 'yes'")],
)
async def test_a_callback_that_fails(callback: Callable[[Any], Any], error: type[Exception], said: str) -> None:
    """In the modern era its caller waits here; on a legacy connection only the server does, and learns no more."""
    async with Client(asking(ERAS[0], "elicitation/create", {}), protocol_version=ERAS[0], on_elicit=callback) as new:
        with pytest.raises(error, match=said):
            await new.call_tool("t")
    async with Client(asking(ERAS[1], "elicitation/create", {}), protocol_version=ERAS[1], on_elicit=callback) as old:
        with pytest.raises(RpcError, match="Internal error") as caught:
            await old.call_tool("t")
    assert said not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        ({}, {}),
        (ALL | {"roots": []}, {"elicitation": {}, "sampling": {}, "roots": {}}),
        ({"on_elicit": elicit, "capabilities": {"elicitation": {"url": {}}}}, {"elicitation": {"url": {}}}),
        (
            {"capabilities": {"experimental": {}}, "extensions": {"a/b": {}}},
            {"experimental": {}, "extensions": {"a/b": {}}},
        ),
        ({"roots": compute_roots, "extensions": {}}, {"roots": {}}),
    ],
)
def test_what_is_declared(options: dict[str, Any], declared: dict[str, Any]) -> None:
    assert questions(**options).capabilities == declared


@pytest.mark.parametrize(
    ("asked", "carried"),
    [
        ({"inputRequests": {"k": {"method": "roots/list"}}}, {"inputResponses": {"k": {"roots": ROOTS}}}),
        (
            {"inputRequests": {"b": {"method": "roots/list"}, "a": {"method": "elicitation/create", "params": {}}}},
            {"inputResponses": {"b": {"roots": ROOTS}, "a": ACCEPTED}},
        ),
        ({"requestState": "s"}, {"inputResponses": {}, "requestState": "s"}),
        ({"requestState": "é\u2028 ==", "inputRequests": {}}, {"inputResponses": {}, "requestState": "é\u2028 =="}),
        ({"requestState": ""}, {"inputResponses": {}, "requestState": ""}),
        ({}, {"inputResponses": {}}),
    ],
)
async def test_what_the_next_round_carries(asked: dict[str, Any], carried: dict[str, Any]) -> None:
    assert await questions(**ALL).inputs(asked) == carried


@pytest.mark.parametrize(
    "asked",
    [
        {"inputRequests": []},
        {"inputRequests": {"k": "roots/list"}},
        {"inputRequests": {"k": {"method": 5}}},
        {"inputRequests": {"k": {"method": "roots/list", "params": []}}},
    ],
)
async def test_what_is_no_question(asked: dict[str, Any]) -> None:
    with pytest.raises(RpcError, match="has not the form it should have"):
        await questions(**ALL).inputs(asked)
