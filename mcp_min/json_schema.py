"""A value checked against a JSON Schema, with errors that say where and why.

The files above move messages; this one says whether what a message carries is what was asked for.
It is the first of the protocol's own files and knows nothing of them: a schema and a value go in, a
list of texts comes out, empty when the value fits.

Spec: 2026-07-28 basic#json-schema-usage; JSON Schema 2020-12, core and validation. `format`, the
`content…` keywords, titles and defaults are annotations, as 2020-12 has it, and are not checked.
Wire:
    schema   {"type":"object","properties":{"limit":{"type":"integer"}},"required":["limit"]}
    value    {"limit":"x"}
    errors   ["arguments.limit: 'x' is not an integer"]

Words, all the specification's: a schema object holds *keywords*; each either asserts something of the value or
applies *subschemas*, to the same value or to what is inside it. A *resource* is a schema with an `$id` of its own.
What a schema has *evaluated* of an object or array is what its `unevaluated…` keywords need not look at.

Who owns what: a Schema owns a private copy of the document, made ready once; a check owns its
budget and leaves nothing behind, so that one Schema serves many threads.

Deliberately absent: the network (MUST NOT be used for a `$ref`), other dialects, other documents.

Four rules:
1. A schema that cannot be honoured is refused when it is registered, never when it is used.
2. A schema and a value may both be hostile. Every step that either can cause is counted, and at
   MAX_STEPS the answer is an error: no exception, no hang.
3. A pattern is never given whole to `re`, which can take exponential time: see part 2.
4. JSON's notions, not Python's: true is no number, 1.0 is an integer and equals 1.
"""

from __future__ import annotations

import json
import re
from collections import namedtuple
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from re import _compiler, _parser  # type: ignore[attr-defined]  # typeshed does not know the parser of `re`
from typing import Any
from urllib.parse import unquote, urljoin

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_STEPS = 1_000_000  # for one check, or to register one schema: a second of work at the worst
MAX_DEPTH = 200  # schemas entered from one another; where Python's own limit comes first, it counts
MAX_ERRORS = 20  # a model that reads them mends the first few
MAX_SHOWN = 80  # characters of a value or a name in an error; ten times as many of a whole error

# --- 1. Values -----------------------------------------------------------------------------------


class _Kinds(dict[type, str]):
    # What json.dumps writes as an object is one: a Counter, an OrderedDict; so with IntEnum and StrEnum.
    def __missing__(self, cls: type) -> str:
        return next((self[base] for base in cls.__mro__ if base in self), "")


KINDS = _Kinds({dict: "object", list: "array", tuple: "array", str: "string", bool: "boolean"})
KINDS |= {int: "number", float: "number", type(None): "null"}
TYPES = {name: f"{'an' if name[0] in 'aio' else 'a'} {name}" for name in (*KINDS.values(), "integer")}


def _show(value: Any) -> str:
    # Objects and arrays by their kind alone: to write one out again for every choice that it does not
    # fit is work that grows with schema and value together.
    kind = KINDS[type(value)]
    if kind in ("object", "array"):
        return TYPES[kind]
    return (repr(value[:MAX_SHOWN]) if kind == "string" else json.dumps(value, default=repr))[:MAX_SHOWN]


def _list(values: list[Any]) -> str:
    return ", ".join(_show(value) for value in list.__iter__(values))


def _locate(place: tuple[str | int, ...]) -> str:
    """("arguments", "tags", 3) -> "arguments.tags[3]: "."""
    way = "".join(f"[{key}]" if isinstance(key, int) else f".{key[:MAX_SHOWN]}" for key in place)
    return f"{way.removeprefix('.')}: "


# --- 2. Patterns ---------------------------------------------------------------------------------
#
# `re` tries one way through a pattern after another, and `(a+)+$` has 2**n ways through n letters.
# Here all ways are walked at once: a pattern maps the set of places in the text where it may begin
# to the set of places where it may end, and a set cannot hold a place twice: some 10 n steps.
# Only the parsing, and the question whether one character fits, are left to `re`.
#
# What is understood is what ECMA-262 and Python have in common, with ECMA's meaning of `$` (the very
# end), \d, \w and \b (ASCII). Two differences are left: \s is ASCII white space, and `.` excludes
# \n alone. The rest, back-references, look-behind and \p{…} above all, is refused.


