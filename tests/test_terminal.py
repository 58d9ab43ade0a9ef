"""What a person types and sees."""

from __future__ import annotations

import io
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_min import terminal
from mcp_min.terminal import Misuse

TEXT, INTEGER = {"type": "string"}, {"type": "integer"}


class Tty(io.StringIO):
    """A terminal: what was typed, or what was shown."""

    def isatty(self) -> bool:
        return True


# --- words as arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "schema", "value"),
    [
        ("a=5", {}, "5"),
        ("a=5", TEXT, "5"),
        ("a=", TEXT, ""),
        ("a=b=c", TEXT, "b=c"),
        ("a=5", INTEGER, 5),
        ("a=5.5", {"type": "number"}, 5.5),
        ("a=true", {"type": "boolean"}, True),
        ("a=[1,2]", {"type": "array"}, [1, 2]),
        ("a=5", {"type": ["integer", "null"]}, 5),
        ("a=5", {"type": ["integer", "string"]}, "5"),
        ("a=null", {"anyOf": [INTEGER, {"type": "null"}]}, None),
        ("a=5", {"anyOf": [INTEGER, TEXT]}, "5"),
        ("a=5", {"anyOf": [INTEGER, {"$ref": "#/$defs/who-knows"}]}, "5"),
        ("a=5", True, "5"),
        ("a:=5", TEXT, 5),
        ('a:={"b":[null]}', {}, {"b": [None]}),
    ],
)
def test_a_value_is_text_unless_the_tool_asks_for_something_else(word: str, schema: Any, value: Any) -> None:
    assert terminal.arguments([word], {"a": schema}) == {"a": value}


def test_values_from_files(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes('[1, "ü"]\n'.encode())
    assert terminal.arguments([f"a=@{file}"], {}) == {"a": '[1, "ü"]\n'}
    assert terminal.arguments([f"a:=@{file}"], {}) == {"a": [1, "ü"]}
    with pytest.raises(FileNotFoundError):
        terminal.arguments([f"a=@{file}x"], {})
    file.write_bytes(b"\xff")
    with pytest.raises(Misuse, match=r"a: .* is not JSON"):
        terminal.arguments([f"a=@{file}"], {})


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a", "'a' is no argument: write KEY=VALUE, KEY:=JSON or KEY=@FILE"),
        ("=a", "'=a' is no argument"),
        (":=a", "':=a' is no argument"),
        ("a=x", "a: 'x' is not integer or null"),
        ("a:=x", "a: 'x' is not JSON"),
        ("a:=NaN", "a: 'NaN' is not JSON"),
        ("a:=" + "[" * 100_000, r"a: '\[+ is not JSON"),
        ("a:=1e999", "a: '1e999' is not JSON"),
        ('a:="\\ud800"', "a: .* is not JSON"),
        ("a:=\udcff", "a: .* is not JSON"),
    ],
)
def test_words_that_are_no_arguments(word: str, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        terminal.arguments([word], {"a": {"type": ["null", "integer"]}})


# --- answers as lines ----------------------------------------------------------------------------

FOUND = {
    "serverInfo": {"name": "demo", "version": "1"},
    "protocolVersion": "2026-07-28",
    "instructions": "Words \x1b[31mand\nwords. " * 6,
    "tools": [
        {
            "name": "search",
            "description": "Find\nthings.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "pattern": {"type": "string", "description": "what it is " * 8},
                    "limit": {"type": "integer", "default": 100},
                    "color": {"type": "string", "enum": ["red", "blue"]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "rest": {"type": "array"},
                    "size": {"oneOf": [{"const": "s", "title": "small"}, {"const": "l"}]},
                    "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "any": {},
                },
                "required": ["pattern"],
            },
        },
        {"name": "quiet", "inputSchema": {"type": "object"}},
    ],
    "resources": [{"uri": "demo://" + "x" * 90, "name": "long"}],
    "resourceTemplates": [{"uriTemplate": "demo://{id}", "name": "one", "title": "One of many"}],
    "prompts": [{"name": "review", "arguments": [{"name": "code", "required": True}, {"name": "tone"}]}],
}

