"""A signature as a schema, arguments as Python values: mostly tables."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import InitVar, dataclass, field
from datetime import date
from enum import Enum, Flag, IntEnum, StrEnum, auto
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, Required, TypedDict, TypeVar, Union

import pytest

from mcp_min.json_schema import Schema
from mcp_min.signature import read_signature, schema_of, to_json

# --- what programmers annotate with --------------------------------------------------------------


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(StrEnum):
    S = auto()
    L = auto()


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    ONE = 1
    WORD = "word"
    NONE = None
    PAIR = (1, 2)


class Rights(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: float = 0.5


@dataclass(frozen=True, slots=True)
class Shape:
    corners: list[Point]
    color: Color = Color.RED
    names: list[str] = field(default_factory=list)
    center: Point | None = None
    area: float = field(init=False, default=1.0)


@dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number <= 0:
            raise ValueError("number must be positive")


@dataclass
class WithInitVar:
    seed: InitVar[int]


@dataclass
class Tree:
    children: list[Tree]


class Movie(TypedDict):
    title: Annotated[str, "as on the poster"]
    year: NotRequired[int]


class Sparse(TypedDict, total=False):
    id: Required[int]
    color: Color


class Rated(Movie):
    stars: Literal[1, 2, 3]


Dashed = TypedDict("Dashed", {"x-id": str})


class WithSet(TypedDict):
    tags: set[str]


class Record(NamedTuple):
    x: int


class Context:
    pass


class Content(dict[str, Any]):
    pass


class Image(Content):
    pass


T = TypeVar("T")


def takes(annotation: Any) -> Callable[..., Any]:
    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": annotation}
    return function


def returns(annotation: Any) -> Callable[..., Any]:
    def function() -> None: ...

    function.__annotations__ = {"return": annotation}
    return function


# --- annotations to schemas ----------------------------------------------------------------------

STRING, INTEGER, NUMBER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "null"}
POINT = {
    "type": "object",
    "properties": {"x": INTEGER, "y": {"type": "number", "default": 0.5}},
    "required": ["x"],
    "additionalProperties": False,
}
COLOR = {"type": "string", "enum": ["red", "blue"]}
TITLE = {"type": "string", "description": "as on the poster"}

SCHEMAS: list[tuple[Any, dict[str, Any]]] = [
    (str, STRING),
    (int, INTEGER),
    (float, NUMBER),
    (bool, {"type": "boolean"}),
    (None, NULL),
    (type(None), NULL),
    (Any, {}),
    (object, {}),
    (inspect.Parameter.empty, {}),
    (list, {"type": "array"}),
    (tuple, {"type": "array"}),
    (dict, {"type": "object"}),
    (list[int], {"type": "array", "items": INTEGER}),
    (list[list[None]], {"type": "array", "items": {"type": "array", "items": NULL}}),
    (tuple[str, ...], {"type": "array", "items": STRING}),
    (tuple[str, int], {"type": "array", "prefixItems": [STRING, INTEGER], "minItems": 2, "maxItems": 2}),
    (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
    (Literal["a", 1, None], {"enum": ["a", 1, None]}),
    (Literal[True], {"type": "boolean", "enum": [True]}),
    (Literal[Color.BLUE], {"type": "string", "enum": ["blue"]}),
    (Color, COLOR),
    (Size, {"type": "string", "enum": ["s", "l"]}),
    (Level, {"type": "integer", "enum": [1, 2]}),
    (Mixed, {"enum": [1, "word", None, [1, 2]]}),
    (int | None, {"anyOf": [INTEGER, NULL]}),
    (Optional[str], {"anyOf": [STRING, NULL]}),  # noqa: UP045
    (Union[int, list[str]], {"anyOf": [INTEGER, {"type": "array", "items": STRING}]}),  # noqa: UP007
    (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
    (Annotated[int, {"minimum": 0}, "how many"], {"type": "integer", "minimum": 0, "description": "how many"}),
    (Annotated[str, {"x-mcp-header": "Region"}], {"type": "string", "x-mcp-header": "Region"}),
    (Annotated[Any, {"examples": (1, Color.RED)}], {"examples": [1, "red"]}),
    (Annotated[str, object(), 5], STRING),
    (Point, POINT),
    (
        Shape,
        {
            "type": "object",
            "properties": {
                "corners": {"type": "array", "items": POINT},
                "color": {**COLOR, "default": "red"},
                "names": {"type": "array", "items": STRING},
                "center": {"anyOf": [POINT, NULL], "default": None},
            },
            "required": ["corners"],
            "additionalProperties": False,
        },
    ),
    (
        Movie,
        {
            "type": "object",
            "properties": {"title": TITLE, "year": INTEGER},
            "required": ["title"],
            "additionalProperties": True,
        },
    ),
    (
        Sparse,
        {
            "type": "object",
            "properties": {"id": INTEGER, "color": COLOR},
            "required": ["id"],
            "additionalProperties": True,
        },
    ),
    (
        Rated,
        {
            "type": "object",
            "properties": {"title": TITLE, "year": INTEGER, "stars": {"type": "integer", "enum": [1, 2, 3]}},
            "required": ["title", "stars"],
            "additionalProperties": True,
        },
    ),
]


@pytest.mark.parametrize(("annotation", "schema"), SCHEMAS, ids=str)
def test_schema_of_an_annotation(annotation: Any, schema: dict[str, Any]) -> None:
    assert schema_of(annotation) == schema
    assert read_signature(takes(annotation)).input_schema == {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
    }
    Schema(schema)  # the validator can honour it


def test_members_stand_in_the_order_of_the_signature() -> None:
    def function(b: int, a: str, *, c: float = 1, _d: Any = None) -> None: ...

    schema = read_signature(function).input_schema
    assert list(schema["properties"]) == ["b", "a", "c", "_d"]
    assert schema["required"] == ["b", "a"]


def test_no_two_schemas_share_a_part_that_a_server_might_change() -> None:
    schema_of(list[str])["items"]["description"] = "changed"
    assert schema_of(list[str]) == {"type": "array", "items": STRING}


DEFAULTS: list[tuple[Any, dict[str, Any]]] = [
    (None, {"default": None}),
    (0, {"default": 0}),
    ("", {"default": ""}),
    ((1, "a"), {"default": [1, "a"]}),
    (Color.BLUE, {"default": "blue"}),
    (Point(1), {"default": {"x": 1, "y": 0.5}}),
    (object(), {}),
    (Point, {}),
    (..., {}),
    (math.nan, {}),
    ({1, 2}, {}),
    (b"x", {}),
]


@pytest.mark.parametrize(("default", "shown"), DEFAULTS, ids=repr)
def test_a_default_is_shown_where_json_can_hold_it(default: Any, shown: dict[str, Any]) -> None:
    def function(value=default) -> None:  # type: ignore[no-untyped-def]
        ...

    schema = read_signature(function).input_schema
    assert schema["properties"] == {"value": shown}
    assert schema["required"] == []


# --- JSON to Python ------------------------------------------------------------------------------

# What arrives, by its repr: 1, 1.0 and True are equal to Python and not to a programmer.
VALUES: list[tuple[Any, Any, Any]] = [
    (str, "5", "5"),
    (str, "null", "null"),
    (int, 1, 1),
    (int, 1.0, 1),
    (float, 1, 1.0),
    (float, 1.5, 1.5),
    (Any, 1.0, 1.0),
    (bool, True, True),
    (list, [1.0], [1.0]),
    (list[int], [1, 2.0], [1, 2]),
    (tuple, [1.0], (1.0,)),
    (tuple[int, ...], [1, 2.0], (1, 2)),
    (tuple[str, ...], ["a"], ("a",)),
    (tuple[str, float], ["1", 1], ("1", 1.0)),
    (dict[str, int], {"a": 1.0}, {"a": 1}),
    (dict[str, list[Color]], {"a": ["red"]}, {"a": [Color.RED]}),
    (Literal["a", "b"], "a", "a"),
    (Literal[1, 2], 2.0, 2),
    (Literal[Color.BLUE], "blue", Color.BLUE),
    (Color, "red", Color.RED),
    (Size, "l", Size.L),
    (Level, 2.0, Level.HIGH),
    (Mixed, [1, 2], Mixed.PAIR),
    (Mixed, None, Mixed.NONE),
    (Annotated[Color, "which"], "red", Color.RED),
    (Point, {"x": 1.0}, Point(1)),
    (Point, {"x": 1, "y": 2}, Point(1, 2.0)),
    (Shape, {"corners": [{"x": 1}], "color": "blue"}, Shape([Point(1)], Color.BLUE)),
    (Shape, {"corners": [], "center": {"x": 1}}, Shape([], center=Point(1))),
    (Shape, {"corners": [], "center": None}, Shape([])),
    (Movie, {"title": "M", "year": 1931.0}, {"title": "M", "year": 1931}),
    (Movie, {"title": "M", "more": 1.0}, {"title": "M", "more": 1.0}),
    (Sparse, {"id": 1, "color": "red"}, {"id": 1, "color": Color.RED}),
    (Dashed, {"x-id": "a"}, {"x-id": "a"}),
    (int | None, None, None),
    (int | None, 1.0, 1),
    (int | str, "1", "1"),
    (str | int, 1.0, 1),
    (int | float, 1.5, 1.5),
    (Color | str, "red", Color.RED),
    (Color | str, "green", "green"),
    (list[Color] | list[str], ["red", "green"], ["red", "green"]),
    (list[Color] | list[str], ["red", "blue"], [Color.RED, Color.BLUE]),
    (Positive | Point, {"x": 1}, Point(1)),
    (Movie | Sparse, {"id": 1, "color": "red"}, {"id": 1, "color": Color.RED}),
    (Point | tuple[int, int] | None, [1, 2], (1, 2)),
]


@pytest.mark.parametrize(("annotation", "value", "arrives"), VALUES, ids=repr)
def test_arguments_arrive_as_the_annotation_says(annotation: Any, value: Any, arrives: Any) -> None:
    signature = read_signature(takes(annotation))
    arguments = {"value": value}
    sent = repr(arguments)
    assert Schema(signature.input_schema).errors(arguments, "arguments") == []
    assert repr(signature.bind(arguments)) == repr({"value": arrives})
    assert repr(arguments) == sent, "the arguments themselves are not changed"


@pytest.mark.parametrize(
    "annotation",
    [str, bool, None, Any, list, dict, list[str], list[dict[str, Any]], str | None, Literal["a", True], Dashed],
    ids=str,
)
def test_where_nothing_is_converted_the_arguments_are_passed_on(annotation: Any) -> None:
    arguments = {"value": object()}
    assert read_signature(takes(annotation)).bind(arguments) is arguments


def test_arguments_left_out_stay_out() -> None:
    def function(a: int = 1, b: Color = Color.RED) -> None: ...

    assert read_signature(function).bind({"b": "blue"}) == {"b": Color.BLUE}


def test_keyword_parameters_let_everything_pass() -> None:
    def function(a: int, **more: int) -> None: ...

    signature = read_signature(function)
    assert signature.input_schema["properties"] == {"a": INTEGER}
    assert signature.input_schema["additionalProperties"] is True
    assert signature.bind({"a": 1.0, "b": "2"}) == {"a": 1, "b": "2"}


def test_bind_raises_what_no_python_value_can_be_made_of() -> None:
    with pytest.raises(OverflowError):
        read_signature(takes(float)).bind({"value": 10**400})
    with pytest.raises(ValueError, match="number must be positive"):
        read_signature(takes(Positive)).bind({"value": {"number": -1}})


# --- what can be called --------------------------------------------------------------------------


class Service:
    """A service."""

    def method(self, a: int) -> list[str]:
        """A method."""
        return []

    @classmethod
    def of_class(cls, a: int) -> list[str]:
        """A method."""
        return []

    @staticmethod
    def static(a: int) -> list[str]:
        """A method."""
        return []

    def __call__(self, a: int) -> list[str]:
        """A method."""
        return []


class AsyncService:
    """A method."""

    async def __call__(self, a: int) -> list[str]:
        return []


async def coroutine(a: int) -> list[str]:
    """A
    method.
    """
    return []


def with_connection(a: int, connection: object = None) -> list[str]:
    """A method."""
    return []


@functools.wraps(with_connection)
def wrapped(*args: Any, **kwargs: Any) -> Any: ...


@functools.cache
def cached(a: int) -> list[str]:
    """A method."""
    return []


CALLABLES: list[tuple[Callable[..., Any], bool, str]] = [
    (Service().method, False, "A method."),
    (Service.of_class, False, "A method."),
    (Service.static, False, "A method."),
    (Service(), False, "A method."),
    (AsyncService(), True, "A method."),
    (coroutine, True, "A\nmethod."),
    (cached, False, "A method."),
    (functools.partial(with_connection, connection=object()), False, "A method."),
    (functools.partial(functools.partial(with_connection), connection=1), False, "A method."),
    (functools.partial(Service(), 1), False, "A method."),
    (functools.partial(AsyncService(), 1), True, "A method."),
    (functools.partial(coroutine, 1), True, "A\nmethod."),
]


@pytest.mark.parametrize(("function", "is_async", "description"), CALLABLES, ids=repr)
def test_what_can_be_called_can_be_read(function: Callable[..., Any], is_async: bool, description: str) -> None:
    signature = read_signature(function, plain=())
    # A positional argument of a partial is gone from the signature.
    expected = {} if getattr(function, "args", ()) else {"a": INTEGER}
    assert signature.input_schema["properties"] == expected
    assert signature.output_schema == {"type": "array", "items": STRING}
    assert signature.is_async is is_async
    assert signature.description == description
    assert signature.context_name is None


def test_a_decorated_function_shows_what_it_wraps() -> None:
    assert list(read_signature(wrapped).input_schema["properties"]) == ["a", "connection"]


def test_a_function_without_docstring_or_annotations() -> None:
    signature = read_signature(lambda a, b=2: None)
    assert signature.input_schema["properties"] == {"a": {}, "b": {"default": 2}}
    assert signature.output_schema is None
    assert signature.description == ""


def test_a_class_is_read_by_its_constructor() -> None:
    assert read_signature(Point).input_schema == POINT

    def init(self: Any, tags: Any) -> None: ...

    init.__annotations__ = {"tags": set[str]}
    with pytest.raises(TypeError, match=r"^Tool\(\): parameter 'tags': set\[str\] is not understood"):
        read_signature(type("Tool", (), {"__init__": init}))


# --- the context ---------------------------------------------------------------------------------


def plain_context(a: int, ctx: Context) -> None: ...


def optional_context(ctx: Context | None = None, a: int = 1) -> None: ...


def old_optional_context(a: int, *, context: Optional[Context] = None) -> None: ...  # noqa: UP045


def annotated_context(a: int, ctx: Annotated[Context, "hidden"]) -> None: ...


def no_context(a: Literal[None]) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (plain_context, "ctx"),
        (optional_context, "ctx"),
        (old_optional_context, "context"),
        (annotated_context, "ctx"),
        (no_context, None),
    ],
)
def test_the_context_parameter_is_found_and_not_shown(function: Callable[..., Any], name: str | None) -> None:
    signature = read_signature(function, context_type=Context)
    assert signature.context_name == name
    assert list(signature.input_schema["properties"]) == ["a"]


def test_without_a_context_type_there_is_no_context() -> None:
    assert read_signature(no_context).context_name is None
    with pytest.raises(TypeError, match=r"plain_context\(\): parameter 'ctx': .*Context.* is not understood"):
        read_signature(plain_context)


def test_a_second_context_parameter_is_refused() -> None:
    def function(first: Context, second: Context) -> None: ...

    with pytest.raises(TypeError, match="parameter 'second'"):
        read_signature(function, context_type=Context)


# --- what is returned ----------------------------------------------------------------------------

OUTPUTS: list[tuple[Any, dict[str, Any] | None]] = [
    (None, None),
    (str, None),
    (Any, None),
    (Content, None),
    (Image, None),
    (list[Content], None),
    (list[Image | str] | str, None),
    (Annotated[Image, "a picture"], None),
    (int, INTEGER),
    (bool, {"type": "boolean"}),
    (list[str], {"type": "array", "items": STRING}),
    (str | None, {"anyOf": [STRING, NULL]}),
    (dict, {"type": "object"}),
    (Point, POINT),
    (Movie, schema_of(Movie)),
]


@pytest.mark.parametrize(("annotation", "schema"), OUTPUTS, ids=str)
def test_output_schema(annotation: Any, schema: dict[str, Any] | None) -> None:
    assert read_signature(returns(annotation), plain=(Content,)).output_schema == schema
    assert read_signature(returns(annotation)).output_schema is None


def test_a_given_schema_stands_in_place_of_the_annotations() -> None:
    def function(when: date, color: Color, ctx: Context) -> date: ...

    given = {"type": "object", "properties": {"when": STRING}}
    signature = read_signature(function, context_type=Context, given_schema=given)
    assert signature.input_schema is given
    assert signature.output_schema is None
    assert signature.context_name == "ctx"
    arguments = {"when": "2026-07-28", "color": "red"}
    assert signature.bind(arguments) is arguments


# --- errors --------------------------------------------------------------------------------------


def star(*values: int) -> None: ...


def positional(a: int, /) -> None: ...


def generator() -> None:
    yield  # type: ignore[misc]


async def async_generator() -> Any:
    yield


def unknown_name(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


ERRORS: list[tuple[Callable[..., Any], str]] = [
    (takes(set[str]), "function(): parameter 'value': set[str] is not understood: use str, int,"),
    (takes(bytes), "parameter 'value': <class 'bytes'> is not understood"),
    (takes(date), "parameter 'value': <class 'datetime.date'> is not understood"),
    (takes(T), "parameter 'value': ~T is not understood"),
    (takes(dict[int, str]), "parameter 'value': dict[int, str] is not understood"),
    (takes(dict[str, set[int]]), "parameter 'value': set[int] is not understood"),
    (takes(tuple[()]), "parameter 'value': tuple[()] is not understood"),
    (takes(Callable[[], None]), "is not understood"),
    (takes(Record), "is not understood"),
    (takes(Rights), "is not understood"),
    (takes(Literal[b"x"]), "parameter 'value': b'x' is no JSON value"),
    (takes(Annotated[int, {"enum": {1}}]), "parameter 'value': {1} is no JSON value"),
    (takes(Annotated[int, {"minimum": math.nan}]), "not JSON compliant"),
    (takes(list[WithSet]), "parameter 'value': WithSet key 'tags': set[str] is not understood"),
    (takes(WithInitVar), "parameter 'value': WithInitVar field 'seed'"),
    (takes(Tree), "function(): a class contains itself: give a schema for it"),
    (takes("Missing"), "name 'Missing' is not defined"),
    (unknown_name, "unknown_name(): name 'Missing' is not defined"),
    (returns(set[str]), "set[str] is not understood: use"),
    (returns(AsyncIterator[str]), "AsyncIterator[str] is not understood"),
    (returns(Iterator[str]), "Iterator[str] is not understood"),
    (generator, "generator(): it yields, and a call has one result: return a list"),
    (async_generator, "async_generator(): it yields"),
    (star, "star(): parameter 'values': arguments come by name"),
    (positional, "positional(): parameter 'a': arguments come by name"),
    (max, "max(): no signature found"),
]


@pytest.mark.parametrize(("function", "message"), ERRORS, ids=lambda item: getattr(item, "__name__", item))
def test_what_is_not_understood_is_an_error_that_says_where(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        read_signature(function, plain=())


def test_local_functions_are_named_without_their_surroundings() -> None:
    with pytest.raises(TypeError, match=r"^function\(\): "):
        read_signature(takes(set))


def test_the_advice_names_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"or give input_schema= \(output_schema=\)$"):
        read_signature(takes(set))


# --- Python to JSON ------------------------------------------------------------------------------

PLAIN: list[tuple[Any, Any]] = [
    ("text", "text"),
    (None, None),
    (1.5, 1.5),
    (True, True),
    ((1, (2, 3)), [1, [2, 3]]),
    (Record(1), [1]),
    (Color.RED, "red"),
    (Size.L, "l"),
    (Level.HIGH, 2),
    (Mixed.PAIR, [1, 2]),
    (Point(1), {"x": 1, "y": 0.5}),
    (Shape([Point(1)], Color.BLUE), {"corners": [{"x": 1, "y": 0.5}], "color": "blue", "names": [], "center": None}),
    ({"a": [Color.RED, {"b": (Point(1),)}]}, {"a": ["red", {"b": [{"x": 1, "y": 0.5}]}]}),
    ({1: "a", Size.S: "b"}, {"1": "a", "s": "b"}),
    (Image(type="image"), {"type": "image"}),
]


@pytest.mark.parametrize(("value", "expected"), PLAIN, ids=repr)
def test_to_json(value: Any, expected: Any) -> None:
    assert repr(to_json(value)) == repr(expected)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"a": {1}}, TypeError, re.escape("{1} is no JSON value")),
        (date(2026, 7, 28), TypeError, "is no JSON value"),
        (Point, TypeError, "is no JSON value"),
        (math.inf, ValueError, "not JSON compliant"),
    ],
)
def test_what_json_cannot_hold_is_refused(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_json(value)


@pytest.mark.parametrize(
    "value", [Point(1), Shape([Point(1)], Color.BLUE, ["a"], Point(2, 1.5)), Color.RED, Level.LOW, Mixed.PAIR], ids=repr
)
def test_a_value_survives_the_way_there_and_back(value: Any) -> None:
    schema, sent = schema_of(type(value)), to_json(value)
    assert Schema(schema).errors(sent, "value") == []
    assert read_signature(takes(type(value))).bind({"value": sent}) == {"value": value}