@lru_cache(1000)
def _parse(source: str) -> Any:
    items = _parser.parse(source, re.ASCII)
    if re.search(r"GROUPREF|POSSESSIVE|ATOMIC|ASSERT(_NOT)?, \(-1|SUBPATTERN, \(\w+, (?!0, 0,)", repr(items)):
        raise ValueError("no back-reference, look-behind, possessive or atomic group, or inline flag is supported")
    return items


def _ends(items: Any, text: str, starts: set[int], spend: Callable[[int], None]) -> set[int]:
    for index, (op, argument) in enumerate(items):
        spend(len(starts) + 4)
        name = str(op)
        if isinstance(argument, re.Pattern):
            starts = {found.end() for start in starts if (found := argument.match(text, start))}
        elif name in ("BRANCH", "SUBPATTERN"):
            bodies = argument[1] if name == "BRANCH" else argument[3:]
            starts = set().union(*[_ends(body, text, starts, spend) for body in bodies])
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, body = argument
            fresh, starts, times = starts, set(), 0
            # A place that was reached before leads nowhere new: it is walked from once.
            while fresh and times <= most:
                starts |= fresh if times >= least else set()
                fresh = _ends(body, text, fresh, spend) - starts
                times += 1
        elif name in ("ASSERT", "ASSERT_NOT"):
            starts = {start for start in starts if bool(_ends(argument[1], text, {start}, spend)) == (name == "ASSERT")}
        elif str(argument) == "AT_END":
            starts = starts & {len(text)}
        else:
            # One character or one anchor, which cannot explode: compiled when first met, kept in its place.
            items[index] = op, _compiler.compile(items[index : index + 1])
            starts = _ends(items[index : index + 1], text, starts, spend)
    return starts


# --- 3. One value in front of one schema ---------------------------------------------------------

# What a schema that was made ready holds besides its keywords, under keys that JSON cannot have.
NEVER, BASE, RULES = range(3)  # the schema `false`; its base URI; its part of the table in part 4
ANY = {BASE: "", RULES: []}  # the schema `true`


class _Visit(namedtuple("_Visit", "schema value place scope seen named budget")):
    """What a rule may need to know and to do.

    schema, value  the two that meet
    place          the way from the root of the value to here, for the errors
    scope          the base URIs passed on the way, outermost first: where `$dynamicRef` looks too
    seen           the names or indexes of the value that are evaluated so far
    named          every schema of the document, by "base URI#JSON pointer" and "base URI#anchor"
    budget         a list of one number, the steps that are left
    """

    def problems(self) -> Iterator[str]:
        kind = KINDS[type(self.value)]
        self.spend(len(self.schema), len(self.scope))
        for keyword, wanted, rule in self.schema[RULES]:
            # 1. A keyword is silent about values of other kinds than its own.
            outcome = rule(self.value, self.schema[keyword], self) if wanted in ("", kind) else None
            # 2. An assertion that does not hold gives a text.
            if outcome and isinstance(outcome, str):
                shown = "" if wanted in ("object", "array") else f"{_show(self.value)} "
                yield f"{_locate(self.place)}{shown}{outcome[: 10 * MAX_SHOWN]}"
                continue
            # 3. An applicator gives subschemas, each with the name or index that it is for, or None.
            for key, part in outcome or ():
                value, place = (self.value, self.place) if key is None else (self.value[key], (*self.place, key))
                visit = _Visit(part, value, place, (*self.scope, self.schema[BASE]), set(), self.named, self.budget)
                yield from visit.problems()
                self.seen.update(visit.seen if key is None else [key])

    def trial(self, part: Any, value: Any) -> list[str]:
        """Say what `part` finds wrong with a value, when that alone makes no error of it."""
        visit = self._replace(schema=part, value=value, scope=(*self.scope, self.schema[BASE]), seen=set())
        problems = [problem.removeprefix(_locate(self.place)) for problem in visit.problems()]
        self.seen.update(visit.seen if value is self.value and not problems else ())
        return problems

    def like(self, source: str, texts: Any) -> list[str]:
        return [text for text in texts if _ends(_parse(source), text, set(range(len(text) + 1)), self.spend)]

    def key(self, value: Any) -> Any:
        """Return a hashable stand-in, equal exactly when JSON calls two values equal."""
        self.spend(1)
        if isinstance(value, dict):
            return frozenset([(name, self.key(member)) for name, member in value.items()])
        if isinstance(value, (list, tuple)):
            return tuple([self.key(item) for item in value])
        return (bool, value) if isinstance(value, bool) else value

    def spend(self, steps: int, depth: int = 0) -> None:
        self.budget[0] -= steps
        if self.budget[0] < 0 or depth > MAX_DEPTH:
            raise RecursionError(f"takes more than {MAX_STEPS} steps or {MAX_DEPTH} levels to check")


