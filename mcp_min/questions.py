"""What a server may ask its client, and who answers: the same callbacks in both eras.

`connection.py` carries what a client asks; this file is about the other direction. On a legacy
connection a question is a request, and `handlers` stand in the dispatcher's table. In the modern era
it is part of an `input_required` result, and `inputs` makes what the next round of the request carries.

Spec: 2026-07-28 basic/patterns/mrtr, client/*; 2025-11-25 client/*.
Wire: ← {"resultType":"input_required","requestState":"eyJ…","inputRequests":{"1":{"method":"elicitation/create",
         "params":{"message":"Your name?","requestedSchema":{…}}}}}
      → {…,"requestState":"eyJ…","inputResponses":{"1":{"action":"accept","content":{"name":"Ada"}}}}

Deliberately absent: a user and a model. Callbacks bring them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from . import spec
from .connection import member
from .dispatcher import Call, Handler
from .jsonrpc import METHOD_NOT_FOUND, Params, Result, RpcError, invalid_params

Callback = Callable[[Params], Any]


class Questions:
    """The callbacks, by the method that asks for them; each declares its capability, to which `more` adds.

    A callback takes the question's params and returns its result, that for roots returns a list.
    """

    def __init__(self, callbacks: dict[str, Callback | None], more: dict[str, Any]) -> None:
        self._callbacks = {method: asked for method, asked in callbacks.items() if asked is not None}
        self.capabilities: dict[str, Any] = {spec.CLIENT_CAPABILITY_OF[method]: {} for method in self._callbacks}
        self.capabilities |= more

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the requests that a legacy server sends."""
        return dict.fromkeys(self._callbacks, self._handle)

    async def _handle(self, params: Params, call: Call) -> Result:
        return await self._answer(call.message["method"], params)

    async def inputs(self, asked: Result) -> Params:
        """Return what a request carries after an `input_required` result, besides what it carried before.

        Spec: 2026-07-28 basic/patterns/mrtr#client-requirements-basic-workflow. Raises RpcError for what
        was not declared, and whatever a callback raises.
        """
        responses = {}
        questions = member(asked, "inputRequests", dict)
        for key in questions:
            question = member(questions, key, dict)
            responses[key] = await self._answer(member(question, "method", str), member(question, "params", dict))
        # MUST echo requestState exactly, and MUST NOT include one that was not given.
        state = {"requestState": asked["requestState"]} if "requestState" in asked else {}
        return {"inputResponses": responses} | state

    async def _answer(self, method: str, params: Params) -> Result:
        if method not in self._callbacks:
            details = f"the server asks for {method!r:.50}, which this client has not declared"
            raise RpcError(METHOD_NOT_FOUND, "Method not found", {"details": details})
        declared = self.capabilities[spec.CLIENT_CAPABILITY_OF[method]]
        if method == "elicitation/create":
            needed, declared = str(params.get("mode", "form")), declared or {"form": {}}
        else:
            needed = "tools" if params.keys() & {"tools", "toolChoice"} else ""
        # MUST refuse a mode (2025-11-25 client/elicitation#error-handling) and tools (its schema) not declared.
        if needed and needed not in declared:
            raise invalid_params(f"this client has not declared {needed!r:.50} for {method}")
        value = self._callbacks[method](params)
        value = await value if inspect.isawaitable(value) else value
        result: Result = {"roots": list(value)} if method == "roots/list" else value
        if not isinstance(result, dict):
            raise TypeError(f"the callback for {method} must return a dict, not {result!r:.50}")
        return result
