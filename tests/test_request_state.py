"""What a client keeps for a stateless server: only what was sealed, for this request and caller, comes back in time."""

from __future__ import annotations

import base64
import json

import pytest

from mcp_min import request_state
from mcp_min.jsonrpc import RpcError
from mcp_min.request_state import RequestState

KEY = b"k" * 32
METHOD = "tools/call"
PARAMS = {"name": "greet", "arguments": {"a": 1, "b": ["é", {"c": None}]}}
ANSWERS = {"1": {"action": "accept", "content": {"name": "Ann"}}, "é": {"roots": []}}
NOW = 1_000_000.0


def keeper(now=NOW, key=KEY, **options):
    return RequestState(key, now=lambda: now, **options)


def sealed(answers=ANSWERS, round=2, method=METHOD, params=PARAMS, principal="ann", **options):
    return keeper(**options).seal(answers, round, method, params, principal)


def refused(state, method=METHOD, params=PARAMS, principal="ann", **options):
    with pytest.raises(RpcError) as raised:
        keeper(**options).open(state, method, params, principal)
    assert raised.value.code == -32602
    return raised.value.data["details"]


@pytest.mark.parametrize("answers", [{}, ANSWERS, {"x": {"text": "\u2028🎉"}}])
@pytest.mark.parametrize("principal", [None, "ann"])
def test_what_was_sealed_comes_back(answers, principal):
    state = sealed(answers, 3, principal=principal)
    assert keeper().open(state, METHOD, PARAMS, principal) == (answers, 3)
    assert state.isascii()


@pytest.mark.parametrize(
    "members",
    [
        {"inputResponses": {"1": {"action": "accept"}}},
        {"requestState": "the one before"},
        {"_meta": {"progressToken": 7}},
        {"inputResponses": {}, "requestState": "", "_meta": {}},
    ],
)
def test_the_members_of_a_retry_may_differ(members):
    assert keeper().open(sealed(params=PARAMS | {"_meta": {}}), METHOD, PARAMS | members, "ann") == (ANSWERS, 2)


def test_members_may_come_in_another_order():
    params = {"arguments": {"b": ["é", {"c": None}], "a": 1}, "name": "greet"}
    assert keeper().open(sealed(), METHOD, params, "ann") == (ANSWERS, 2)


def test_every_instance_with_the_key_opens_it():
    assert RequestState(KEY, now=lambda: NOW).open(sealed(), METHOD, PARAMS, "ann") == (ANSWERS, 2)
    assert "altered" in refused(sealed(), key=b"another" * 5)


@pytest.mark.parametrize(
    "other",
    [
        {"principal": None},
        {"principal": "bob"},
        {"principal": ""},
        {"method": "prompts/get"},
        {"params": {}},
        {"params": PARAMS | {"name": "delete"}},
        {"params": PARAMS | {"arguments": {}}},
        {"params": PARAMS | {"more": 1}},
        {"params": {"name": "greet"}},
    ],
    ids=str,
)
def test_another_request_or_caller_is_refused(other):
    assert "another request or caller" in refused(sealed(), **other)


def test_nobody_is_not_the_user_called_none():
    assert "altered" in refused(sealed(principal=None), principal="None")


def forged(payload):
    return base64.urlsafe_b64encode(json.dumps(payload).encode()).decode()


FORGERIES = {
    "empty": "",
    "a dot": ".",
    "no signature": sealed().rpartition(".")[0],
    "an empty signature": sealed().rpartition(".")[0] + ".",
    "the signature alone": "." + sealed().rpartition(".")[2],
    "another payload": forged({"answers": {}, "round": 0, "expires": 9e9}) + "." + sealed().rpartition(".")[2],
    "the signature of another state": sealed().rpartition(".")[0] + "." + sealed(round=1).rpartition(".")[2],
    "a character changed": sealed().replace("e", "f", 1),
    "a character more": sealed() + "=",
    "a character less": sealed()[:-1],
    "a newline": sealed() + "\n",
    "beyond ASCII": "é.é",
    "half a character": "\ud800.\ud800",
    "long": "x" * 10**6,
}


@pytest.mark.parametrize("state", FORGERIES.values(), ids=FORGERIES)
def test_what_was_altered_is_refused(state):
    assert "altered" in refused(state)


@pytest.mark.parametrize("state", [None, 5, True, [], {}, ["x.y"], b"x.y"])
def test_what_is_no_string_is_refused(state):
    assert "altered" in refused(state)


def test_every_bit_counts():
    state = sealed()
    for position in range(len(state)):
        changed = state[:position] + ("A" if state[position] != "A" else "B") + state[position + 1 :]
        refused(changed)


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (60, True), (59.9, True), (60.1, False), (10**6, False)])
def test_it_expires(age, fresh):
    state = sealed(lifetime=60)
    if fresh:
        assert keeper(now=NOW + age).open(state, METHOD, PARAMS, "ann") == (ANSWERS, 2)
    else:
        assert "expired" in refused(state, now=NOW + age)


def test_by_default_it_lasts_an_hour():
    state = RequestState(KEY).seal({}, 1, METHOD, PARAMS, None)
    assert RequestState(KEY).open(state, METHOD, PARAMS, None) == ({}, 1)
    assert request_state.LIFETIME == 3600


def test_nobody_is_asked_for_ever():
    sealed(round=request_state.MAX_ROUNDS)
    with pytest.raises(RpcError, match="asked for input 32 times") as raised:
        sealed(round=request_state.MAX_ROUNDS + 1)
    assert raised.value.code == -32602


def test_answers_have_a_size():
    sealed({"1": "x" * (request_state.MAX_STATE * 3 // 4 - 100)})
    with pytest.raises(RpcError, match="characters") as raised:
        sealed({"1": "x" * (request_state.MAX_STATE * 3 // 4)})
    assert raised.value.code == -32602
