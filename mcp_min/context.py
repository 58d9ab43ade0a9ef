"""What a handler may do while it runs: report progress, log, ask the client.

`dispatcher.py` gives a handler a `Call`, which is the transport's view of a request. A `Context`
adds the protocol's: the revision, the client, and questions that are written once and work in
both eras. On a legacy connection `elicit` sends a request and waits. In the modern era nobody
waits: the answer is found in the request, or the call ends with `input_required` and the client
calls again with the answer; the handler then runs from its start, and finds it.

So code before a question runs once more with every round. Side effects go after it.

Spec: 2026-07-28 basic/patterns/mrtr, basic/patterns/progress, server/utilities/logging, client/*;
      2025-11-25 client/*.
Wire: ← {"resultType":"input_required","inputRequests":{"1":{"method":"elicitation/create",
         "params":{"message":"Your name?","requestedSchema":{…}}}},"requestState":"eyJ…"}
      → the same request with "inputResponses":{"1":{"action":"accept","content":{…}}}, "requestState":"eyJ…"

A context lives as long as its request, and owns nothing.

Deliberately absent: a way to send after the request has been answered; what is tried then is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import jsonrpc, spec
from .dispatcher import Ask, Call
from .json_schema import Schema
from .jsonrpc import INVALID_REQUEST, Params, RequestId, Result, RpcError

T = TypeVar("T")
Question = dict[str, Any]  # {"method": "elicitation/create", "params": {…}}


class ToolError(Exception):
    """A failure that the model should read: the call's result has `isError` and this text."""


class InputRequired(BaseException):
    """Ends a modern call with questions. No Exception, so that `except Exception` in a handler cannot swallow it."""

    def __init__(self, questions: dict[str, Question]) -> None:
        self.questions = questions


def questions_in(problem: BaseException) -> dict[str, Question]:
    """Return the questions that ended a handler, several where the tasks of a TaskGroup asked; raise any other end."""
    if isinstance(problem, BaseExceptionGroup):
        return {key: question for each in problem.exceptions for key, question in questions_in(each).items()}
    if not isinstance(problem, InputRequired):
        raise problem
    return problem.questions


@dataclass(slots=True, eq=False)
class Caller:
    """What a client says of itself: in each modern request, or once in `initialize`."""

    version: str
    info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    log_level: str | None = None  # the least severe that it wants, None for no logs at all


