"""What a stateless server must remember, signed and given to the client to keep.

The files above have kept nothing for a client. But a modern server that asks the user something
forgets the call and is called again, and what it had learned so far must not be lost: it travels
with the client as `requestState`. This file makes sure that it comes back unaltered, in time, from
the same caller, and with the same request.

Spec: 2026-07-28 basic/patterns/mrtr#server-requirements-basic-workflow.
Wire: "requestState": "eyJhbnN3ZXJzIjp7fSwicm91bmQiOjF9.x5Zk…": base64url of JSON, a dot, base64url of its HMAC-SHA256.

Deliberately absent: secrecy (the client may read the answers, they are its own) and single use,
which only an application with a memory can promise.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from .jsonrpc import Params, invalid_params

LIFETIME = 3600.0  # seconds; a person may take a while to answer
MAX_STATE = 256 * 2**10  # characters; it travels in every round
MAX_ROUNDS = 32  # of questions in one request, so that no handler asks for ever
_VARYING = frozenset({"_meta", "inputResponses", "requestState"})  # the members that differ from round to round


class RequestState:
    """Seals and opens the state of requests. key: bytes, the same for every instance that serves the same clients."""

    def __init__(self, key: bytes, lifetime: float = LIFETIME, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._lifetime = lifetime
        self._now = now

    def seal(self, answers: dict[str, Any], round: int, method: str, params: Params, principal: str | None) -> str:
        """Return the state that proves these answers. Raises RpcError -32602 past the bounds on rounds and size."""
        if round > MAX_ROUNDS:
            raise invalid_params(f"the request asked for input {MAX_ROUNDS} times")
        payload = {"answers": answers, "round": round, "expires": int(self._now() + self._lifetime)}
        text = urlsafe_b64encode(json.dumps(payload, separators=(",", ":")).encode()).decode()
        if len(text) > MAX_STATE:
            raise invalid_params(f"the answers take more than {MAX_STATE} characters")
        return f"{text}.{self._sign(text, method, params, principal)}"

    def open(self, state: Any, method: str, params: Params, principal: str | None) -> tuple[dict[str, Any], int]:
        """Return the answers and the round of a state that `seal` made for the same request and principal.

        MUST treat it as attacker-controlled and reject what fails verification (basic/patterns/mrtr).
        Raises RpcError -32602.
        """
        text, _, signature = state.rpartition(".") if isinstance(state, str) else ("", "", "")
        expected = self._sign(text, method, params, principal)
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode()):
            raise invalid_params("requestState was altered, or belongs to another request or caller")
        payload = json.loads(urlsafe_b64decode(text))
        if payload["expires"] < self._now():
            raise invalid_params("requestState has expired; send the request without it to begin again")
        return payload["answers"], payload["round"]

    def _sign(self, text: str, method: str, params: Params, principal: str | None) -> str:
        salient = {key: value for key, value in params.items() if key not in _VARYING}
        bound = json.dumps([text, method, salient, principal], sort_keys=True)
        return urlsafe_b64encode(hmac.digest(self._key, bound.encode(), hashlib.sha256)).decode()
