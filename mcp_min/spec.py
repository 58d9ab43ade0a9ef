"""MCP as tables: revisions, methods, capabilities, reserved keys, header names.

`jsonrpc.py` knows messages; this file knows which of them MCP has, and since when. What differs
between the revisions stands here, so that no other file asks for a date.

Spec: every revision's schema; 2026-07-28 basic#_meta, basic#error-codes, changelog.
Wire: {"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28", …}} is the mark of the modern era.

Deliberately absent: code that decides anything but what is older. Revisions are ISO dates, so that
`<` compares their ages.
"""

from __future__ import annotations

from typing import Any, Final

# --- revisions -----------------------------------------------------------------------------------

# Legacy revisions open with `initialize` and keep a session; in the modern ones every request
# stands alone (2026-07-28 basic/versioning#terminology).
LEGACY: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MODERN: Final = ("2026-07-28",)
SUPPORTED: Final = MODERN + LEGACY  # the newest first, the order in which they are offered
ASSUMED: Final = "2025-03-26"  # without `initialize` and without a version (2025-11-25 basic/transports)
BATCHES: Final = "2025-03-26"  # the one revision with JSON-RPC batches

# --- error codes ---------------------------------------------------------------------------------

RESOURCE_NOT_FOUND: Final = -32002  # until 2025-11-25; INVALID_PARAMS since
HEADER_MISMATCH: Final = -32020
MISSING_CLIENT_CAPABILITY: Final = -32021  # data: {"requiredCapabilities": {"sampling": {}}}
UNSUPPORTED_VERSION: Final = -32022  # data: {"supported": ["2026-07-28"], "requested": "1900-01-01"}
INSUFFICIENT_SCOPE: Final = 403  # our own, outside JSON-RPC's range; HTTP answers it with that status
MODERN_ERRORS: Final = frozenset({HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY, UNSUPPORTED_VERSION})

# --- reserved keys of `_meta` --------------------------------------------------------------------

_PREFIX = "io.modelcontextprotocol/"
PROTOCOL_VERSION: Final = _PREFIX + "protocolVersion"
CLIENT_INFO: Final = _PREFIX + "clientInfo"
CLIENT_CAPABILITIES: Final = _PREFIX + "clientCapabilities"
LOG_LEVEL: Final = _PREFIX + "logLevel"
SERVER_INFO: Final = _PREFIX + "serverInfo"
SUBSCRIPTION_ID: Final = _PREFIX + "subscriptionId"

# --- methods -------------------------------------------------------------------------------------

LEGACY_METHODS: Final = frozenset(
    {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
)
MODERN_METHODS: Final = frozenset({"server/discover", "subscriptions/listen"})

# What a capability brings to the table of methods, each family in the order that its page lists them.
FAMILIES: Final = {
    "tools": ("tools/list", "tools/call"),
    "prompts": ("prompts/list", "prompts/get"),
    "resources": (
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ),
    "completions": ("completion/complete",),
}

# The client capability that a request of the server needs (basic/patterns/mrtr#core-types).
CLIENT_CAPABILITY_OF: Final = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}

# MAY answer `input_required`; MUST NOT on any other (2026-07-28 basic/patterns/mrtr#supported-requests).
INPUT_METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read"})

# MUST carry ttlMs and cacheScope (2026-07-28 server/utilities/caching#cacheable-results).
CACHEABLE: Final = frozenset(
    {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)

# What a change of each kind is called: on the wire, in a listener's filter.
CHANGES: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}
RESOURCE_UPDATED: Final = "notifications/resources/updated"

# Syslog's severities, the least severe first (server/utilities/logging#log-levels).
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

# --- since when a member exists ------------------------------------------------------------------

# Members of tools, resources, templates, prompts and results that a peer of an older revision must
# not meet, because its schema may be closed.
MEMBER_SINCE: Final = {
    "message": "2025-03-26",  # of progress
    "title": "2025-06-18",
    "outputSchema": "2025-06-18",
    "structuredContent": "2025-06-18",
    "_meta": "2025-06-18",
    "icons": "2025-11-25",
    "websiteUrl": "2025-11-25",  # of `serverInfo`
}
TOOL_MEMBER_SINCE: Final = {"annotations": "2025-03-26"}  # resources had them from the start


def known_members(definition: dict[str, Any], version: str) -> dict[str, Any]:
    """Return a definition without the members that came after this revision."""
    since = MEMBER_SINCE | TOOL_MEMBER_SINCE if "inputSchema" in definition else MEMBER_SINCE
    return {key: value for key, value in definition.items() if since.get(key, "") <= version}


CONTENT_SINCE: Final = {"audio": "2025-03-26", "resource_link": "2025-06-18"}
CAPABILITY_SINCE: Final = {"completions": "2025-03-26", "extensions": "2026-07-28"}

# --- HTTP ----------------------------------------------------------------------------------------

VERSION_HEADER: Final = "mcp-protocol-version"
METHOD_HEADER: Final = "mcp-method"
NAME_HEADER: Final = "mcp-name"
PARAM_HEADER: Final = "mcp-param-"  # + the value of `x-mcp-header`, in lower case
SESSION_HEADER: Final = "mcp-session-id"
PARAM_ANNOTATION: Final = "x-mcp-header"

# The member of `params` that `Mcp-Name` repeats (2026-07-28 basic/transports/streamable-http#standard-request-headers).
NAME_OF: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