LISTED = f"""\
demo 1  (protocol 2026-07-28)
  Words [31mand words. Words [31mand words. Words [31mand words. Words [31mand
      words. Words [31mand words. Words [31mand words.

Tools
  search  Find things.
      pattern: string  what it is what it is what it is what it is what it is
          what it is what it is what it is
      limit: integer = 100
      color: red|blue, optional
      tags: list of string, optional
      rest: list of anything, optional
      size: small|l, optional
      either: null|string, optional
      any: anything, optional
  quiet

Resources
  demo://{"x" * 90}
      long

Resource templates
  demo://{{id}}  One of many

Prompts
  review
      code: text
      tone: text, optional"""


def test_listing() -> None:
    """Fits 80 columns, but for words that are longer; nothing in it can paint the terminal."""
    assert "\n".join(terminal.listing(FOUND)) == LISTED


def test_listing_nothing() -> None:
    nothing: dict[str, Any] = {"tools": [], "resources": [], "resourceTemplates": [], "prompts": []}
    found = nothing | {"serverInfo": {}, "protocolVersion": "2025-11-25", "instructions": None}
    assert list(terminal.listing(found)) == ["None None  (protocol 2025-11-25)"]


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "text", "text": "a\nb"}, "a\nb"),
        ({"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}, "[image/png, 5 bytes]"),
        ({"uri": "a://b", "blob": "aGVs"}, "[binary data, 3 bytes]"),
        ({"type": "resource", "resource": {"uri": "a://b", "text": "inner"}}, "inner"),
        ({"type": "resource_link", "uri": "a://b", "name": "n"}, "a://b  n"),
        ({"type": "resource_link", "uri": "a://b", "name": "n", "title": "t"}, "a://b  t"),
    ],
)
def test_content(block: dict[str, Any], text: str) -> None:
    assert terminal.content(block) == text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"content": []}, ""),
        ({"content": [{"type": "text", "text": "[1]"}]}, "[1]"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [{"type": "text", "text": '["é"]'}], "structuredContent": ["é"]}, '[\n  "é"\n]'),
        ({"content": [{"type": "text", "text": "sunny"}], "structuredContent": {"sky": 1}}, "sunny"),
    ],
)
def test_answer(result: dict[str, Any], text: str) -> None:
    assert terminal.answer(result) == text


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        ((1, 2, "half\n\x1b[31mway"), "[###############               ]  50% half [31mway"),
        ((3, 2, None), "[##############################] 100% "),
        ((7, None, "x" * 100), "7 " + "x" * 77),
        ((7, 0, None), "7 "),
    ],
)
def test_progress(progress: tuple[float, float | None, str | None], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Tty())
    terminal.progress(*progress)
    assert sys.stderr.getvalue() == f"\r{' ' * 79}\r{line}"  # type: ignore[attr-defined]
    terminal.draw("")
    assert sys.stderr.getvalue().endswith(f"{line}\r{' ' * 79}\r")  # type: ignore[attr-defined]


@pytest.mark.parametrize("progress", [(1, "x", None), (10**400, 1, None), (10**400, None, None), (1, 1e-320, "m")])
def test_progress_that_makes_no_sense(progress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Tty())
    terminal.progress(*progress)


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    terminal.progress(1, 2, "half")
    terminal.draw("")
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_log_message_takes_the_place_of_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Tty())
    terminal.log({"level": "info", "data": "high\nup"})
    terminal.log({})
    erase = terminal.ERASE
    assert sys.stderr.getvalue() == f"{erase}info: high up\n{erase}None: None\n"  # type: ignore[attr-defined]


# --- questions at the prompt ---------------------------------------------------------------------