# --- 4. The keywords -----------------------------------------------------------------------------
#
# A rule is called with the value, the keyword's argument and the visit. `list.__iter__` is there for
# what it refuses: a string or an object where a list belongs, which a `for` walks through as gladly.


def _type(value: Any, names: Any, here: _Visit) -> Any:
    kind, names = KINDS[type(value)], [names] if isinstance(names, str) else names
    fits = kind in names or ("integer" in names and kind == "number" and value % 1 == 0)
    return not fits and f"is not {' or '.join(TYPES[name] for name in list.__iter__(names))}"


def _missing(value: Any, names: Any, here: _Visit) -> str:
    return "; ".join([f"{_show(name)} is required" for name in list.__iter__(names) if name not in value])


def _dependent(value: Any, needs: Any, here: _Visit) -> str:
    return _missing(value, [name for key in needs for name in list.__iter__(needs[key]) if key in value], here)


def _rest(value: Any, part: Any, here: _Visit) -> Any:
    # `additionalProperties` and `items` come early in the table and `unevaluated…` last: what is left
    # over at either point is what each of them is about.
    left = [key for key in (value if isinstance(value, dict) else range(len(value))) if key not in here.seen]
    if left and NEVER in part and isinstance(value, dict):
        return f"unexpected: {_list(left)}; allowed by name: {_list([*here.schema.get('properties', ())]) or 'none'}"
    return [(key, part) for key in left]


def _contains(value: Any, part: Any, here: _Visit) -> Any:
    fits = [index for index, item in enumerate(value) if not here.trial(part, item)]
    here.seen.update(fits)
    least, most = here.schema.get("minContains", 1), here.schema.get("maxContains", len(value))
    return not least <= len(fits) <= most and f"{len(fits)} items fit 'contains', not {least} to {most}"


def _choose(value: Any, parts: Any, here: _Visit, most: int) -> Any:
    # Every choice is tried, the fitting ones too many included: each may have evaluated something.
    wrong = [problems[0] for part in parts if (problems := here.trial(part, value))]
    fits = len(parts) - len(wrong)
    return not 0 < fits <= most and "; ".join([f"fits {fits} of {len(parts)} choices, must fit one", *wrong])


def _reference(value: Any, reference: Any, here: _Visit) -> Any:
    uri, _, name = reference.partition("#")
    target = f"{urljoin(here.schema[BASE], uri) if uri else here.schema[BASE]}#{unquote(name)}"
    # MUST NOT automatically dereference a `$ref` that resolves to a network URI (2026-07-28 basic#ref-resolution).
    if target not in here.named:
        raise ValueError(f"{reference} names nothing in this schema, and nothing is fetched")
    return [(None, here.named[target])]


def _dynamic(value: Any, reference: Any, here: _Visit) -> Any:
    # From an anchor that is dynamic, on to the outermost dynamic anchor of the same name.
    [(_, target)] = _reference(value, reference, here)
    name = reference.partition("#")[2]
    outer = [here.named.get(f"{base}#{name}", ANY) for base in (*here.scope, here.schema[BASE])]
    anchors = [part for part in outer if part.get("$dynamicAnchor") == name == target.get("$dynamicAnchor")]
    return [(None, [*anchors, target][0])]


