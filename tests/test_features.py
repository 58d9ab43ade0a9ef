"""What is registered: definitions as each revision sees them, and everything that is refused at registration."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import pytest

from mcp_min import Context
from mcp_min.content import Content, ToolResult
from mcp_min.features import caching_hints, make_completion, make_prompt, make_resource, make_tool
from mcp_min.json_schema import Schema

ICONS = [{"src": "https://example.com/icon.png"}]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def search(pattern: Annotated[str, "a glob"], ctx: Context, limit: int = 10) -> list[str]:
    """Search."""
    return []


INTEGER = {"type": "integer"}
ADD = {
    "name": "add",
    "description": "Add two numbers.",
    "inputSchema": {
        "type": "object",
        "properties": {"a": INTEGER, "b": INTEGER},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "outputSchema": INTEGER,
}


# --- tools ---------------------------------------------------------------------------------------


def test_a_tool_is_what_its_function_says() -> None:
    assert make_tool(add).definition == ADD


def test_the_context_is_no_argument() -> None:
    feature = make_tool(search)
    assert list(feature.definition["inputSchema"]["properties"]) == ["pattern", "limit"]
    assert feature.signature.context_name == "ctx"


def test_options_of_a_tool() -> None:
    options: dict[str, Any] = {"title": "Sum", "annotations": {"readOnlyHint": True}, "icons": ICONS, "meta": {"a": 1}}
    feature = make_tool(add, name="sum", description="Adds.", scopes=("math",), run_in_thread=False, **options)
    added = {"title": "Sum", "annotations": {"readOnlyHint": True}, "icons": ICONS, "_meta": {"a": 1}}
    assert feature.definition == ADD | {"name": "sum", "description": "Adds."} | added
    assert (feature.scopes, feature.run_in_thread) == ({"math"}, False)


@pytest.mark.parametrize(
    ("version", "hidden"),
    [
        ("2026-07-28", set()),
        ("2025-11-25", set()),
        ("2025-06-18", {"icons"}),
        ("2025-03-26", {"icons", "title", "outputSchema", "_meta"}),
        ("2024-11-05", {"icons", "title", "outputSchema", "_meta", "annotations"}),
    ],
)
def test_a_revision_sees_the_members_that_it_knows(version: str, hidden: set[str]) -> None:
    feature = make_tool(add, title="Sum", annotations={"readOnlyHint": True}, icons=ICONS, meta={"a": 1})
    assert feature.shown(version).keys() == feature.definition.keys() - hidden


TREE = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#"}}]}

# (output schema, as a legacy revision sees it inside {"result": …}, a value that fits, one that does not)
WRAPPED: list[tuple[dict[str, Any], dict[str, Any], Any, Any]] = [
    (INTEGER, INTEGER, 3, "3"),
    (
        {"type": "array", "items": {"$ref": "#/$defs/name"}, "$defs": {"name": {"type": "string"}}},
        {
            "type": "array",
            "items": {"$ref": "#/properties/result/$defs/name"},
            "$defs": {"name": {"type": "string"}},
        },
        ["a"],
        [1],
    ),
    (
        TREE,
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/properties/result"}}]},
        [["a"]],
        [[1]],
    ),
    ({"$anchor": "n", "$ref": "#n", "type": "string"}, {"$anchor": "n", "$ref": "#n", "type": "string"}, None, None),
    (
        {"type": "array", "items": {"$id": "https://example.com/", "$ref": "#/$defs/a", "$defs": {"a": INTEGER}}},
        {"type": "array", "items": {"$id": "https://example.com/", "$ref": "#/$defs/a", "$defs": {"a": INTEGER}}},
        [1],
        ["1"],
    ),
    # What looks like a reference and is the name of a property.
    (
        {"type": ["object", "null"], "properties": {"$ref": {"type": "string"}}},
        {"type": ["object", "null"], "properties": {"$ref": {"type": "string"}}},
        {"$ref": "a"},
        {"$ref": 1},
    ),
]


@pytest.mark.parametrize(("schema", "inner", "good", "bad"), WRAPPED)
def test_an_output_that_is_no_object_is_wrapped_for_legacy_revisions(
    schema: dict[str, Any], inner: dict[str, Any], good: Any, bad: Any
) -> None:
    feature = make_tool(lambda: None, name="f", output_schema=schema)
    assert feature.shown("2026-07-28")["outputSchema"] == schema
    shown = feature.shown("2025-11-25")["outputSchema"]
    assert shown == {"type": "object", "properties": {"result": inner}, "required": ["result"]}
    if good is not None:
        assert Schema(shown).errors({"result": good}) == []
        assert Schema(shown).errors({"result": bad}) != []


def test_an_output_that_is_an_object_is_never_wrapped() -> None:
    def info() -> dict[str, int]: ...

    feature = make_tool(info)
    assert not feature.wrapped
    assert feature.shown("2025-06-18")["outputSchema"] == feature.definition["outputSchema"]


def returns_text() -> str: ...
def returns_content() -> Content: ...
def returns_contents() -> list[Content]: ...
def returns_result() -> ToolResult: ...
def returns_list() -> list: ...  # type: ignore[type-arg]
def returns_any_list() -> list[Any]: ...
def returns_nothing() -> None: ...
def returns_anything(): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    "function",
    [
        returns_text,
        returns_content,
        returns_contents,
        returns_list,
        returns_any_list,
        returns_result,
        returns_nothing,
        returns_anything,
    ],
)
def test_text_and_content_have_no_output_schema(function: Any) -> None:
    assert "outputSchema" not in make_tool(function).definition


def test_with_an_output_schema_the_return_annotation_is_not_read() -> None:
    def names() -> set[str]: ...  # of no JSON type

    assert make_tool(names, output_schema={"type": "array"}).definition["outputSchema"] == {"type": "array"}


def test_an_output_schema_by_hand_stays_whatever_it_says() -> None:
    assert make_tool(returns_list, output_schema={"type": "array"}).definition["outputSchema"] == {"type": "array"}


def test_schemas_by_hand() -> None:
    given = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
    feature = make_tool(lambda **arguments: None, name="f", input_schema=given, output_schema={"type": "object"})
    assert (feature.definition["inputSchema"], feature.definition["outputSchema"]) == (given, {"type": "object"})
    assert feature.input.errors({"a": 0}) != []


def test_arguments_that_are_headers_too() -> None:
    def query(region: Annotated[str, {"x-mcp-header": "Region"}]) -> str: ...

    assert make_tool(query).mirrored == {"mcp-param-region": ("region",)}


class Nameless:
    def __call__(self) -> str: ...


@pytest.mark.parametrize(
    ("function", "options", "error", "words"),
    [
        (lambda: None, {}, ValueError, "1 to 128 of the characters"),
        (add, {"name": "two words"}, ValueError, "1 to 128 of the characters"),
        (add, {"name": "é"}, ValueError, "1 to 128 of the characters"),
        (add, {"name": "a" * 129}, ValueError, "1 to 128 of the characters"),
        (add, {"name": "ends\n"}, ValueError, "1 to 128 of the characters"),
        (add, {"name": ""}, ValueError, "name of its own"),
        (Nameless(), {}, ValueError, "give name="),
        (partial(add, a=1), {}, ValueError, "give name="),
        (add, {"titel": "Sum"}, TypeError, "no option titel; there are name, title"),
        (add, {"input_schema": {"type": "string"}}, ValueError, '"type": "object"'),
        (add, {"input_schema": {"type": "object", "$ref": "#/nowhere"}}, ValueError, "nowhere"),
        (add, {"input_schema": {"type": "object", "$schema": "http://other"}}, ValueError, "http://other"),
        (add, {"output_schema": {"type": "nothing"}}, ValueError, "nothing"),
        (add, {"input_schema": {"type": "object", "properties": {"a": {"x-mcp-header": ""}}}}, ValueError, "header"),
    ],
)
def test_tools_that_are_refused(function: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_tool(function, **options)


def test_an_annotation_that_is_not_understood_is_refused() -> None:
    def bad(a: set[int]) -> str: ...

    with pytest.raises(TypeError, match=r"bad\(\): parameter 'a'"):
        make_tool(bad)


def test_names_that_are_welcome() -> None:
    for name in ("a", "a" * 128, "A-z_0.9"):
        assert make_tool(add, name=name).definition["name"] == name
    assert make_tool(Nameless(), name="called").definition["name"] == "called"
    assert make_tool(partial(add, a=1), name="increment").definition["inputSchema"]["required"] == ["b"]


# --- resources -----------------------------------------------------------------------------------


def test_a_resource() -> None:
    def config() -> str:
        """The configuration."""

    feature = make_resource("config://app", config, mime_type="application/json", size=12, title="Config")
    assert feature.definition == {
        "uri": "config://app",
        "name": "config",
        "title": "Config",
        "description": "The configuration.",
        "mimeType": "application/json",
        "size": 12,
    }
    assert (feature.template, feature.caching) == (None, {})


def test_a_template() -> None:
    def note(id: str, ctx: Context) -> str: ...

    feature = make_resource("note://{id}", note, ttl_ms=5, cache_scope="public", run_in_thread=False)
    assert feature.definition == {"uriTemplate": "note://{id}", "name": "note"}
    assert feature.template is not None
    assert feature.template.match("note://7") == {"id": "7"}
    assert feature.caching == {"ttlMs": 5, "cacheScope": "public"}
    assert feature.run_in_thread is False


def test_a_resource_without_a_name_is_called_by_its_uri() -> None:
    assert make_resource("a://b", Nameless()).definition["name"] == "a://b"


def takes_id(id: str) -> str: ...
def takes_number(id: int) -> str: ...
def takes_two(id: str, other: str = "") -> str: ...


@pytest.mark.parametrize(
    ("uri", "function", "options", "error", "words"),
    [
        ("note://{id}", returns_text, {}, TypeError, r"takes \[\], the URI gives \['id'\]"),
        ("note://1", takes_id, {}, TypeError, r"takes \['id'\], the URI gives \[\]"),
        ("note://{id}", takes_two, {}, TypeError, "they must be the same"),
        ("note://{id}", takes_number, {}, TypeError, "'id' arrives as a string"),
        ("note://{?id}", takes_id, {}, ValueError, "only {name}"),
        ("a://b", returns_text, {"nmae": "b"}, TypeError, "no option nmae"),
        ("a://b", returns_text, {"ttl_ms": -1}, ValueError, "0 or more milliseconds"),
        ("a://b", returns_text, {"cache_scope": "shared"}, ValueError, "'private' or 'public'"),
    ],
)
def test_resources_that_are_refused(
    uri: str, function: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make_resource(uri, function, **options)


@pytest.mark.parametrize(
    ("ttl_ms", "cache_scope", "hints"),
    [
        (None, None, {}),
        (0, "private", {"ttlMs": 0, "cacheScope": "private"}),
        (60_000, None, {"ttlMs": 60_000}),
        (None, "public", {"cacheScope": "public"}),
    ],
)
def test_caching_hints(ttl_ms: int | None, cache_scope: str | None, hints: dict[str, Any]) -> None:
    assert caching_hints(ttl_ms, cache_scope) == hints


# --- prompts and completion ----------------------------------------------------------------------


def test_a_prompt() -> None:
    def review(
        code: Annotated[str, "what to look at"],
        ctx: Context,
        style: Literal["kind", "strict"] = "kind",
        hint: Annotated[str | None, {"title": "A hint"}] = None,
    ) -> str:
        """Review code."""

    assert make_prompt(review, title="Review").definition == {
        "name": "review",
        "title": "Review",
        "description": "Review code.",
        "arguments": [
            {"name": "code", "description": "what to look at", "required": True},
            {"name": "style", "required": False},
            {"name": "hint", "title": "A hint", "required": False},
        ],
    }


def test_a_prompt_without_arguments() -> None:
    assert make_prompt(returns_text).definition == {"name": "returns_text"}


def test_a_prompt_takes_strings_only() -> None:
    def count(n: int) -> str: ...
    def both(n: int | str) -> str: ...
    def neither(n: int | None) -> str: ...

    make_prompt(both)
    for function in (count, neither):
        with pytest.raises(TypeError, match="'n' arrives as a string, and no string fits"):
            make_prompt(function)
    with pytest.raises(ValueError, match="give name="):
        make_prompt(Nameless())


def test_a_completion_takes_three_arguments() -> None:
    def complete(ref: dict, argument: dict, context: dict, ctx: Context) -> list[str]: ...  # type: ignore[type-arg]
    def other(prefix: str) -> list[str]: ...

    assert make_completion(complete).signature.context_name == "ctx"
    for function, words in ((other, "not prefix"), (returns_text, "not nothing")):
        with pytest.raises(TypeError, match=f"takes ref, argument and context, and {words}"):
            make_completion(function)
