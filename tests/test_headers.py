"""MCP's HTTP headers: how values are written, which tools may ask for them, and what a server refuses."""

from __future__ import annotations

import pytest

from mcp_min.headers import (
    check_request,
    decode_value,
    encode_value,
    mirrored_arguments,
    request_headers,
)
from mcp_min.jsonrpc import RpcError

# --- values --------------------------------------------------------------------------------------

# (value, header); the first five are the specification's own examples
ENCODED = [
    ("us-west1", "us-west1"),
    ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
    (" padded ", "=?base64?IHBhZGRlZCA=?="),
    ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
    ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
    ("", ""),
    ("two  inner spaces", "two  inner spaces"),
    ("~!\"#$%&'()*+,/:;<=>?@[\\]^_`{|}", "~!\"#$%&'()*+,/:;<=>?@[\\]^_`{|}"),
    ("trailing ", "=?base64?dHJhaWxpbmcg?="),
    (" leading", "=?base64?IGxlYWRpbmc=?="),
    (" ", "=?base64?IA==?="),
    ("a\tb", "=?base64?YQli?="),
    ("a\r\nX-Evil: 1", "=?base64?YQ0KWC1FdmlsOiAx?="),
    ("a\n", "=?base64?YQo=?="),
    ("\0", "=?base64?AA==?="),
    ("\x7f", "=?base64?fw==?="),
    ("é", "=?base64?w6k=?="),
    ("\u00a0", "=?base64?wqA=?="),
    ("=?base64??=", "=?base64?PT9iYXNlNjQ/Pz0=?="),
    ("=?base64?\u00e9\n?=", "=?base64?PT9iYXNlNjQ/w6kKPz0=?="),
    ("=?base64?no suffix", "=?base64?no suffix"),
    ("=?BASE64?YQ==?=", "=?BASE64?YQ==?="),
    ("x=?base64?YQ==?=", "x=?base64?YQ==?="),
    ("YQ==", "YQ=="),
    ("42", "42"),
    (42, "42"),
    (-7, "-7"),
    (0, "0"),
    (2**53 - 1, "9007199254740991"),
    (True, "true"),
    (False, "false"),
]


@pytest.mark.parametrize(("value", "header"), ENCODED)
def test_encoding(value, header):
    assert encode_value(value) == header
    assert header.isascii()
    assert header.isprintable()
    assert decode_value(header) == (value if isinstance(value, str) else header)


def test_what_might_be_taken_for_wrapped_is_wrapped():
    """Its prefix and its suffix overlap: who only looks at the start and the end would decode it."""
    assert encode_value("=?base64?=") == "=?base64?PT9iYXNlNjQ/PQ==?="


@pytest.mark.parametrize(
    "header",
    [
        "=?base64?YQ?=",  # bad padding
        "=?base64?YQ=?=",
        "=?base64?Y?=",
        "=?base64?Y!==?=",  # outside the alphabet
        "=?base64?YQ ==?=",
        "=?base64?Y-_=?=",
        "=?base64?é?=",
        "=?base64?/w==?=",  # no UTF-8
        "=?base64?7aCA?=",  # half a character
    ],
)
def test_broken_encodings(header):
    with pytest.raises(ValueError):  # noqa: PT011
        decode_value(header)


# --- annotations ---------------------------------------------------------------------------------


def tool(**properties):
    return {"type": "object", "properties": properties}


def marked(name="Region", type="string", **more):
    return {"type": type, "x-mcp-header": name, **more}