# keyword: the kind of value that it speaks about, and its rule. The order is the order of the checks.
KEYWORDS: dict[Any, tuple[str, Callable[[Any, Any, _Visit], Any]]] = {
    NEVER: ("", lambda *_: "is not allowed"),
    "type": ("", _type),
    "const": ("", lambda value, only, here: here.key(value) != here.key(only) and f"is not {_show(only)}"),
    "enum": ("", lambda value, of, here: here.key(value) not in map(here.key, of) and f"is not one of {_list(of)}"),
    "minimum": ("number", lambda value, least, _: value < least and f"is less than {least}"),
    "maximum": ("number", lambda value, most, _: value > most and f"is more than {most}"),
    "exclusiveMinimum": ("number", lambda value, least, _: value <= least and f"is not more than {least}"),
    "exclusiveMaximum": ("number", lambda value, most, _: value >= most and f"is not less than {most}"),
    "multipleOf": ("number", lambda value, n, _: Fraction(str(value)) % Fraction(str(n)) and f"is no multiple of {n}"),
    "minLength": ("string", lambda value, least, _: len(value) < least and f"has fewer than {least} characters"),
    "maxLength": ("string", lambda value, most, _: len(value) > most and f"has more than {most} characters"),
    "pattern": ("string", lambda value, source, here: not here.like(source, [value]) and f"does not match {source}"),
    "minItems": ("array", lambda value, least, _: len(value) < least and f"has fewer than {least} items"),
    "maxItems": ("array", lambda value, most, _: len(value) > most and f"has more than {most} items"),
    "uniqueItems": ("array", lambda value, on, here: on and len({*here.key(value)}) < len(value) and "repeats an item"),
    "minProperties": ("object", lambda value, least, _: len(value) < least and f"has fewer than {least} members"),
    "maxProperties": ("object", lambda value, most, _: len(value) > most and f"has more than {most} members"),
    "required": ("object", _missing),
    "dependentRequired": ("object", _dependent),
    "propertyNames": ("object", lambda keys, of, here: "; ".join(f"name {p}" for k in keys for p in here.trial(of, k))),
    "properties": ("object", lambda value, parts, _: [(name, parts[name]) for name in parts if name in value]),
    "patternProperties": ("object", lambda value, of, here: [(k, of[p]) for p in of for k in here.like(p, value)]),
    "additionalProperties": ("object", _rest),
    "prefixItems": ("array", lambda value, parts, _: zip(range(len(value)), parts, strict=False)),
    "items": ("array", _rest),
    "contains": ("array", _contains),
    "$ref": ("", _reference),
    "$dynamicRef": ("", _dynamic),
    "allOf": ("", lambda _, parts, here: [(None, part) for part in parts]),
    "anyOf": ("", lambda value, parts, here: _choose(value, parts, here, len(parts))),
    "oneOf": ("", lambda value, parts, here: _choose(value, parts, here, 1)),
    "not": ("", lambda value, part, here: not here.trial(part, value) and "is excluded by 'not'"),
    "if": ("", lambda value, part, here: [(None, here.schema.get("else" if here.trial(part, value) else "then", ANY))]),
    "dependentSchemas": ("object", lambda value, parts, _: [(None, parts[name]) for name in parts if name in value]),
    "unevaluatedProperties": ("object", _rest),
    "unevaluatedItems": ("array", _rest),
}
# Where subschemas stand: as the argument, in a list, in an object (`definitions` is draft-07's `$defs`).
ONE = {"not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames"}
ONE |= {"unevaluatedItems", "unevaluatedProperties"}
LIST = {"allOf", "anyOf", "oneOf", "prefixItems"}
MAP = {"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"}
PROBES = {"": ..., "number": 1, "string": "", "array": [0], "object": {"": 0}}  # `...` is of no kind at all


# --- 5. The schema -------------------------------------------------------------------------------


