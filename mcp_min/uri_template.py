"""A URI matched against a template: `note://{id}` against `note://7` gives {"id": "7"}.

`json_schema.py` checks values; this file reads them out of a URI, for resource templates. It
knows two forms of RFC 6570: `{name}`, which takes one path segment or less, and `{+name}`, which
takes slashes too. Matching walks the literal texts between the variables from left to right, each
to its first place, so it is linear in the URI and no template can make it explode.

Spec: 2026-07-28 server/resources#resource-templates; RFC 6570 sections 3.2.2 and 3.2.3.

Deliberately absent: the other operators of RFC 6570, which are for building URIs, not for reading
them, and regular expressions made of other people's text.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_VARIABLE = re.compile(r"\{(\+?)([A-Za-z_][A-Za-z0-9_]*)\}")


class UriTemplate:
    """A parsed template. Raises ValueError for one that this file cannot match safely."""

    def __init__(self, template: str) -> None:
        pieces = _VARIABLE.split(template)  # literal, "+" or "", name, literal, …
        self._literals = pieces[0::3]
        self._takes_slashes = [operator == "+" for operator in pieces[1::3]]
        self.names = pieces[2::3]
        if any("{" in literal or "}" in literal for literal in self._literals):
            raise ValueError(f"URI template {template!r}: only {{name}} and {{+name}} are understood")
        if "" in self._literals[1:-1]:
            raise ValueError(f"URI template {template!r}: two variables need some text between them")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"URI template {template!r}: a variable is named twice")

    def match(self, uri: str) -> dict[str, str] | None:
        """Return the variables' decoded values, or None when the URI is not one of the template's.

        A value that could lead a handler out of its folder is no match: "..", an absolute path, "c:", a
        backslash, NUL, and, but for {+name}, a slash, whether written plainly or as %2F.
        """
        if not uri.startswith(self._literals[0]):
            return None
        values = {}
        start = len(self._literals[0])
        for name, takes_slashes, literal in zip(self.names, self._takes_slashes, self._literals[1:], strict=True):
            is_last = name == self.names[-1]
            if is_last and not uri.endswith(literal):
                return None
            end = len(uri) - len(literal) if is_last else uri.find(literal, start)
            if end < start:
                return None
            value = unquote(uri[start:end])
            if not _is_safe(value, takes_slashes):
                return None
            values[name] = value
            start = end + len(literal)
        return values if start == len(uri) else None


def _is_safe(value: str, takes_slashes: bool) -> bool:
    segments = value.split("/")
    if len(segments) > 1 and (not takes_slashes or segments[0] == ""):
        return False
    return value != "" and ".." not in segments and not _ELSEWHERE.search(value)


_ELSEWHERE = re.compile(r"\\|\0|^[A-Za-z]:")  # on Windows "c:x" leads to another drive
