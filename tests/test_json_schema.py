"""The schema: what fits and what does not, in which words, what is refused at registration, what hostile ones cost."""

from __future__ import annotations

import enum
import json
import re
import sys
import time
from collections import Counter, OrderedDict
from typing import Any

import pytest

from mcp_min import json_schema
from mcp_min.json_schema import DIALECT, MAX_ERRORS, MAX_SHOWN, Schema, validate


class Number(enum.IntEnum):
    ONE = 1


class Letter(enum.StrEnum):
    A = "a"


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> int:
    """A fiftieth of the real one, so that running out of it takes no time."""
    monkeypatch.setattr(json_schema, "MAX_STEPS", 20_000)
    return 20_000


# --- what fits and what does not, keyword by keyword ----------------------------------------------

CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {  # name: schema, values that fit, values that do not
    "true": (True, [1, None, {}], []),
    "false": (False, [], [1, None, {}]),
    "no keyword": ({}, [1, "x", [], {}, None, True], []),
    "annotations": ({"title": 1, "format": "email", "default": 5, "x-own": [], "contentEncoding": "base64"}, ["x"], []),
    # JSON's kinds, not Python's.
    "type integer": ({"type": "integer"}, [1, 1.0, -3, 10**400], [1.5, True, "1", None, [], {}, float("inf")]),
    "type number": ({"type": "number"}, [1, 1.5, 10**400], [True, "1", None]),
    "type string": ({"type": "string"}, ["", "x"], [1, None, ["x"]]),
    "type boolean": ({"type": "boolean"}, [True, False], [0, 1, "true", None]),
    "type null": ({"type": "null"}, [None], [0, "", False, []]),
    "type array": ({"type": "array"}, [[], [1], (1,)], [{}, "x"]),
    "type object": ({"type": "object"}, [{}, Counter("ab"), OrderedDict()], [[], None]),
    "several types": ({"type": ["integer", "null"]}, [1, None], ["x", 1.5]),
    "subclasses, as json.dumps writes them": ({"enum": [1, "a"]}, [Number.ONE, Letter.A], []),
    "const": ({"const": {"a": [1, True]}}, [{"a": [1.0, True]}], [{"a": [1, 1]}, {"a": [1]}, {}, None]),
    "const true": ({"const": True}, [True], [1, 1.0, "true"]),
    "const 1": ({"const": 1}, [1, 1.0], [True, "1"]),
    "const, empties apart": ({"const": []}, [[], ()], [{}, "", None]),
    "enum": ({"enum": ["a", 0, None, [False]]}, ["a", 0, 0.0, None, [False]], ["b", False, [0], ""]),
    # Bounds, each silent about other kinds of values.
    "minimum": ({"minimum": 3}, [3, 3.0, 10**400, "x", None], [2.9, -(10**400)]),
    "maximum": ({"maximum": 3}, [3, -(10**400), "x"], [3.1, 10**400]),
    "exclusiveMinimum": ({"exclusiveMinimum": 3}, [3.1, "x"], [3, 3.0, 2]),
    "exclusiveMaximum": ({"exclusiveMaximum": 3}, [2.9, "x"], [3, 3.0, 4]),
    "multipleOf": ({"multipleOf": 0.01}, [19.99, 4.35, 0, 1e308, 10**400, "x", True], [0.001, 1e-300]),
    "multipleOf, out of a float's range": ({"multipleOf": 0.123456789}, [], [1e308]),
    "minLength": ({"minLength": 2}, ["ab", "🎉🎉", 1, []], ["a", "🎉"]),
    "maxLength": ({"maxLength": 2.0}, ["ab", "🎉🎉", 1], ["abc"]),
    "minItems": ({"minItems": 1}, [[1], "", {}], [[]]),
    "maxItems": ({"maxItems": 1}, [[], [1], "ab"], [[1, 2]]),
    "uniqueItems": (
        {"uniqueItems": True},
        [[1, True, "1", [1], [True]], [{"a": 1}, {"a": 2}], "aa"],
        [[1, 1.0], [{}, {}]],
    ),
    "uniqueItems, in any order": ({"uniqueItems": True}, [], [[{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]]),
    "uniqueItems false": ({"uniqueItems": False}, [[1, 1]], []),
    "minProperties": ({"minProperties": 1}, [{"a": 1}, [], ""], [{}]),
    "maxProperties": ({"maxProperties": 1}, [{"a": 1}, [1, 2]], [{"a": 1, "b": 2}]),
    "required": ({"required": ["a", "b"]}, [{"a": None, "b": 1}, [], "a"], [{"a": 1}, {}]),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, [{}, {"b": 1}, {"a": 1, "b": 1}, ["a"]], [{"a": 1}]),
    # Inside objects and arrays.
    "properties": (
        {"properties": {"a": {"type": "integer"}, "b": False}},
        [{"a": 1}, {"c": 1}, ["a"]],
        [{"a": ""}, {"b": 1}],
    ),
    "patternProperties": (
        {"patternProperties": {"^x-": {"type": "integer"}}},
        [{"x-a": 1}, {"ax-": ""}],
        [{"x-a": ""}],
    ),
    "patternProperties and properties, both": (
        {"properties": {"ab": {"minimum": 1}}, "patternProperties": {"a": {"maximum": 2}, "b": {"multipleOf": 2}}},
        [{"ab": 2}],
        [{"ab": 0}, {"ab": 4}, {"ab": 1}],
    ),
    "additionalProperties": (
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": {"type": "integer"}},
        [{"a": "", "x": "", "b": 1}],
        [{"b": ""}],
    ),
    "additionalProperties, blind to neighbours": (
        {"allOf": [{"properties": {"a": {}}}], "additionalProperties": False},
        [{}],
        [{"a": 1}],
    ),
    "propertyNames": ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}, {}], [{"abc": 1}]),
    "items": ({"items": {"type": "integer"}}, [[], [1, 2], {"0": ""}], [[1, "x"]]),
    "prefixItems and items": (
        {"prefixItems": [{"type": "string"}, {}], "items": False},
        [[], ["x"], ["x", 1]],
        [[1], ["x", 1, 2]],
    ),
    "contains": ({"contains": {"type": "string"}}, [[1, "x"], "y"], [[], [1]]),
    "minContains": ({"contains": {"type": "string"}, "minContains": 2}, [["x", "y", "z"]], [["x"]]),
    "minContains 0": ({"contains": {"type": "string"}, "minContains": 0}, [[]], []),
    "maxContains": ({"contains": {"type": "string"}, "maxContains": 1}, [["x", 1]], [["x", "y"], []]),
    # In place.
    "allOf": ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2, "x"], [0, 3]),
    "anyOf": ({"anyOf": [{"type": "string"}, {"minimum": 2}]}, ["x", 2, None], [1]),
    "oneOf": ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2.5], [2, 1.5]),
    "not": ({"not": {"type": "string"}}, [1], ["x"]),
    "if, then, else": (
        {"if": {"minimum": 10}, "then": {"multipleOf": 10}, "else": {"type": "integer"}},
        [20, 7],
        [25, 1.5],
    ),
    "if without then": ({"if": {"minimum": 10}, "else": {"type": "integer"}}, [10.5], [1.5]),
    "then and else without if": ({"then": False, "else": False}, [1], []),
    "dependentSchemas": ({"dependentSchemas": {"a": {"required": ["b"]}}}, [{}, {"a": 1, "b": 1}, ["a"]], [{"a": 1}]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_keyword_says_what_fits(name: str) -> None:
    schema, fitting, unfitting = CASES[name]
    checked = Schema(schema)
    assert [value for value in fitting if checked.errors(value)] == []
    assert [value for value in unfitting if not checked.errors(value)] == []


A = {"properties": {"a": {}}}
UNEVALUATED: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "its own properties": (A, [{"a": 1}], [{"b": 1}]),
    "patterns": ({"patternProperties": {"^a": {}}}, [{"ab": 1}], [{"b": 1}]),
    "additionalProperties takes all": ({"additionalProperties": {}}, [{"z": 1}], []),
    "allOf": ({"allOf": [A]}, [{"a": 1}], [{"b": 1}]),
    "a choice counts when it fits": (
        {"anyOf": [A | {"required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
        [{"a": 1}, {"b": 1}, {"a": 1, "b": 1}],
        [{"a": 1, "c": 1}],
    ),
    "oneOf": ({"oneOf": [A | {"required": ["a"]}, {"required": ["z"]}]}, [{"a": 1}], [{"z": 1}]),
    "not counts never": ({"not": {"not": A}}, [{}], [{"a": 1}]),
    "if that fits, and then": ({"if": A, "then": {"properties": {"b": {}}}}, [{"a": 1, "b": 1}], [{"c": 1}]),
    "dependentSchemas": ({"dependentSchemas": {"a": A}}, [{"a": 1}], [{"b": 1}]),
    "a reference": ({"$ref": "#/$defs/a", "$defs": {"a": A}}, [{"a": 1}], [{"b": 1}]),
    "a cousin does not help": ({"allOf": [A, {"unevaluatedProperties": False}]}, [{}], [{"a": 1}]),
    "what is deeper does not count": ({"properties": {"x": A}}, [{"x": {"a": 1}}], [{"a": 1}]),
    "propertyNames evaluates nothing": ({"propertyNames": {}}, [{}], [{"a": 1}]),
}


@pytest.mark.parametrize("name", UNEVALUATED)
def test_unevaluated_properties_are_what_nothing_else_looked_at(name: str) -> None:
    schema, fitting, unfitting = UNEVALUATED[name]
    closed = Schema({"unevaluatedProperties": False, **schema})
    assert [value for value in fitting if closed.errors(value)] == []
    assert [value for value in unfitting if not closed.errors(value)] == []


@pytest.mark.parametrize(
    ("schema", "fitting", "unfitting"),
    [
        ({"prefixItems": [{}]}, [1], [1, 2]),
        ({"allOf": [{"prefixItems": [{}, {}]}]}, [1, 2], [1, 2, 3]),
        ({"contains": {"type": "string"}}, ["x", "y"], ["x", 1]),
        ({"items": {}}, [1, 2, 3], None),
        ({"anyOf": [{"items": {"prefixItems": [{}, {}]}, "minItems": 1}]}, [[1, 2]], None),
        ({"contains": {"prefixItems": [{}, {}]}, "prefixItems": [{}]}, [[1, 2]], None),
    ],
)
def test_unevaluated_items(schema: dict[str, Any], fitting: Any, unfitting: Any) -> None:
    closed = Schema({"unevaluatedItems": False, **schema})
    assert closed.errors(fitting) == []
    assert unfitting is None or closed.errors(unfitting) != []


# --- references ----------------------------------------------------------------------------------

INTEGER = {"type": "integer"}
REFERENCES: dict[str, dict[str, Any]] = {  # each of them: an integer fits, a string does not
    "a pointer": {"$ref": "#/$defs/a", "$defs": {"a": INTEGER}},
    "a pointer into draft-07's definitions": {"$ref": "#/definitions/a", "definitions": {"a": INTEGER}},
    "a pointer into a list": {"allOf": [{"$ref": "#/$defs/a/anyOf/0"}], "$defs": {"a": {"anyOf": [INTEGER]}}},
    "a pointer with escapes": {"$ref": "#/$defs/a~1b~0c%25%20d", "$defs": {"a/b~c% d": INTEGER}},
    "a pointer beside other keywords": {"$ref": "#/$defs/a", "minimum": 0, "$defs": {"a": INTEGER}},
    "a chain": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": INTEGER}},
    "an anchor": {"$ref": "#it", "$defs": {"a": {"$anchor": "it", **INTEGER}}},
    "a dynamic anchor, plainly": {"$ref": "#it", "$defs": {"a": {"$dynamicAnchor": "it", **INTEGER}}},
    "an embedded resource": {"$id": "http://x.test/a", "$ref": "b", "$defs": {"b": {"$id": "b", **INTEGER}}},
    "an embedded resource, its anchor": {
        "$id": "http://x.test/dir/a",
        "$ref": "/dir/b#it",
        "$defs": {"b": {"$id": "b#", "$defs": {"c": {"$anchor": "it", **INTEGER}}}},
    },
    "an embedded resource, by its place in the outer": {
        "$ref": "#/$defs/b",
        "$defs": {"b": {"$id": "http://x.test/b", **INTEGER}},
    },
    "an embedded resource points into itself": {
        "$ref": "b",
        "$defs": {"b": {"$id": "b", "$ref": "#/$defs/c", "$defs": {"c": INTEGER}}, "c": False},
    },
    "a URN": {"$id": "urn:uuid:1", "$ref": "#/$defs/a", "$defs": {"a": INTEGER}},
    "a boolean": {"$ref": "#/$defs/any", **INTEGER, "$defs": {"any": True}},
    "named $ref, but no reference": {"type": "integer", "properties": {"$ref": {"type": "string"}}},
    "a dynamic reference with nothing outside": {
        "$dynamicRef": "#it",
        "$defs": {"a": {"$dynamicAnchor": "it", **INTEGER}},
    },
    "a dynamic reference to a plain anchor": {"$dynamicRef": "#it", "$defs": {"a": {"$anchor": "it", **INTEGER}}},
    "a dynamic reference to a pointer": {"$dynamicRef": "#/$defs/a", "$defs": {"a": INTEGER}},
    "a dynamic reference, overridden from outside": {
        "$id": "http://x.test/outer",
        "$ref": "inner",
        "$defs": {
            "mine": {"$dynamicAnchor": "it", **INTEGER},
            "inner": {"$id": "inner", "$dynamicRef": "#it", "$defs": {"a": {"$dynamicAnchor": "it"}}},
        },
    },
    "a dynamic reference, not overridden by a plain anchor": {
        "$id": "http://x.test/outer",
        "$ref": "inner",
        "$defs": {
            "mine": {"$anchor": "it"},
            "inner": {"$id": "inner", "$dynamicRef": "#it", "$defs": {"a": {"$dynamicAnchor": "it", **INTEGER}}},
        },
    },
    "values that look like schemas": {
        **INTEGER,
        "enum": [7, {"$ref": "#/nowhere", "$id": "http://x.test/", "type": 5}],
    },
}


@pytest.mark.parametrize("name", REFERENCES)
def test_references_lead_to_the_place_that_they_name(name: str) -> None:
    schema = Schema(REFERENCES[name])
    assert schema.errors(7) == []
    assert schema.errors("seven") != []


def test_a_schema_may_refer_to_itself() -> None:
    tree = Schema({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}})
    assert tree.errors({"children": [{"children": []}, {}]}) == []
    assert tree.errors({"children": [{"children": [5]}]}, "tree") == [
        "tree.children[0].children[0]: 5 is not an object"
    ]


# --- the words -----------------------------------------------------------------------------------

WORDS: list[tuple[Any, Any, list[str]]] = [
    ({"type": "integer"}, "x", ["args: 'x' is not an integer"]),
    ({"type": ["string", "object"]}, None, ["args: null is not a string or an object"]),
    ({"type": "string"}, True, ["args: true is not a string"]),
    ({"type": "string"}, {"a": 1}, ["args: an object is not a string"]),
    ({"type": "string"}, (1, 2), ["args: an array is not a string"]),
    ({"const": "circle"}, "square", ["args: 'square' is not 'circle'"]),
    ({"enum": ["a", 2, None, []]}, "b", ["args: 'b' is not one of 'a', 2, null, an array"]),
    ({"minimum": 3}, 2, ["args: 2 is less than 3"]),
    ({"maximum": 3}, 4.5, ["args: 4.5 is more than 3"]),
    ({"exclusiveMinimum": 3}, 3, ["args: 3 is not more than 3"]),
    ({"exclusiveMaximum": 3}, 3, ["args: 3 is not less than 3"]),
    ({"multipleOf": 5}, 7, ["args: 7 is no multiple of 5"]),
    ({"minLength": 2}, "a", ["args: 'a' has fewer than 2 characters"]),
    ({"maxLength": 2}, "abc", ["args: 'abc' has more than 2 characters"]),
    ({"pattern": "^a+$"}, "b\n", ["args: 'b\\n' does not match ^a+$"]),
    ({"minItems": 1}, [], ["args: has fewer than 1 items"]),
    ({"maxItems": 1}, [1, 2], ["args: has more than 1 items"]),
    ({"uniqueItems": True}, [1, 1], ["args: repeats an item"]),
    ({"minProperties": 1}, {}, ["args: has fewer than 1 members"]),
    ({"maxProperties": 0}, {"a": 1}, ["args: has more than 0 members"]),
    ({"required": ["a", "b", "c"]}, {"b": 1}, ["args: 'a' is required; 'c' is required"]),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, ["args: 'b' is required"]),
    ({"propertyNames": {"maxLength": 2}}, {"abc": 1}, ["args: name 'abc' has more than 2 characters"]),
    (
        {"properties": {"limit": {}, "path": {}}, "additionalProperties": False},
        {"limt": 1, "pat": 2, "path": 3},
        ["args: unexpected: 'limt', 'pat'; allowed by name: 'limit', 'path'"],
    ),
    ({"additionalProperties": False}, {"a": 1}, ["args: unexpected: 'a'; allowed by name: none"]),
    ({"properties": {"a": False}}, {"a": 1}, ["args.a: 1 is not allowed"]),
    ({"prefixItems": [{}], "items": False}, [1, 2], ["args[1]: 2 is not allowed"]),
    ({"contains": {"type": "string"}, "maxContains": 2}, [1], ["args: 0 items fit 'contains', not 1 to 2"]),
    ({"not": {"type": "string"}}, "x", ["args: 'x' is excluded by 'not'"]),
    (
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "x",
        ["args: 'x' fits 0 of 2 choices, must fit one; 'x' is not an integer; 'x' is not a null"],
    ),
    (
        {"oneOf": [{}, {"type": "string"}, {"minimum": 2}]},
        3,
        ["args: 3 fits 2 of 3 choices, must fit one; 3 is not a string"],
    ),
    (
        {"oneOf": [{"properties": {"kind": {"const": kind}}} for kind in ("circle", "square")]},
        {"kind": "blob"},
        [
            "args: an object fits 0 of 2 choices, must fit one; "
            "args.kind: 'blob' is not 'circle'; args.kind: 'blob' is not 'square'"
        ],
    ),
    (
        {"properties": {"a": {"properties": {"b": {"items": INTEGER}}}}},
        {"a": {"b": [1, 2, 3, ""]}},
        ["args.a.b[3]: '' is not an integer"],
    ),
    ({"items": {"items": INTEGER}}, [[1], [2, ""]], ["args[1][1]: '' is not an integer"]),
    (
        {"required": ["a"], "properties": {"b": INTEGER}},
        {"b": ""},
        ["args: 'a' is required", "args.b: '' is not an integer"],
    ),
    ({"type": "object"}, {1, 2}, ['args: "{1, 2}" is not an object']),
]


@pytest.mark.parametrize(("schema", "value", "errors"), WORDS)
def test_an_error_says_where_and_why(schema: Any, value: Any, errors: list[str]) -> None:
    assert Schema(schema).errors(value, "args") == errors


@pytest.mark.parametrize(
    ("schema", "value", "error"),
    [
        ({"properties": {"limit": INTEGER}}, {"limit": "x"}, "limit: 'x' is not an integer"),
        ({"items": INTEGER}, ["x"], "[0]: 'x' is not an integer"),
        ({"required": ["limit"]}, {}, "'limit' is required"),
        ({"anyOf": [INTEGER]}, "x", "'x' fits 0 of 1 choices, must fit one; 'x' is not an integer"),
    ],
)
def test_without_a_name_the_place_starts_inside(schema: Any, value: Any, error: str) -> None:
    assert validate(value, schema) == [error]


def test_errors_are_few_and_short() -> None:
    many = Schema({"items": {"type": "integer"}}).errors(["x"] * 1000, "list")
    assert many == [f"list[{index}]: 'x' is not an integer" for index in range(MAX_ERRORS)]
    long = "x" * 100_000
    [error] = Schema({"properties": {long: {"enum": [long] * 100}}}).errors({long: long + "y"})
    assert len(error) < 20 * MAX_SHOWN
    assert error.startswith("x" * MAX_SHOWN + ": 'xx")


def test_the_cap_on_errors_does_not_end_a_choice_early() -> None:
    schema = Schema({"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "integer"}}]})
    assert schema.errors([1] * (3 * MAX_ERRORS)) == []


# --- what is refused when it is registered -----------------------------------------------------------


def doubling(times: int) -> dict[str, Any]:
    """The billion laughs: 2**times ways to an integer, in a schema of a few lines."""
    steps = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2} for n in range(1, times + 1)}
    return {"$defs": {"d0": INTEGER, **steps}, "items": {"$ref": f"#/$defs/d{times}"}}


LOOP: dict[str, Any] = {}
LOOP["not"] = LOOP
DEEP: dict[str, Any] = {}
for _ in range(json_schema.MAX_DEPTH + 2):
    DEEP = {"allOf": [DEEP]}
VERY_DEEP: dict[str, Any] = {}
for _ in range(100_000):
    VERY_DEEP = {"not": VERY_DEEP}

REFUSED: list[tuple[Any, str, str]] = [  # schema, its place, what is said of it
    (
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        "#",
        "dialect http://json-schema.org/draft-07/schema# is not supported",
    ),
    (
        {"$defs": {"a": {"$id": "b", "$schema": "http://x.test/own"}}},
        "#/$defs/a",
        "dialect http://x.test/own is not supported",
    ),
    ({"$schema": 5}, "#", "int"),
    ({"$id": 5}, "#", "int"),
    ({"$ref": "#/$defs/nope"}, "#/$ref", "#/$defs/nope names nothing in this schema, and nothing is fetched"),
    ({"items": {"$ref": "http://x.test/y"}}, "#/items/$ref", "http://x.test/y names nothing"),
    ({"$ref": "#/enum/0", "enum": [{}]}, "#/$ref", "names nothing"),
    ({"$dynamicRef": "#nope"}, "#/$dynamicRef", "names nothing"),
    ({"$ref": 5}, "#/$ref", "int"),
    ({"$id": "http://x.test/a", "$defs": {"b": {"$id": "b", "type": 5}}}, "http://x.test/a#/$defs/b/type", "int"),
    (5, "#", "a schema is an object or a boolean, not 5"),
    (None, "#", "not null"),
    ({"properties": {"a~/b": 5}}, "#/properties/a~0~1b", "not 5"),
    ({"items": [{}]}, "#/items", "not an array"),
    ({"properties": [{}]}, "#/properties", "list"),
    ({"allOf": {"a": {}}}, "#/allOf/0", "not 'a'"),
    ({"allOf": 5}, "#/allOf", "int"),
    ({"definitions": {"a": {"items": 5}}}, "#/definitions/a/items", "not 5"),
    ({"type": 5}, "#/type", "int"),
    ({"type": "strng"}, "#/type", "strng"),
    ({"type": ["string", "strng"]}, "#/type", "strng"),
    ({"type": {}}, "#/type", "requires a 'list'"),
    ({"enum": "abc"}, "#/enum", "requires a 'list'"),
    ({"required": "abc"}, "#/required", "requires a 'list'"),
    ({"properties": {"a": {"required": True}}}, "#/properties/a/required", "requires a 'list'"),
    ({"dependentRequired": {"a": "bc"}}, "#/dependentRequired", "requires a 'list'"),
    ({"minimum": "3"}, "#/minimum", "str"),
    ({"maxLength": None}, "#/maxLength", "NoneType"),
    ({"minItems": []}, "#/minItems", "list"),
    ({"contains": {}, "minContains": "1"}, "#/contains", "str"),
    ({"multipleOf": 0}, "#/multipleOf", "zero"),
    ({"pattern": 5}, "#/pattern", "int"),
    ({"pattern": "a("}, "#/pattern", "unterminated"),
    ({"patternProperties": {"[": {}}}, "#/patternProperties", "unterminated"),
    ({"pattern": r"\p{L}"}, "#/pattern", r"bad escape \p"),
    ({"pattern": r"(a)\1"}, "#/pattern", "no back-reference"),
    ({"pattern": r"(?P<x>a)(?P=x)"}, "#/pattern", "no back-reference"),
    ({"pattern": r"(a)?(?(1)b|c)"}, "#/pattern", "no back-reference"),
    ({"pattern": "(?<=a)b"}, "#/pattern", "look-behind"),
    ({"pattern": "(?<!a)b"}, "#/pattern", "look-behind"),
    ({"pattern": "(?>a+)"}, "#/pattern", "atomic"),
    ({"pattern": "(?:a+)++"}, "#/pattern", "possessive"),
    ({"pattern": "(?i:a)"}, "#/pattern", "inline flag"),
    ({"pattern": "(?-i:a)"}, "#/pattern", "inline flag"),
    ({"const": {1, 2}}, "#", "set"),
    ({"const": float("nan")}, "#", "not JSON compliant"),
    (LOOP, "#", "Circular"),
    (DEEP, "#", "levels"),
    (VERY_DEEP, "#", "recursion"),
    ({"allOf": [True] * 10_000}, "#/allOf", "steps"),
    ({"properties": {"x" * 100_000: {}}}, "#/properties", "steps"),
    ({"not": {"$ref": "#"}}, "#/not", "levels"),
    ({"pattern": "(){1000000000}x"}, "#/pattern", "steps"),
    (doubling(40), "#/$defs/d", "steps"),
]


@pytest.mark.parametrize(("schema", "place", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_honoured_is_refused_with_its_place(
    schema: Any, place: str, reason: str, small_budget: int
) -> None:
    with pytest.raises(ValueError, match=f"^schema {re.escape(place)}") as caught:
        Schema(schema)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 20 * MAX_SHOWN


@pytest.mark.parametrize("dialect", [DIALECT, f"{DIALECT}#"])
def test_the_dialect_may_be_named(dialect: str) -> None:
    assert validate("x", {"$schema": dialect, "type": "string"}) == []


def test_validate_refuses_too() -> None:
    with pytest.raises(ValueError, match="#/type"):
        validate(1, {"type": 5})


def test_the_schema_is_a_copy_and_the_original_stays_as_it_was() -> None:
    original: dict[str, Any] = {"properties": {"a": {"type": "integer"}, "b": True}, "items": {"$ref": "#"}}
    text = json.dumps(original)
    schema = Schema(original)
    assert json.dumps(original) == text
    original["properties"]["a"]["type"] = "string"
    assert schema.errors({"a": 1}) == []


# --- patterns ------------------------------------------------------------------------------------

# As zod writes it into a schema.
EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
SEMVER = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-z-][0-9a-z-]*)(?:\.(?:0|[1-9]\d*))*))?$"
PATTERNS: dict[str, tuple[list[str], list[str]]] = {  # pattern: what it finds, what not
    "": (["", "x"], []),
    "b": (["b", "abc"], ["", "a"]),
    "^b": (["bc"], ["ab", "a\nb"]),
    "b$": (["ab"], ["ba", "b\n"]),
    "^a$": (["a"], ["a\n", "aa", ""]),
    "a|^b$|": (["a", "b", "c"], []),
    "^(ab|a)(c|bcd)$": (["abc", "abcd", "ac", "abbcd"], ["ab", "abd"]),
    "^a*$": (["", "aaa"], ["ab"]),
    "^a+?b??$": (["a", "aab"], ["", "abb"]),
    "^a{2}$": (["aa"], ["a", "aaa"]),
    "^a{2,3}$": (["aa", "aaa"], ["a", "aaaa"]),
    "^(?:ab){2,}$": (["abab", "ababab"], ["ab", "aba"]),
    "^a{0}b$": (["b"], ["ab"]),
    "^(a?){3}$": (["", "a", "aaa"], ["aaaa"]),
    "^(a*)*b$": (["b", "aab"], ["aa"]),
    "^(a|aa){2,3}$": (["aa", "aaaaaa"], ["a", "aaaaaaa"]),
    "^[^a-c]$": (["d", "é", "\n"], ["a", ""]),
    "^.$": (["a", "🎉"], ["", "\n", "ab"]),
    r"^\d+$": (["019"], ["", "१"]),
    r"^\w+$": (["aZ_9"], ["é", "-"]),
    r"\bcat\b": (["a cat.", "écat"], ["concat"]),
    r"^\s$": ([" ", "\t"], ["x"]),
    r"^\u0041\x42\.\/\$$": (["AB./$"], ["AB./"]),
    r"^(?=.*\d)(?=.*[a-z]).{4,}$": (["abc1"], ["abcd", "1234", "a1"]),
    r"^(?!foo)\w+$": (["bar", "barfoo"], ["foobar"]),
    "(?i)^abc$": (["ABC"], ["abd"]),
    "[$^]": (["$", "^"], ["a"]),
    EMAIL: (["a.b@c-d.example.org", "a@b.co"], ["a..b@c.org", ".a@b.co", "a@b", "a@b.co\n", "@b.co"]),
    SEMVER: (["1.2.3", "1.0.0-alpha", "10.20.30-rc.1"], ["1.2", "01.2.3", "1.2.3-"]),
    "^[a-z0-9]+(?:-[a-z0-9]+)*$": (["a-slug-1", "slug"], ["-a", "a--b", ""]),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_what_ecma_262_says(pattern: str) -> None:
    found, not_found = PATTERNS[pattern]
    schema = Schema({"pattern": pattern})
    for _ in range(2):  # the parts are compiled by the first round
        assert [text for text in found if schema.errors(text)] == []
        assert [text for text in not_found if not schema.errors(text)] == []


def test_patterns_agree_with_re_where_re_can_be_trusted() -> None:
    texts = ["", "a", "b", "ab", "ba", "aab", "abab", "bbaa", "abba", "aabbab"]
    parts = ["a", "b", "a*", "(ab)+", "(a|b)?", "[ab]{2}", "(?=b)", "(?!a)", "^", "\\Z"]
    for first in parts:
        for second in parts:
            for pattern in (first + second, f"(?:{first}|{second})+b", f"({first}){{1,2}}{second}"):
                schema = Schema({"pattern": pattern})
                fits = [text for text in texts if not schema.errors(text)]
                assert fits == [text for text in texts if re.search(pattern, text)], pattern


HOSTILE = ["(a+)+$", "(a|a)*$", "(a|aa)+$", "^(a?){30}a{30}b", "(.*)*x", "a*a*a*a*a*b", r"^(([a-z])+.)+[A-Z]([a-z])+$"]
HOSTILE += [EMAIL, r"\s+$", "(?=(a+)+b)a", "^(?:a|a.*X)*$", "(a{0,1000}){0,1000}$", "^(((a*)*)*)*$"]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_no_pattern_explodes(pattern: str) -> None:
    # Through `re`, most of these outlast the universe.
    for text in ["a" * 40 + "!", " " * 40 + "!", "aA" * 20 + "!"]:
        errors = Schema({"pattern": pattern}).errors(text)
        assert errors == [] or "does not match" in errors[0]


@pytest.mark.parametrize("pattern", ["(a+)+$", EMAIL, "(?=(a+)+b)a"])
def test_a_long_text_takes_no_longer_than_the_budget(pattern: str) -> None:
    schema = Schema({"pattern": pattern})
    start = time.process_time()
    [error] = schema.errors("a" * 100_000 + "!")
    # Some 0.3 s on an ordinary machine; the rest is room for slow ones and for coverage.
    assert time.process_time() - start < 5
    assert "steps" in error


def test_a_long_text_is_matched_as_a_short_one() -> None:
    schema = Schema({"pattern": "^[a-z]+$"})
    assert schema.errors("a" * 100_000) == []
    assert "does not match" in schema.errors("a" * 99_999 + "!")[0]


# --- what a check may cost -------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


ITSELF = {"type": "array", "items": {"$ref": "#"}}
TOO_MUCH: list[tuple[Any, Any, str]] = [
    ({"$ref": "#"}, 1, "levels"),
    ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}, 1, "levels"),
    (ITSELF, nested(300), "levels"),
    (ITSELF, nested(100_000), "levels"),
    ({"const": 1}, nested(100_000), "recursion"),
    ({"uniqueItems": True}, nested(100_000), "recursion"),
    ({"items": INTEGER}, [1] * 10_000, "steps"),
    ({"allOf": [{"uniqueItems": True}] * 20}, list(range(1_000)), "steps"),
    (doubling(6), [1] * 100, "steps"),
    ({"pattern": "^a+$"}, "a" * 20_000, "steps"),
    ({"patternProperties": {"(a+)+$": True}}, {"a" * 900: 1, "a" * 901: 1, "a" * 902: 1}, "steps"),
    ({"type": "string"}, 10**5000, "4300 digits"),
    ({"multipleOf": 2}, float("nan"), "nan"),
    ({"multipleOf": 2}, float("inf"), "inf"),
    ({"uniqueItems": True}, [{1}, {2}], "unhashable"),
]


