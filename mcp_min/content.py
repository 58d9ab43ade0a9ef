"""What functions return, as the specification's content: text, images, links, messages.

`signature.py` turns Python values into JSON; this file says which of them are not data but content.
A handler that returns `text("hello")` or `[text("a cat"), image(png, "image/png")]` returns content;
one that returns a dict returns data.

Spec: 2026-07-28 server/tools#tool-result, server/resources#resource-contents, server/prompts#promptmessage.
Wire: {"type":"image","data":"iVBORw0…","mimeType":"image/png"}

Deliberately absent: a class per block. `Content` marks a dict as a block and is nothing else.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from . import spec
from .signature import to_json


class Content(dict[str, Any]):
    """A content block, or the contents of a resource: a dict that is not to be taken for data."""


class ToolResult(dict[str, Any]):
    """A whole result of a tool, for those that need `_meta` or content beside structured data."""


def text(text: str, **members: Any) -> Content:
    """A text block. members: annotations, _meta."""
    return Content(type="text", text=text, **members)


def image(data: bytes, mime_type: str, **members: Any) -> Content:
    """An image block."""
    return Content(type="image", data=b64encode(data).decode(), mimeType=mime_type, **members)


def audio(data: bytes, mime_type: str, **members: Any) -> Content:
    """An audio block."""
    return Content(type="audio", data=b64encode(data).decode(), mimeType=mime_type, **members)


def resource_link(uri: str, name: str, **members: Any) -> Content:
    """A link to a resource that can be read. members: title, description, mimeType, size, annotations, icons."""
    return Content(type="resource_link", uri=uri, name=name, **members)


def embedded(uri: str, data: str | bytes, mime_type: str | None = None, **members: Any) -> Content:
    """A resource inside the result."""
    return Content(type="resource", resource=contents(uri, data, mime_type), **members)


def contents(uri: str, value: Any, mime_type: str | None = None, **members: Any) -> Content:
    """What a resource holds: str as text, bytes as a blob, any other JSON value as JSON text."""
    if isinstance(value, bytes):
        body = {"mimeType": mime_type or "application/octet-stream", "blob": b64encode(value).decode()}
    elif isinstance(value, str):
        body = {"mimeType": mime_type or "text/plain", "text": value}
    else:
        body = {"mimeType": mime_type or "application/json", "text": json.dumps(to_json(value), ensure_ascii=False)}
    return Content(uri=uri, **body, **members)


def blocks(value: Any) -> list[Content] | None:
    """Return the content blocks that a value is, None when it is data: a block, or a list of blocks and strings."""
    if isinstance(value, Content):
        return [value]
    if isinstance(value, list) and any(isinstance(item, Content) for item in value):
        return [item if isinstance(item, Content) else text(str(item)) for item in value]
    return None


def known_content(block: dict[str, Any], version: str) -> dict[str, Any]:
    """Return the block, or, to a revision that has no such blocks, a text that stands for it."""
    if spec.CONTENT_SINCE.get(block["type"], "") <= version:
        return block
    return text(f"[{block['type']}: {block.get('uri') or block.get('mimeType')}]")


def prompt_messages(value: Any, version: str) -> list[dict[str, Any]]:
    """Return the messages that a prompt's value is, for this revision: a string, a block, a message, a list of them."""
    items = value if isinstance(value, list) else [value]
    return [_prompt_message(item, version) for item in items]


def _prompt_message(item: Any, version: str) -> dict[str, Any]:
    if isinstance(item, str):
        item = text(item)
    if isinstance(item, Content):
        item = {"role": "user", "content": item}
    if isinstance(item, dict) and item.get("role") in ("user", "assistant") and isinstance(item.get("content"), dict):
        return item | {"content": known_content(item["content"], version)}
    raise TypeError(f"a prompt returns strings, content blocks or messages with role and content, not {item!r:.100}")