def ask(params: dict[str, Any], typed: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    monkeypatch.setattr(sys, "stdin", Tty(typed))
    monkeypatch.setattr(sys, "stderr", Tty())
    handler = signal.getsignal(signal.SIGINT)
    result = terminal.elicit(params)
    assert signal.getsignal(signal.SIGINT) is handler
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert shown.startswith(terminal.ERASE)  # of a progress bar
    return result, shown.removeprefix(terminal.ERASE)


RED = {"const": "#f00", "title": "Red"}
BLUE = {"const": "#00f", "title": "Blue"}


@pytest.mark.parametrize(
    ("schema", "typed", "content", "shown"),
    [
        (TEXT, "hello\n", "hello", "field (string): "),
        (TEXT | {"title": "Your name"}, "x\n", "x", "Your name (string): "),
        (TEXT | {"default": "d"}, "\n", "d", "field (string) [d]: "),
        (TEXT | {"minLength": 2}, "a\nab\n", "ab", "field: 'a' "),
        (TEXT, "\nx\n", "x", "field is required"),
        (INTEGER, "x\n1.5\n5\n", 5, "'x' "),
        ({"type": "number"}, "1.5\n", 1.5, "field (number): "),
        ({"type": "boolean"}, "perhaps\nYES\n", True, "field (yes or no): "),
        ({"type": "boolean", "default": False}, "\n", False, "field (yes or no) [no]: "),
        ({"type": "boolean", "default": True}, "n\n", False, "[yes]: "),
        (TEXT | {"enum": ["a", "b"]}, "c\nb\n", "b", "field (a|b): "),
        (TEXT | {"enum": ["a", "b"], "enumNames": ["Ah", "Beh"]}, "Beh\n", "b", "field (Ah|Beh): "),
        (TEXT | {"oneOf": [RED, BLUE]}, "Blue\n", "#00f", "field (Red|Blue): "),
        (TEXT | {"oneOf": [RED, BLUE]}, "#f00\n", "#f00", "field (Red|Blue): "),
        ({"type": "array", "items": TEXT | {"enum": ["a", "b"]}}, "c\na, b\n", ["a", "b"], "field (list of a|b): "),
        ({"type": "array", "items": {"anyOf": [RED, BLUE]}}, "Red,\n", ["#f00"], "field (list of Red|Blue): "),
    ],
)
def test_a_form(schema: Any, typed: str, content: Any, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"type": "object", "properties": {"field": schema}, "required": ["field"]}
    result, screen = ask({"message": "Hello?", "requestedSchema": form}, typed, monkeypatch)
    assert result == {"action": "accept", "content": {"field": content}}
    assert screen.startswith("Hello? (Ctrl-D declines)\n")
    assert shown in screen


def test_what_is_not_required_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"type": "object", "properties": {"a": TEXT, "b": INTEGER}}
    assert ask({"message": "?", "requestedSchema": form}, "\n2\n", monkeypatch)[0]["content"] == {"b": 2}


def test_a_form_can_be_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"type": "object", "properties": {"a": TEXT, "b": TEXT}}
    assert ask({"message": "?", "requestedSchema": form}, "text\n", monkeypatch)[0] == {"action": "decline"}


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"message": "?"},
        {"message": "?", "requestedSchema": []},
        {"message": "?", "requestedSchema": {"properties": {"a": 5}}},
        {"message": "?", "requestedSchema": {"properties": {"a": {"type": "nothing"}}}},
        {"message": "?", "requestedSchema": {"properties": {"a": {"type": "array"}}}},
        {"message": "?", "requestedSchema": {"properties": {"a": {"enum": 5}}}},
        {"message": "?", "mode": "url"},
    ],
)
def test_a_question_that_makes_no_sense_is_declined(question: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result, screen = ask(question, "x\n", monkeypatch)
    assert result == {"action": "decline"}
    assert "declined, since the question has not the form it should have: " in screen


@pytest.mark.parametrize(("typed", "action"), [("y\n", "accept"), ("no\n", "decline"), ("", "decline")])
def test_a_link_is_shown_and_never_opened(typed: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    question = {"mode": "url", "message": "Pay", "url": "https://example.com/\x1bpay"}
    result, screen = ask(question, typed, monkeypatch)
    assert result == {"action": action}
    assert screen.startswith("Pay (Ctrl-D declines)\nhttps://example.com/pay\nopened (yes or no): ")


def test_without_a_terminal_everything_is_declined(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert terminal.elicit({"message": "Really?", "requestedSchema": {}}) == {"action": "decline"}
    assert terminal.elicit({}) == {"action": "decline"}
    declined = "declined, since nobody can be asked here: "
    assert capsys.readouterr().err == f"{declined}Really?\n{declined}None\n"
