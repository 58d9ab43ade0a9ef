"""What a person types and sees: words as arguments, answers as lines, questions at the prompt.

`serving.py` and `client.py` are doors for programs. This file knows people: that `limit=5` means a
number when the tool asks for one, that a list of tools has to fit 80 columns, and that a server's
question wants a default and a choice. `__main__.py` joins the two.

Spec: 2026-07-28 client/elicitation#requested-schema (forms), server/tools#tool-result (content).
Wire: {"message":"Delete it?","requestedSchema":{"properties":{"sure":{"type":"boolean","default":false}}}}
      Delete it?
        sure (yes or no) [no]: yes
      {"action":"accept","content":{"sure":true}}

Deliberately absent: colours, and opening links that a server sends.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from . import jsonrpc
from .json_schema import Schema
from .jsonrpc import Params, Result

WIDTH = 80  # columns
BAR = 30  # columns of a progress bar
ERASE = f"\r{'':{WIDTH - 1}}\r"
BOOLEANS = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}


class Misuse(Exception):
    """What was typed makes no sense; exit status 2."""


def say(text: object, end: str = "\n") -> None:
    """Write one line on stderr."""
    print(one_line(text), end=end, file=sys.stderr, flush=True)


def one_line(text: object) -> str:
    """Return a stranger's text as one line that is printable."""
    return printable(" ".join(str(text).split()))


def printable(text: str) -> str:
    """Return a stranger's text without control characters, since those could paint the terminal."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


# --- words as arguments --------------------------------------------------------------------------


def arguments(words: Sequence[str], properties: dict[str, Any]) -> dict[str, Any]:
    """Return what KEY=VALUE, KEY:=JSON, KEY=@FILE and KEY:=@FILE say.

    properties: of the tool's input schema. Where that allows no text, VALUE is read as JSON; text is
    never taken for anything else. Raises Misuse, OSError.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name = key.removesuffix(":")
        if not equals or not name:
            raise Misuse(f"{word!r} is no argument: write KEY=VALUE, KEY:=JSON or KEY=@FILE")
        wanted = set() if key.endswith(":") else types(properties.get(name))
        try:
            if text.startswith("@"):
                with open(text[1:], encoding="utf-8") as file:
                    text = file.read()
            is_text = key == name and (not wanted or "string" in wanted)
            found[name] = text if is_text else json.loads(text)
            jsonrpc.encode(found)  # refuses what JSON cannot hold, and Python reads all the same: NaN, half a character
        except (ValueError, RecursionError):
            raise Misuse(f"{name}: {text!r:.60} is not {' or '.join(sorted(wanted)) or 'JSON'}") from None
    return found


def types(schema: Any) -> set[str]:
    """Return the JSON types that a schema speaks of, none when it does not say."""
    if not isinstance(schema, dict):
        return set()
    parts = [types(part) for part in schema.get("anyOf") or schema.get("oneOf") or []]
    named = schema.get("type", [])
    return set().union({named} if isinstance(named, str) else named, *(parts if all(parts) else []))


# --- answers as lines ----------------------------------------------------------------------------


