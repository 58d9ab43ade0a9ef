"""MCP as tables, compared with what the schemas of the five revisions say, which is written down here again."""

from __future__ import annotations

import re

import pytest

from mcp_min import spec

REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]

# Requests that clients send, and the revisions whose schema has them (tasks of 2025-11-25 are not served).
ALL, OLD, NEW = REVISIONS, REVISIONS[:4], REVISIONS[4:]
CLIENT_REQUESTS = {
    "initialize": OLD,
    "ping": OLD,
    "logging/setLevel": OLD,
    "resources/subscribe": OLD,
    "resources/unsubscribe": OLD,
    "server/discover": NEW,
    "subscriptions/listen": NEW,
    "tools/list": ALL,
    "tools/call": ALL,
    "prompts/list": ALL,
    "prompts/get": ALL,
    "resources/list": ALL,
    "resources/templates/list": ALL,
    "resources/read": ALL,
    "completion/complete": ALL,
}
SERVER_REQUESTS = {"elicitation/create", "sampling/createMessage", "roots/list"}


def test_revisions():
    assert list(reversed(spec.SUPPORTED)) == REVISIONS
    assert set(spec.LEGACY) | set(spec.MODERN) == set(spec.SUPPORTED)
    assert not set(spec.LEGACY) & set(spec.MODERN)
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", version) for version in spec.SUPPORTED)
    assert list(spec.LEGACY) == sorted(spec.LEGACY, reverse=True)
    assert spec.ASSUMED == spec.BATCHES == "2025-03-26"


# As the specification's table of error codes has them, and the constants of the 2026-07-28 JSON schema.
CODES = {
    "RESOURCE_NOT_FOUND": -32002,
    "HEADER_MISMATCH": -32020,
    "MISSING_CLIENT_CAPABILITY": -32021,
    "UNSUPPORTED_VERSION": -32022,
    "INSUFFICIENT_SCOPE": 403,
}


def test_error_codes():
    assert {name: value for name, value in vars(spec).items() if type(value) is int} == CODES
    assert {-32020, -32021, -32022} == spec.MODERN_ERRORS
    # Own codes SHOULD stay outside the range that JSON-RPC reserves.
    assert not -32768 <= spec.INSUFFICIENT_SCOPE <= -32000


KEYS = {
    "PROTOCOL_VERSION": "io.modelcontextprotocol/protocolVersion",
    "CLIENT_INFO": "io.modelcontextprotocol/clientInfo",
    "CLIENT_CAPABILITIES": "io.modelcontextprotocol/clientCapabilities",
    "LOG_LEVEL": "io.modelcontextprotocol/logLevel",
    "SERVER_INFO": "io.modelcontextprotocol/serverInfo",
    "SUBSCRIPTION_ID": "io.modelcontextprotocol/subscriptionId",
}
HEADERS = {
    "VERSION_HEADER": "mcp-protocol-version",
    "METHOD_HEADER": "mcp-method",
    "NAME_HEADER": "mcp-name",
    "PARAM_HEADER": "mcp-param-",
    "SESSION_HEADER": "mcp-session-id",
    "PARAM_ANNOTATION": "x-mcp-header",
}


@pytest.mark.parametrize(("name", "value"), [*KEYS.items(), *HEADERS.items()])
def test_names_on_the_wire(name, value):
    assert getattr(spec, name) == value


def test_every_request_has_its_place():
    families = {method for methods in spec.FAMILIES.values() for method in methods}
    assert families | spec.LEGACY_METHODS | spec.MODERN_METHODS == CLIENT_REQUESTS.keys()
    assert {method for method, revisions in CLIENT_REQUESTS.items() if revisions == OLD} == spec.LEGACY_METHODS
    assert {method for method, revisions in CLIENT_REQUESTS.items() if revisions == NEW} == spec.MODERN_METHODS
    assert spec.FAMILIES.keys() == {"tools", "prompts", "resources", "completions"}
    assert all(method.startswith(family.rstrip("s")) for family, methods in spec.FAMILIES.items() for method in methods)


def test_what_servers_ask_for_and_when():
    assert spec.CLIENT_CAPABILITY_OF.keys() == SERVER_REQUESTS
    assert all(method.startswith(capability) for method, capability in spec.CLIENT_CAPABILITY_OF.items())
    assert {"tools/call", "prompts/get", "resources/read"} == spec.INPUT_METHODS == spec.NAME_OF.keys()
    assert spec.NAME_OF == {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


def test_what_may_be_cached():
    lists = {method for method in CLIENT_REQUESTS if method.endswith("/list")}
    assert lists | {"server/discover", "resources/read"} == spec.CACHEABLE


def test_changes():
    kinds = ("tools", "prompts", "resources")
    assert {f"{kind}ListChanged": f"notifications/{kind}/list_changed" for kind in kinds} == spec.CHANGES
    assert spec.RESOURCE_UPDATED == "notifications/resources/updated"


def test_log_levels_are_those_of_syslog():
    assert spec.LOG_LEVELS == ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


# Members of a tool's definition, or of what a server says of itself, and the first revision whose schema has each.
MEMBERS = {
    "name": "2024-11-05",
    "description": "2024-11-05",
    "inputSchema": "2024-11-05",
    "annotations": "2025-03-26",
    "title": "2025-06-18",
    "outputSchema": "2025-06-18",
    "_meta": "2025-06-18",
    "icons": "2025-11-25",
    "websiteUrl": "2025-11-25",
}


@pytest.mark.parametrize("version", REVISIONS)
def test_a_definition_has_what_its_revision_knows(version):
    known = spec.known_members(dict.fromkeys(MEMBERS, "x"), version)
    assert known == {member: "x" for member, since in MEMBERS.items() if since <= version}


def test_resources_had_annotations_from_the_start():
    assert spec.known_members({"uri": "a://b", "annotations": {}}, "2024-11-05").keys() == {"uri", "annotations"}


@pytest.mark.parametrize(
    ("table", "since"),
    [
        (spec.MEMBER_SINCE, {"message": "2025-03-26", "structuredContent": "2025-06-18"}),
        (spec.CONTENT_SINCE, {"audio": "2025-03-26", "resource_link": "2025-06-18"}),
        (spec.CAPABILITY_SINCE, {"completions": "2025-03-26", "extensions": "2026-07-28"}),
    ],
)
def test_since_when(table, since):
    assert since.items() <= table.items()
    assert set(table.values()) <= set(REVISIONS)