@pytest.mark.parametrize(
    ("schema", "headers"),
    [
        (tool(), {}),
        (tool(plain={"type": "string"}), {}),
        (tool(region=marked()), {"mcp-param-region": ("region",)}),
        (tool(a=marked("A"), b=marked("B", "integer"), c=marked("C", "boolean")),
         {"mcp-param-a": ("a",), "mcp-param-b": ("b",), "mcp-param-c": ("c",)}),
        (tool(outer=tool(inner=marked("X"))), {"mcp-param-x": ("outer", "inner")}),
        (tool(properties=tool(properties=marked("X"))), {"mcp-param-x": ("properties", "properties")}),
        (tool(x=marked("!#$%&'*+-.^_`|~09azAZ")), {"mcp-param-!#$%&'*+-.^_`|~09azaz": ("x",)}),
        ({"properties": {"x-mcp-header": {"type": "string"}}}, {}),  # a property of that name
        ({"items": {"properties": {"x-mcp-header": {"type": "string"}}}}, {}),
        ({"type": "object", "properties": []}, {}),
        (True, {}),
        (None, {}),
    ],
)  # fmt: skip
def test_annotated_arguments(schema, headers):
    assert mirrored_arguments(schema) == headers


REFUSED = {
    # the eleven tools of the conformance suite, in its words
    "empty": tool(x=marked("")),
    "a space": tool(x=marked("My Region")),
    "a colon": tool(x=marked("Region:Primary")),
    "a control character": tool(x=marked("Region\x01")),
    "CR and LF": tool(x=marked("Region\r\nX-Evil: 1")),
    "beyond ASCII": tool(x=marked("Région")),
    "repeated": tool(x=marked("Region"), y=marked("Region")),
    "repeated in another case": tool(x=marked("Region"), y=marked("REGION")),
    "an object": tool(x=marked(type="object")),
    "an array": tool(x=marked(type="array", items={"type": "string"})),
    "a number": tool(x=marked(type="number")),
    # more of the specification's MUSTs
    "null": tool(x=marked(type="null")),
    "several types": tool(x=marked(type=["string", "null"])),
    "no type": tool(x={"x-mcp-header": "Region"}),
    "no string": tool(x=marked(5)),
    "none": tool(x=marked(None)),
    "a slash": tool(x=marked("a/b")),
    "a newline at the end": tool(x=marked("Region\n")),
    "repeated deeper": tool(x=marked("Region"), y=tool(z=marked("region"))),
    "the root": marked(type="object", properties={}),
    "items": tool(x={"type": "array", "items": marked()}),
    "prefixItems": tool(x={"type": "array", "prefixItems": [marked()]}),
    "oneOf": tool(x={"oneOf": [marked(), {"type": "null"}]}),
    "anyOf": {"anyOf": [tool(x=marked())]},
    "allOf": {"allOf": [tool(x=marked())]},
    "not": tool(x={"not": marked()}),
    "if": {"if": tool(x=marked())},
    "then": {"then": tool(x=marked())},
    "else": {"else": tool(x=marked())},
    "$defs": tool(x={"$ref": "#/$defs/r"}) | {"$defs": {"r": marked()}},
    "additionalProperties": tool(x={"type": "object", "additionalProperties": marked()}),
    "patternProperties": {"patternProperties": {"^x": marked()}},
    "properties in items": tool(x={"type": "array", "items": tool(y=marked())}),
}


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
def test_annotations_that_are_refused(schema):
    with pytest.raises(ValueError, match="x-mcp-header"):
        mirrored_arguments(schema)


def test_a_deep_schema_is_no_danger():
    schema = marked()
    for _ in range(5_000):
        schema = {"properties": {"x": schema}}
    (path,) = mirrored_arguments(schema).values()
    assert len(path) == 5_000


# --- what a client writes ------------------------------------------------------------------------

VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION}
MIRRORED = {"mcp-param-region": ("region",), "mcp-param-limit": ("page", "limit"), "mcp-param-dry": ("dry",)}