@dataclass(slots=True, eq=False)
class Context:
    """One request, as its handler sees it: a parameter annotated `Context` receives it."""

    call: Call
    client: Caller
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)  # for handlers in threads
    answers: dict[str, Any] = field(default_factory=dict)  # to earlier rounds' questions, verified
    responses: dict[str, Any] = field(default_factory=dict)  # to the last round's, as the client sent them
    round: int = 0  # how often this request has asked before
    _asked: int = 0  # questions that this run has asked; the ordinal is the key of one that was given none
    _progress: float | None = None  # the last that was told

    @property
    def request_id(self) -> RequestId | None:
        """The request's id, unique among those in flight on its connection."""
        return self.call.message.get("id")

    @property
    def meta(self) -> dict[str, Any]:
        """The request's `_meta`."""
        meta: dict[str, Any] = self.call.message.get("params", {}).get("_meta", {})
        return meta

    @property
    def protocol_version(self) -> str:
        """The revision that this request is served by."""
        return self.client.version

    @property
    def client_info(self) -> dict[str, Any]:
        """Name and version of the client, by its own word; {} where it gave none."""
        return self.client.info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        """What the client can be asked for."""
        return self.client.capabilities

    @property
    def principal(self) -> str | None:
        """Who authenticated; None without authentication."""
        return self.call.principal

    def close_stream(self) -> None:
        """End an HTTP response stream before the answer; a 2025-11-25 client comes back for it. Elsewhere: nothing."""
        if self.call.close_stream is not None:
            self.call.close_stream()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await from a `def` handler, which runs in a thread: `ctx.wait(ctx.progress(1))`."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
        coroutine.close()
        raise RuntimeError("ctx.wait() would stop the event loop: it is for `def` handlers in a thread; use await here")

    # --- telling ---------------------------------------------------------------------------------

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the work is, when the client wants to know.

        Spec: 2026-07-28 basic/patterns/progress. The unit is the handler's own. A value that does
        not exceed the last one is not sent, since it MUST increase with each notification.
        """
        token = self.meta.get("progressToken")
        if token is None or (self._progress is not None and progress <= self._progress):
            return
        self._progress = progress
        params: Params = {"progressToken": token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None and self.client.version >= spec.MEMBER_SINCE["message"]:
            params["message"] = message
        await self._notify("notifications/progress", params)

    async def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """Send a log message at "debug" to "emergency", when the client wants that level. data: any JSON value."""
        if level not in spec.LOG_LEVELS:
            raise ValueError(f"no log level {level!r}; there are {', '.join(spec.LOG_LEVELS)}")
        # MUST NOT emit logs for a modern request that does not ask for them (server/utilities/logging).
        least = self.client.log_level
        if least is not None and spec.LOG_LEVELS.index(level) >= spec.LOG_LEVELS.index(least):
            params = {"level": level, "data": data} | ({} if logger is None else {"logger": logger})
            await self._notify("notifications/message", params)

    async def _notify(self, method: str, params: Params) -> None:
        if self.call.open and self.call.send is not None:
            await self.call.send(jsonrpc.notification(method, params))

    # --- asking ----------------------------------------------------------------------------------

    async def elicit(self, message: str, schema: dict[str, Any], *, key: str | None = None) -> Result:
        """Ask the user to fill in a form: {"action": "accept", "content": {…}}, or "decline", or "cancel".

        Spec: client/elicitation. schema: an object of flat properties; accepted content has been checked
        against it. key: the question's name in `inputRequests`, by default its ordinal. Never ask for
        secrets this way, use `elicit_url`. Raises RpcError -32021 when the client cannot ask its user.
        """
        return await self._ask(key, elicitation(message, schema))

    async def elicit_url(self, message: str, url: str, *, key: str | None = None) -> Result:
        """Send the user to a page, for what must not pass through the client: secrets, payments, logins."""
        return await self._ask(key, url_elicitation(message, url))

    async def sample(
        self, messages: str | list[dict[str, Any]], *, max_tokens: int, key: str | None = None, **options: Any
    ) -> Result:
        """Have the client's model write: {"role": "assistant", "content": …, "model": …, "stopReason": …}.

        Spec: client/sampling. messages: of the specification, or a string for one user message.
        options: further members of the request under their wire names (systemPrompt, tools, toolChoice, …).
        """
        return await self._ask(key, sampling(messages, max_tokens=max_tokens, **options))

    async def roots(self, *, key: str | None = None) -> list[dict[str, Any]]:
        """Return the client's roots: [{"uri": "file:///home/user/project", "name": "project"}]."""
        answer = await self._ask(key, ROOTS)
        return list(answer["roots"])

    async def _ask(self, key: str | None, question: Question) -> Result:
        self._asked += 1
        key = key or str(self._asked)
        return (await self.ask({key: question}))[key]

    async def ask(self, questions: dict[str, Question]) -> dict[str, Result]:
        """Ask several questions at once and return the answers under the same keys.

        questions: made by `elicitation`, `url_elicitation`, `sampling`, or `ROOTS`. In the modern era the
        answers that are there already are kept, and only the others are asked for.

        Spec: 2026-07-28 basic/patterns/mrtr. Raises RpcError: -32021 where the client has not declared what a
        question needs, -32600 where it cannot be asked; and ToolError when it answers with what is none.
        When cancelled, or when one of them fails, questions to a legacy client have been sent, and are cancelled too.
        """
        for question in questions.values():
            self._require(question)
        if self.call.stands_alone:
            return self._find(questions)
        request = self.call.request
        if request is None or not self.call.open:
            raise jsonrpc.invalid_request("the client cannot be asked: it is stateless, or has its answer already")
        asking = [asyncio.ensure_future(self._send(request, question)) for question in questions.values()]
        try:
            return dict(zip(questions, await asyncio.gather(*asking), strict=True))
        finally:
            for each in asking:
                each.cancel()  # where one has failed, nobody waits for the others

    def _find(self, questions: dict[str, Question]) -> dict[str, Result]:
        method = self.call.message["method"]
        if method not in spec.INPUT_METHODS:
            # MUST NOT answer any other request with `input_required` (basic/patterns/mrtr#supported-requests).
            raise jsonrpc.invalid_request(f"{method} cannot ask for input; {', '.join(sorted(spec.INPUT_METHODS))} can")
        for key, question in questions.items():
            if key not in self.answers and key in self.responses and not _problem(question, self.responses[key]):
                self.answers[key] = self.responses[key]
        missing = {key: question for key, question in questions.items() if key not in self.answers}
        if missing:
            raise InputRequired(missing)
        return {key: self.answers[key] for key in questions}

    async def _send(self, request: Ask, question: Question) -> Result:
        params = question["params"]
        if params.get("mode") == "url":
            # Required until 2025-11-25, gone since; any string that names the question will do.
            params = params | {"elicitationId": f"{self.request_id}-{params['url']}"}
        answer = await request(question["method"], params)
        if problem := _problem(question, answer):
            raise ToolError(f"the client's answer to {question['method']} does not fit: {problem}")
        return answer

    def _require(self, question: Question) -> None:
        """MUST NOT ask for what the client has not declared (2026-07-28 basic/index#_meta, basic/patterns/mrtr)."""
        name = spec.CLIENT_CAPABILITY_OF[question["method"]]
        declared = self.client.capabilities.get(name)
        needed: dict[str, Any] = {}
        if question["params"].get("mode") == "url":
            needed = {"url": {}}
        elif question["params"].keys() & {"tools", "toolChoice"}:
            needed = {"tools": {}}
        elif name == "elicitation" and declared:
            needed = {"form": {}}  # an empty object declares forms, one that names only "url" does not
        if not isinstance(declared, dict) or not needed.keys() <= declared.keys():
            details = f"the client did not declare the capability {'.'.join([name, *needed])}"
            code = spec.MISSING_CLIENT_CAPABILITY if self.call.stands_alone else INVALID_REQUEST
            data = {"requiredCapabilities": {name: needed}, "details": details}
            raise RpcError(code, "Missing client capability", data)


