"""The walk through `@modelcontextprotocol/server-everything` 2026.8.31: every tool, resource and prompt it offers.

It speaks up to 2025-11-25. `simulate-research-query` needs that revision's experimental tasks and must say so; the
gzip tool is given a data: URL, since its default would fetch a page.
"""

from __future__ import annotations

import asyncio

from walk import ACCEPT, DECLINE, ROOTS, Cell, Json, Subject, expect, text

PLAIN_TOOLS = [
    "echo",
    "get-annotated-message",
    "get-env",
    "get-resource-links",
    "get-resource-reference",
    "get-structured-content",
    "get-sum",
    "get-tiny-image",
    "gzip-file-as-resource",
    "toggle-simulated-logging",
    "toggle-subscriber-updates",
    "trigger-long-running-operation",
]
# Registered only after the client has declared what they ask of it.
ASKING_TOOLS = [
    "get-roots-list",
    "simulate-research-query",
    "trigger-elicitation-request",
    "trigger-sampling-request",
]
DOCUMENTS = 7
TEXT, BLOB = "demo://resource/dynamic/text/1", "demo://resource/dynamic/blob/1"
LISTED_WITHIN = 5.0  # seconds after the handshake


async def _tools(subject: Subject) -> None:
    async with asyncio.timeout(LISTED_WITHIN):
        while missing := {*PLAIN_TOOLS, *ASKING_TOOLS} - {tool["name"] for tool in await subject.tools()}:
            assert not missing & {*PLAIN_TOOLS}, missing


async def _simple_tools(subject: Subject) -> None:
    expect("echo", text(await subject.call("echo", {"message": "hällo ✓"})), "Echo: hällo ✓")
    expect("sum", text(await subject.call("get-sum", {"a": 1, "b": 2})), "The sum of 1 and 2 is 3.")
    expect("PATH in the environment", "PATH" in text(await subject.call("get-env", {})), True)


async def _contents(subject: Subject) -> None:
    arguments = {"messageType": "success", "includeImage": True}
    expect("annotated", await _kinds(subject, "get-annotated-message", arguments), ["text", "image"])
    image = await _kinds(subject, "get-tiny-image", {})
    expect("image", image, ["text", "image", "text"])
    links = await _kinds(subject, "get-resource-links", {"count": 2})
    expect("links", links, ["text", "resource_link", "resource_link"])
    reference = await _kinds(subject, "get-resource-reference", {"resourceType": "Blob", "resourceId": 1})
    expect("reference", reference, ["text", "resource", "text"])


async def _kinds(subject: Subject, tool: str, arguments: Json) -> list[str]:
    return [content["type"] for content in (await subject.call(tool, arguments))["content"]]


async def _structured(subject: Subject) -> None:
    result = await subject.call("get-structured-content", {"location": "New York"})
    expect("members", sorted(result["structuredContent"]), ["conditions", "humidity", "temperature"])


async def _tool_error(subject: Subject) -> None:
    expect("isError", (await subject.call("get-sum", {"a": "one"})).get("isError"), True)


async def _tasks(subject: Subject) -> None:
    try:
        refused = (await subject.call("simulate-research-query", {"topic": "tides"})).get("isError", False)
    except Exception as error:
        refused = subject.code(error) is not None  # -32601 of the server, or a client's own refusal
    expect("refused", refused, True)


async def _progress(subject: Subject) -> None:
    seen: list[tuple[float, float | None]] = []
    arguments = {"duration": 0.3, "steps": 3}
    await subject.call("trigger-long-running-operation", arguments, lambda done, total, _: seen.append((done, total)))
    # The last step comes together with the answer, where the TypeScript client drops it.
    expect("progress", seen[:2], [(1, 3), (2, 3)])


async def _elicitation(subject: Subject) -> None:
    subject.callbacks.elicit_answer = ACCEPT
    accepted = (await subject.call("trigger-elicitation-request", {}))["content"]
    expect("accepted", accepted[1]["text"], "User inputs:\n- Name: Ada")
    subject.callbacks.elicit_answer = DECLINE
    declined = text(await subject.call("trigger-elicitation-request", {}))
    assert "declined" in declined, declined
    subject.callbacks.elicit_answer = ACCEPT


async def _sampling(subject: Subject) -> None:
    answer = text(await subject.call("trigger-sampling-request", {"prompt": "capital of France?", "maxTokens": 7}))
    assert "Paris" in answer, answer
    expect("maxTokens", subject.callbacks.asked[-1]["maxTokens"], 7)


async def _roots(subject: Subject) -> None:
    assert ROOTS[0]["uri"] in text(await subject.call("get-roots-list", {}))


async def _logging(subject: Subject) -> None:
    await subject.set_level("debug")
    subject.callbacks.heard.clear()
    await subject.call("toggle-simulated-logging", {})
    await subject.callbacks.heard.wait()
    await subject.call("toggle-simulated-logging", {})


async def _resources(subject: Subject) -> None:
    resources = await subject.resources()
    expect("documents", len(resources), DOCUMENTS)
    for resource in resources:
        assert (await subject.read(resource["uri"]))["contents"][0]["text"], resource


async def _templates(subject: Subject) -> None:
    expect("templates", len(await subject.templates()), 2)
    assert "plaintext" in (await subject.read(TEXT))["contents"][0]["text"]
    assert (await subject.read(BLOB))["contents"][0]["blob"]


async def _session_resource(subject: Subject) -> None:
    arguments = {"name": "x.gz", "data": "data:text/plain;base64,SGVsbG8=", "outputType": "resourceLink"}
    link = (await subject.call("gzip-file-as-resource", arguments))["content"][0]
    assert (await subject.read(link["uri"]))["contents"][0]["blob"].startswith("H4sI"), link


async def _updates(subject: Subject) -> None:
    async def toggle() -> None:
        if subject.callbacks.updated.empty():
            await subject.call("toggle-subscriber-updates", {})

    expect("updated", await subject.watch(TEXT, toggle), TEXT)


async def _prompts(subject: Subject) -> None:
    names = {prompt["name"] for prompt in await subject.prompts()}
    arguments: dict[str, dict[str, str]] = {
        "simple-prompt": {},
        "args-prompt": {"city": "Oslo"},
        "completable-prompt": {"department": "Sales", "name": "Eve"},
        "resource-prompt": {"resourceType": "Text", "resourceId": "1"},
    }
    expect("prompts", names, set(arguments))
    for name, given in arguments.items():
        assert (await subject.prompt(name, given))["messages"], name


async def _completion(subject: Subject) -> None:
    ref = {"type": "ref/prompt", "name": "completable-prompt"}
    result = await subject.complete(ref, {"name": "department", "value": "S"})
    expect("values", result["completion"]["values"], ["Sales", "Support"])


async def _ping(subject: Subject) -> None:
    await subject.ping()


CELLS: dict[str, Cell] = {
    "list tools": _tools,
    "call": _simple_tools,
    "contents": _contents,
    "structured": _structured,
    "tool error": _tool_error,
    "tasks": _tasks,
    "progress": _progress,
    "elicitation": _elicitation,
    "sampling": _sampling,
    "roots": _roots,
    "logging": _logging,
    "resources": _resources,
    "templates": _templates,
    "session file": _session_resource,
    "updates": _updates,
    "prompts": _prompts,
    "completion": _completion,
    "ping": _ping,
}