def listing(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of what a server offers; only words longer than a line make one longer."""
    info = found["serverInfo"]
    yield _fold(0, f"{info.get('name')} {info.get('version')}", f"(protocol {found['protocolVersion']})")
    if found["instructions"]:
        yield _fold(2, "", found["instructions"])
    for title in ("tools", "resources", "resource templates", "prompts"):
        items = found[title.replace(" t", "T")]
        if items:
            yield f"\n{title.capitalize()}"
        for item in items:
            uri = item.get("uri") or item.get("uriTemplate")
            label = item.get("description") or item.get("title") or (item["name"] if uri else "")
            yield _fold(2, uri or item["name"], label)
            schema = item.get("inputSchema", {})
            for name, part in schema.get("properties", {}).items():
                default = f" = {json.dumps(part['default'])}" if "default" in part else ""
                optional = "" if default or name in schema.get("required", []) else ", optional"
                yield _fold(6, f"{name}: {kind(part)}{default}{optional}", part.get("description", ""))
            for part in item.get("arguments", []):
                optional = "" if part.get("required") else ", optional"
                yield _fold(6, f"{part['name']}: text{optional}", part.get("description", ""))


def _fold(indent: int, head: str, text: str) -> str:
    line = f"{one_line(head)}  {one_line(text)}".strip()
    first, others = " " * indent, " " * (indent + 4)
    return textwrap.fill(line, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False)


def kind(schema: dict[str, Any]) -> str:
    """Return in a few words what a schema allows."""
    values = list(choices(schema))
    if values:
        return "|".join(values)
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items') or {})}"
    return "|".join(sorted(types(schema))) or "anything"


def choices(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the values to choose from, by what people call them."""
    parts = schema.get("oneOf") or schema.get("anyOf") or []
    if parts and all("const" in part for part in parts):
        return {str(part.get("title", part["const"])): part["const"] for part in parts}
    values = schema.get("enum", [])
    return dict(zip(schema.get("enumNames", map(str, values)), values, strict=False))


def content(block: dict[str, Any]) -> str:
    """Return a content block, or the contents of a resource, as text; binary data as a word about it."""
    block = block.get("resource", block)
    if "text" in block:
        return str(block["text"])
    if block.get("type") == "resource_link":
        return f"{block['uri']}  {block.get('title') or block['name']}"
    data = block.get("data") or block["blob"]
    return f"[{block.get('mimeType') or 'binary data'}, {len(data) * 3 // 4 - data.count('=')} bytes]"


def answer(result: Result) -> str:
    """Return what a tool has answered; the text that repeats structured data is indented."""
    texts = [content(block) for block in result["content"]]
    if "structuredContent" in result:
        with contextlib.suppress(ValueError):
            texts = [pretty(json.loads(text)) for text in texts]
    return "\n".join(texts)


def pretty(value: Any) -> str:
    """Return JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def progress(done: float, total: float | None, message: str | None) -> None:
    """Draw how far the work is."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):  # a stranger's numbers
        share = min(done / total, 1) if total else 0
        bar = f"[{'#' * int(BAR * share):{BAR}}] {share:4.0%}" if total else f"{done:g}"
        draw(f"{bar} {one_line(message or '')}"[: WIDTH - 1])


def draw(line: str) -> None:
    """Show a line on a terminal in place of the one that was drawn before; an empty one only erases that."""
    if sys.stderr.isatty():
        print(ERASE + line, end="", file=sys.stderr, flush=True)


def log(params: Params) -> None:
    """Show a server's log message."""
    draw("")
    say(f"{params.get('level')}: {params.get('data')}")


# --- questions at the prompt ---------------------------------------------------------------------


def elicit(params: Params) -> Result:
    """Put a server's question to whoever sits at the terminal; without one it is declined."""
    draw("")
    if not sys.stdin.isatty():
        say(f"declined, since nobody can be asked here: {params.get('message')}")
        return {"action": "decline"}
    say(f"{params.get('message')}  (Ctrl-D declines)")
    try:
        if params.get("mode") == "url":
            say(params["url"])
            schema = {"properties": {"opened": {"type": "boolean"}}, "required": ["opened"]}
            return {"action": "accept" if _form(schema)["opened"] else "decline"}
        return {"action": "accept", "content": _form(params["requestedSchema"])}
    except EOFError:
        return {"action": "decline"}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        say(f"declined, since the question has not the form it should have: {error!r}")
        return {"action": "decline"}


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    required = schema.get("required", [])
    answers = {name: _field(name, part, name in required) for name, part in schema["properties"].items()}
    return {name: value for name, value in answers.items() if value is not None}


def _field(name: str, schema: dict[str, Any], required: bool) -> Any:
    default = schema.get("default")
    shown = ("yes" if default else "no") if isinstance(default, bool) else default
    hint = "yes or no" if schema.get("type") == "boolean" else kind(schema)
    prompt = f"{schema.get('title', name)} ({hint})" + ("" if default is None else f" [{shown}]") + ":"
    while True:
        text = _read_line(prompt)
        if not text and (default is not None or not required):
            return default
        value = _value(text, schema)
        problems = Schema(schema).errors(value, name) if text else [f"{name} is required"]
        if not problems:
            return value
        say(problems[0])


def _value(text: str, schema: dict[str, Any]) -> Any:
    if schema.get("type") == "array":
        return [_value(part.strip(), schema["items"]) for part in text.split(",") if part.strip()]
    if schema.get("type") == "boolean":
        return BOOLEANS.get(text.lower(), text)
    try:
        wants_text = "string" in types(schema) or not types(schema)
        return choices(schema).get(text, text) if wants_text else json.loads(text)
    except (ValueError, RecursionError):
        return text  # the schema says what is wrong with it


def _read_line(prompt: str) -> str:
    # asyncio makes Ctrl-C a cancellation, which nobody would notice while input() waits.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        say(prompt, end=" ")
        return input().strip()
    finally:
        signal.signal(signal.SIGINT, before)
