"""What the official servers offer, as plain JSON; `our_server.py` declares the same through its decorators."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

FIXED = "note://fixed"
TEMPLATE = "note://about/{topic}"
ABOUT = "note://about/"
NAMES = ("Ada", "Alan", "Grace")
ASK_NAME: Json = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
MESSAGES: list[Json] = [{"role": "user", "content": {"type": "text", "text": "What is the capital of France?"}}]
PROMPTS: list[Json] = [{"name": "greet", "arguments": [{"name": "who", "required": True}]}]
RESOURCES: list[Json] = [{"name": "fixed", "uri": FIXED, "mimeType": "text/plain"}]
TEMPLATES: list[Json] = [{"name": "about", "uriTemplate": TEMPLATE}]


# The TypeScript client drops progress that arrives in the same read as the answer, so a pause stands between the two.
PAUSE = 0.05  # seconds


def schema(**properties: str) -> Json:
    """Return the schema of an object whose members are all required."""
    members = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "properties": members, "required": list(members)}


NO_ARGUMENTS = ["fail", "chatty", "hang", "was_cancelled", "ask_name", "ask_model", "ask_roots", "touch"]
TOOLS: list[Json] = [
    {"name": "add", "inputSchema": schema(a="integer", b="integer")},
    {"name": "weather", "inputSchema": schema(city="string"), "outputSchema": schema(city="string", celsius="integer")},
    {"name": "count", "inputSchema": schema(n="integer")},
    *({"name": name, "inputSchema": schema()} for name in NO_ARGUMENTS),
]


def note(uri: str) -> str | None:
    """Return the text of a resource, None for one that is not there."""
    if uri == FIXED:
        return "fixed text"
    return f"a note about {uri.removeprefix(ABOUT)}" if uri.startswith(ABOUT) else None


def greeting(who: str) -> list[Json]:
    """Return the messages of the prompt."""
    return [{"role": "user", "content": {"type": "text", "text": f"Greet {who}"}}]


def completions(start: str) -> list[str]:
    """Return the names that begin with `start`."""
    return [name for name in NAMES if name.startswith(start)]


def text(words: str) -> Json:
    """Return the result of a tool that answers in words."""
    return {"content": [{"type": "text", "text": words}]}