def call(arguments, method="tools/call", **params):
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "sql", "arguments": arguments, **params}}


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        ({"method": "tools/list"}, {"mcp-method": "tools/list"}),
        ({"method": "tools/list", "params": {"_meta": META}},
         {"mcp-method": "tools/list", "mcp-protocol-version": VERSION}),
        ({"method": "tools/list", "params": {"name": "x", "uri": "y"}}, {"mcp-method": "tools/list"}),
        ({"method": "prompts/get", "params": {"name": "é"}},
         {"mcp-method": "prompts/get", "mcp-name": "=?base64?w6k=?="}),
        ({"method": "resources/read", "params": {"uri": "file:///a b", "name": "x"}},
         {"mcp-method": "resources/read", "mcp-name": "file:///a b"}),
        ({"method": "tools/call", "params": {"name": 5}}, {"mcp-method": "tools/call"}),
        ({"method": "notifications/cancelled", "params": {}}, {"mcp-method": "notifications/cancelled"}),
    ],
)  # fmt: skip
def test_standard_headers(message, headers):
    assert request_headers(message, {}) == headers


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({}, {}),
        (None, {}),
        ("no object", {}),
        ({"region": "eu", "page": {"limit": 5}, "dry": False}, {"region": "eu", "limit": "5", "dry": "false"}),
        ({"region": "", "page": {"limit": 0}, "dry": True}, {"region": "", "limit": "0", "dry": "true"}),
        ({"region": None, "page": None, "dry": None}, {}),
        ({"page": {}}, {}),
        ({"page": 5}, {}),
        ({"page": {"limit": 42.0}}, {"limit": "42"}),  # JSON has one kind of number
        ({"page": {"limit": -0.0}}, {"limit": "0"}),
        ({"page": {"limit": 1.5}}, {}),  # these fail the tool's schema, which says so better
        ({"region": ["eu"], "dry": {"a": 1}}, {}),
        ({"other": "x"}, {}),
        ({"region": "a\r\nX-Evil: 1"}, {"region": "=?base64?YQ0KWC1FdmlsOiAx?="}),
    ],
)
def test_arguments_as_headers(arguments, headers):
    written = request_headers(call(arguments), MIRRORED)
    assert written == {"mcp-method": "tools/call", "mcp-name": "sql"} | {
        f"mcp-param-{name}": value for name, value in headers.items()
    }
    check_request(written, "tools/call", call(arguments)["params"], MIRRORED)


# --- what a server refuses -----------------------------------------------------------------------

ARGUMENTS = {"region": "eu", "page": {"limit": 42}, "dry": True}
GOOD = {
    "mcp-method": "tools/call",
    "mcp-name": "sql",
    "mcp-param-region": "eu",
    "mcp-param-limit": "42",
    "mcp-param-dry": "true",
}


def refusal(headers, arguments=ARGUMENTS, method="tools/call", **params):
    with pytest.raises(RpcError) as raised:
        check_request(headers, method, call(arguments, **params)["params"], MIRRORED)
    assert (raised.value.code, raised.value.message) == (-32020, "Header mismatch")
    return raised.value.data["details"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"mcp-name": "=?base64?c3Fs?="},
        {"mcp-param-region": "=?base64?ZXU=?="},
        {"mcp-param-limit": "42.0"},
        {"mcp-param-limit": "42."},
        {"mcp-param-limit": "=?base64?NDI=?="},
        {"mcp-param-dry": "=?base64?dHJ1ZQ==?="},
        {"mcp-param-unknown": "anything"},
        {"x-other": "anything"},
    ],
)
def test_headers_that_agree(changed):
    check_request(GOOD | changed, "tools/call", call(ARGUMENTS)["params"], MIRRORED)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("mcp-method", None),
        ("mcp-method", "tools/list"),
        ("mcp-method", "TOOLS/CALL"),
        ("mcp-method", "=?base64?dG9vbHMvY2FsbA==?="),  # not encoded: who routes by it would not see it
        ("mcp-name", None),
        ("mcp-name", ""),
        ("mcp-name", "SQL"),
        ("mcp-name", "=?base64?c3Fs"),
        ("mcp-name", "=?base64?c3F?="),
        ("mcp-param-region", None),
        ("mcp-param-region", ""),
        ("mcp-param-region", "us"),
        ("mcp-param-region", "=?base64?ZXU?="),  # bad padding
        ("mcp-param-region", "=?base64?Z!U=?="),  # outside the alphabet
        ("mcp-param-region", "=?base64?/w==?="),
        ("mcp-param-region", "ZXU="),
        ("mcp-param-limit", None),
        ("mcp-param-limit", "43"),
        ("mcp-param-limit", "42.5"),
        ("mcp-param-limit", "4_2"),
        ("mcp-param-limit", " 42"),
        ("mcp-param-limit", "+42"),
        ("mcp-param-limit", "0x2a"),
        ("mcp-param-limit", "=?base64?77yU77yS?="),  # 42 in full-width digits
        ("mcp-param-limit", "nan"),
        ("mcp-param-limit", "9" * 5000),
        ("mcp-param-limit", "true"),
        ("mcp-param-dry", None),
        ("mcp-param-dry", "True"),
        ("mcp-param-dry", "1"),
        ("mcp-param-dry", "false"),
    ],
)
def test_headers_that_differ(header, value):
    headers = {name: good for name, good in GOOD.items() if name != header}
    details = refusal(headers if value is None else headers | {header: value})
    assert header in details
    assert ("is missing" in details) == (value is None)
    assert len(details) < 300