@pytest.mark.parametrize(("schema", "value", "reason"), TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_what_cannot_be_checked_is_an_error_text(schema: Any, value: Any, reason: str, small_budget: int) -> None:
    [error] = Schema(schema).errors(value, "args")
    assert error.startswith("args cannot be checked: ")
    assert reason in error


def test_depth_and_size_of_ordinary_documents_are_no_trouble() -> None:
    assert Schema(ITSELF).errors(nested(90)) == []
    record = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["a", "b"]}
    assert Schema({"items": record}).errors([{"a": 1, "b": 2}] * 20_000) == []
    wide = {
        "properties": {f"p{n}": {"properties": {f"q{m}": {"type": "string"} for m in range(20)}} for n in range(100)}
    }
    assert Schema(wide).errors({"p7": {"q7": 1}}) == ["p7.q7: 1 is not a string"]


def test_one_budget_is_for_one_check(small_budget: int) -> None:
    schema = Schema({"items": INTEGER})
    for _ in range(5):
        assert schema.errors([1] * (small_budget // 6)) == []


def test_a_small_object_enters_few_functions() -> None:
    schema = Schema({"type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["a", "b"]})
    entered: set[str] = set()
    sys.setprofile(lambda frame, event, _: entered.add(frame.f_code.co_name) if event == "call" else None)
    try:
        schema.errors({"a": 1, "b": 2}, "arguments")
    finally:
        sys.setprofile(None)
    assert len(entered) <= 7, entered


# --- the short cut for plain values ----------------------------------------------------------------

SIMPLE = {
    "s": {"type": "string"},
    "i": {"type": "integer", "title": "I"},
    "n": {"type": "number"},
    "b": {"type": "boolean"},
}
CLOSED = {"type": "object", "properties": SIMPLE, "required": ["s"], "additionalProperties": False}
PLAIN: list[tuple[Any, list[Any], list[Any]]] = [  # schema, values that fit plainly, values that `errors` must see
    ({"type": "string"}, ["x"], [1, None]),
    ({"type": "integer"}, [1], [True, 1.0, "1"]),
    ({"type": "number"}, [1.5], [1, True]),
    ({"type": "boolean"}, [True], [1, None]),
    (
        CLOSED,
        [{"s": ""}, {"s": "x", "i": 1, "n": 0.5, "b": False}],
        [{}, {"i": 1}, {"s": 1}, {"s": "", "z": 1}, [], None],
    ),
    ({key: value for key, value in CLOSED.items() if key != "required"}, [{}], [{"s": None}]),
    # Whatever says more than a type is never plain.
    ({"type": "null"}, [], [None]),
    ({"type": ["string", "null"]}, [], ["x", None]),
    ({"type": "string", "minLength": 1}, [], ["", "x"]),
    ({}, [], ["x", {}]),
    (True, [], ["x"]),
    (False, [], ["x"]),
    (CLOSED | {"additionalProperties": {}}, [], [{"s": "x"}]),
    (CLOSED | {"additionalProperties": {"type": "string"}}, [], [{"s": "x"}]),
    (CLOSED | {"type": "array"}, [], [{"s": "x"}]),
    (CLOSED | {"minProperties": 2}, [], [{"s": "x"}]),
    (CLOSED | {"properties": {"s": {"type": "string"}, "o": CLOSED}}, [], [{"s": "x"}, {"s": "x", "o": {"s": "x"}}]),
    (CLOSED | {"properties": {"s": {"enum": ["x"]}}}, [], [{"s": "x"}]),
]


@pytest.mark.parametrize(("schema", "plain", "others"), PLAIN)
def test_what_fits_plainly_fits(schema: Any, plain: list[Any], others: list[Any]) -> None:
    checked = Schema(schema)
    assert [value for value in plain if not checked.fits_plainly(value) or checked.errors(value)] == []
    assert [value for value in others if checked.fits_plainly(value)] == []
