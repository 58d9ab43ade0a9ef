"""Content: what a block holds, what is content and what is data, and what an older revision sees instead."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from enum import Enum

import pytest

from mcp_min.content import (
    Content,
    ToolResult,
    audio,
    blocks,
    contents,
    embedded,
    image,
    known_content,
    prompt_messages,
    resource_link,
    text,
)

BYTES = bytes(range(256))
BASE64 = base64.b64encode(BYTES).decode()


@dataclass
class Point:
    x: int
    y: float


class Color(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("block", "wire"),
    [
        (text("é"), {"type": "text", "text": "é"}),
        (text("a", annotations={"priority": 1}), {"type": "text", "text": "a", "annotations": {"priority": 1}}),
        (image(BYTES, "image/png"), {"type": "image", "data": BASE64, "mimeType": "image/png"}),
        (
            image(b"", "image/png", _meta={"a": 1}),
            {"type": "image", "data": "", "mimeType": "image/png", "_meta": {"a": 1}},
        ),
        (audio(BYTES, "audio/wav"), {"type": "audio", "data": BASE64, "mimeType": "audio/wav"}),
        (
            resource_link("note://1", "one", title="One", size=3),
            {"type": "resource_link", "uri": "note://1", "name": "one", "title": "One", "size": 3},
        ),
        (
            embedded("note://1", "text", "text/markdown", annotations={}),
            {
                "type": "resource",
                "resource": {"uri": "note://1", "mimeType": "text/markdown", "text": "text"},
                "annotations": {},
            },
        ),
        (
            embedded("note://1", BYTES),
            {
                "type": "resource",
                "resource": {"uri": "note://1", "mimeType": "application/octet-stream", "blob": BASE64},
            },
        ),
    ],
)
def test_blocks_on_the_wire(block, wire):
    assert json.loads(json.dumps(block)) == wire
    assert isinstance(block, Content)


@pytest.mark.parametrize(
    ("value", "mime_type", "holds"),
    [
        ("é", None, {"mimeType": "text/plain", "text": "é"}),
        ("", "text/css", {"mimeType": "text/css", "text": ""}),
        (BYTES, None, {"mimeType": "application/octet-stream", "blob": BASE64}),
        (b"", "image/png", {"mimeType": "image/png", "blob": ""}),
        ({"a": ["é", None]}, None, {"mimeType": "application/json", "text": '{"a": ["é", null]}'}),
        ([], "application/x", {"mimeType": "application/x", "text": "[]"}),
        (None, None, {"mimeType": "application/json", "text": "null"}),
        (1.5, None, {"mimeType": "application/json", "text": "1.5"}),
        (
            [Point(1, 2.0), Color.RED, (1, 2)],
            None,
            {"mimeType": "application/json", "text": '[{"x": 1, "y": 2.0}, "red", [1, 2]]'},
        ),
    ],
)
def test_what_a_resource_holds(value, mime_type, holds):
    assert contents("note://1", value, mime_type) == {"uri": "note://1"} | holds
    assert contents("note://1", value, mime_type, _meta={}) == {"uri": "note://1", "_meta": {}} | holds


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), [float("inf")]])
def test_a_resource_cannot_hold_what_is_not_json(value):
    with pytest.raises((TypeError, ValueError)):
        contents("note://1", value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (text("a"), [text("a")]),
        ([text("a")], [text("a")]),
        ([text("a"), "b", image(b"", "image/png")], [text("a"), text("b"), image(b"", "image/png")]),
        ([5, text("a")], [text("5"), text("a")]),
        ([], None),
        (["a", "b"], None),
        ({"type": "text", "text": "a"}, None),  # a dict is data, whatever it looks like
        ([{"type": "text", "text": "a"}], None),
        ("a", None),
        (None, None),
        (ToolResult(content=[]), None),
    ],
)
def test_content_and_data(value, found):
    assert blocks(value) == found


@pytest.mark.parametrize(
    ("block", "version", "seen"),
    [
        (text("a"), "2024-11-05", text("a")),
        (image(b"", "image/png"), "2024-11-05", image(b"", "image/png")),
        (embedded("a://b", "c"), "2024-11-05", embedded("a://b", "c")),
        (audio(b"", "audio/wav"), "2024-11-05", text("[audio: audio/wav]")),
        (audio(b"", "audio/wav"), "2025-03-26", audio(b"", "audio/wav")),
        (resource_link("a://b", "b"), "2025-03-26", text("[resource_link: a://b]")),
        (resource_link("a://b", "b"), "2025-06-18", resource_link("a://b", "b")),
        (resource_link("a://b", "b"), "2026-07-28", resource_link("a://b", "b")),
    ],
)
def test_older_revisions_see_text(block, version, seen):
    assert known_content(block, version) == seen


def message(content, role="user"):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("Hello", [message(text("Hello"))]),
        (image(b"", "image/png"), [message(image(b"", "image/png"))]),
        (message({"type": "text", "text": "a"}, "assistant"), [message(text("a"), "assistant")]),
        (
            ["a", text("b"), message(text("c"), "assistant")],
            [message(text("a")), message(text("b")), message(text("c"), "assistant")],
        ),
        ([], []),
    ],
)
def test_prompt_messages(value, messages):
    assert prompt_messages(value, "2026-07-28") == messages


@pytest.mark.parametrize(
    "value",
    [None, 5, {}, [None], b"a", message("a string"), message(text("a"), "system"), {"content": text("a")}, [["a"]]],
)
def test_what_is_no_prompt_message(value):
    with pytest.raises(TypeError, match="a prompt returns"):
        prompt_messages(value, "2026-07-28")


def test_an_older_revision_sees_text_in_a_message_that_stays_as_it_is():
    constant = [message(audio(b"", "audio/wav"))]
    assert prompt_messages(constant, "2024-11-05") == [message(text("[audio: audio/wav]"))]
    assert constant == [message(audio(b"", "audio/wav"))]