# --- questions -----------------------------------------------------------------------------------


def elicitation(message: str, schema: dict[str, Any]) -> Question:
    """A form for the user."""
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def url_elicitation(message: str, url: str) -> Question:
    """A page for the user."""
    return {"method": "elicitation/create", "params": {"mode": "url", "message": message, "url": url}}


def sampling(messages: str | list[dict[str, Any]], *, max_tokens: int, **options: Any) -> Question:
    """A completion by the client's model."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": {"type": "text", "text": messages}}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": max_tokens, **options}}


ROOTS: Question = {"method": "roots/list", "params": {}}


# What an answer must have, by the method that asked.
_ANSWERS: dict[str, dict[str, Any]] = {
    "elicitation/create": {"action": {"enum": ["accept", "decline", "cancel"]}},
    "sampling/createMessage": {"role": {}, "content": {"type": ["object", "array"]}},
    "roots/list": {"roots": {"type": "array"}},
}


def _problem(question: Question, answer: Any) -> str:
    """Return why `answer` does not answer `question`, "" when it does."""
    members, form = _ANSWERS[question["method"]], question["params"].get("requestedSchema")
    errors = Schema({"type": "object", "required": [*members], "properties": members}).errors(answer, "answer")
    # SHOULD validate received data against the schema that asked (client/elicitation).
    if not errors and form is not None and answer["action"] == "accept":
        errors = Schema(form).errors(answer.get("content"), "content")
    return "; ".join(errors)