class Schema:
    """A JSON Schema 2020-12, checked and made ready once, for any number of values.

    >>> Schema({"type": "object", "required": ["limit"]}).errors({}, "arguments")
    ["arguments: 'limit' is required"]

    Spec: 2026-07-28 basic#json-schema-usage.
    Raises ValueError, with the place as base URI and JSON pointer, for what cannot be honoured: a
    `$schema` other than 2020-12, a `$ref` that leads outside or nowhere, an argument that its keyword
    cannot work with, a pattern that part 2 does not know, too many or too deep subschemas.
    """

    def __init__(self, schema: dict[str, Any] | bool) -> None:
        # What is being read, for the error; what holds the names, and is the visit that rules are tried with.
        self._at, self._probe = "#", _Visit(None, None, (), (), set(), {}, [MAX_STEPS])
        try:
            # A copy through JSON text is nobody else's, a tree, and holds nothing but JSON.
            self._load(json.loads(json.dumps(schema, allow_nan=False)), "", "")
            # Each rule is tried once, on a value of its kind: what it cannot work with is found now.
            for name, part in self._probe.named.items():
                for keyword, kind, rule in part[RULES]:
                    self._at = f"{name}/{keyword}"
                    rule(PROBES[kind], part[keyword], self._probe._replace(schema=part))
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, re.error) as error:
            raise ValueError(f"schema {self._at[: 10 * MAX_SHOWN]} cannot be used: {error}") from None
        self._plain = _plain_type(self._probe.named["#"])
        self._required = set(self._probe.named["#"].get("required", ()))

    def fits_plainly(self, value: Any) -> bool:
        """Whether the value fits by Python's own types alone, so that nothing is to be reported or converted.

        The common case, some named members of simple types, without a step through the schema. False
        means only that `errors` must be asked.
        """
        plain = self._plain
        if not isinstance(plain, dict):
            return type(value) is plain
        if type(value) is not dict or not self._required <= value.keys():
            return False
        return all(plain.get(name) is type(member) for name, member in value.items())

    def errors(self, value: Any, at: str = "") -> list[str]:
        """Return what is wrong with the value, each text with its place, at most MAX_ERRORS; [] when it fits.

        at: the name of the value in the texts, for example "arguments".
        """
        visit = _Visit(self._probe.named["#"], value, (at,) if at else (), (), set(), self._probe.named, [MAX_STEPS])
        try:
            return [problem.removeprefix(": ") for _, problem in zip(range(MAX_ERRORS), visit.problems(), strict=False)]
        # Too deep, too much work, or no JSON at all: a set, a NaN, a number of 5,000 digits.
        except (RecursionError, TypeError, ValueError, ArithmeticError) as error:
            return [f"{at or 'the value'} cannot be checked: {error}"]

    def _load(self, schema: Any, base: str, pointer: str) -> Any:
        self._at = f"{base}#{pointer}"
        # The pointers are kept, so it is their length that counts.
        self._probe.spend(len(pointer) + 1, pointer.count("/"))
        # 1. A boolean becomes an object, so that everything below is one.
        if isinstance(schema, bool):
            schema = {} if schema else {NEVER: None}
        if not isinstance(schema, dict):
            raise ValueError(f"a schema is an object or a boolean, not {_show(schema)}")
        # 2. MUST handle unsupported dialects gracefully, by an error that says so (2026-07-28 basic#json-schema-usage).
        if schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
            raise ValueError(f"the dialect {schema['$schema']} is not supported, only {DIALECT} is")
        # 3. Its names. An `$id` starts a resource, with a base URI and pointers of its own.
        self._probe.named[self._at] = schema
        if "$id" in schema:
            base, pointer = urljoin(base, schema["$id"].rstrip("#")), ""
        for name in (pointer, schema.get("$anchor", pointer), schema.get("$dynamicAnchor", pointer)):
            self._probe.named[f"{base}#{name}"] = schema
        # 4. Its subschemas, in their places; keywords that nobody knows are not looked into.
        for keyword in sorted(ONE & schema.keys()):
            schema[keyword] = self._load(schema[keyword], base, f"{pointer}/{keyword}")
        for keyword in sorted((LIST | MAP) & schema.keys()):
            self._at, parts = f"{base}#{pointer}/{keyword}", schema[keyword]
            for key, part in parts.items() if keyword in MAP else enumerate(parts):
                token = str(key).replace("~", "~0").replace("/", "~1")
                parts[key] = self._load(part, base, f"{pointer}/{keyword}/{token}")
        schema[BASE], schema[RULES] = base, [(keyword, *row) for keyword, row in KEYWORDS.items() if keyword in schema]
        return schema


PLAIN = {"string": str, "integer": int, "number": float, "boolean": bool}


def _plain_type(schema: Any) -> Any:
    """Return the one type that fits a schema, or the types of an object's members; `...`, which is none, for others."""
    rules = {keyword for keyword, _, _ in schema[RULES]}
    if rules == {"type"} and isinstance(schema["type"], str):
        return PLAIN.get(schema["type"], ...)
    closed = schema.get("type") == "object" and NEVER in schema.get("additionalProperties", ())
    if not closed or not rules <= {"type", "properties", "required", "additionalProperties"}:
        return ...
    members = {name: _plain_type(part) for name, part in schema.get("properties", {}).items()}
    return members if all(isinstance(kind, type) for kind in members.values()) else ...


def validate(value: Any, schema: dict[str, Any] | bool) -> list[str]:
    """Return what is wrong with the value: a Schema used once. Raises ValueError as Schema does."""
    return Schema(schema).errors(value)