@pytest.mark.parametrize(
    ("header", "arguments"),
    [
        ("mcp-param-region", {"region": None, "page": {"limit": 42}, "dry": True}),
        ("mcp-param-region", {"page": {"limit": 42}, "dry": True}),
        ("mcp-param-limit", {"region": "eu", "dry": True}),
        ("mcp-param-limit", {"region": "eu", "page": {"limit": {}}, "dry": True}),
    ],
)
def test_a_header_without_its_argument_is_refused(header, arguments):
    assert header in refusal(GOOD, arguments)
    check_request(
        {name: GOOD[name] for name in GOOD if name != header}, "tools/call", call(arguments)["params"], MIRRORED
    )


@pytest.mark.parametrize(
    ("value", "header", "same"),
    [
        ("a=?base64?", "a=?base64?", True),
        ("=?base64?abc", "=?base64?abc", True),  # the prefix without the suffix is taken literally
        ("abc", "=?base64?YWJj?=", True),
        ("=?base64?YWJj?=", "=?base64?YWJj?=", False),
        ("42", "42.0", False),  # numbers are compared as numbers, strings as strings
        ("1", "true", False),
        (True, "1", False),
        (1, "true", False),
        (1, "1", True),
        (1.0, "1", True),
        (0, "-0", True),
        (0, "", False),
        (2**53 + 1, "9007199254740993", True),
        (2**53 + 1, "9007199254740992", False),
        (10**300, "1" + "0" * 300, True),
        (10**1000, "1" + "0" * 1000, True),
        (10**1000, "1" + "0" * 999, False),
    ],
)
def test_comparisons(value, header, same):
    mirrored, params = {"mcp-param-x": ("x",)}, call({"x": value})["params"]
    headers = {"mcp-method": "tools/call", "mcp-name": "sql", "mcp-param-x": header}
    if same:
        check_request(headers, "tools/call", params, mirrored)
    else:
        with pytest.raises(RpcError, match="mcp-param-x"):
            check_request(headers, "tools/call", params, mirrored)


@pytest.mark.parametrize("name", [None, 5, ["x"], True])
def test_a_name_that_is_no_string_has_no_header(name):
    headers = {"mcp-method": "resources/read"}
    check_request(headers, "resources/read", {"uri": name}, {})
    with pytest.raises(RpcError, match="mcp-name"):
        check_request(headers | {"mcp-name": "x"}, "resources/read", {"uri": name}, {})


def test_null_is_not_the_word_none():
    assert "mcp-name" in refusal(GOOD | {"mcp-name": "None"}, name=None)
    assert "mcp-param-region" in refusal(GOOD | {"mcp-param-region": "None"}, ARGUMENTS | {"region": None})


def test_a_method_without_a_name_needs_none():
    check_request({"mcp-method": "tools/list"}, "tools/list", {}, {})
