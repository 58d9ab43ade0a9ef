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
        if not self.names or any("{" in literal or "}" in literal for literal in self._literals):
            raise ValueError(f"URI template {template!r}: it needs variables, only {{name}} and {{+name}} are known")
        if "" in self._literals[1:-1]:
            raise ValueError(f"URI template {template!r}: two variables need some text between them")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"URI template {template!r}: a variable is named twice")

    def match(self, uri: str) -> dict[str, str] | None:
        """Return the variables' decoded values, or None when the URI is not one of the template's.

        A value that could lead a handler out of its folder is no match: "..", an absolute path, "c:", a
        backslash, NUL, and, but for {+name}, a slash, whether written plainly or as %2F.
        """
        first, *between, last = self._literals
        if len(uri) < len(first) + len(last) or not uri.startswith(first) or not uri.endswith(last):
            return None
        rest = uri[len(first) : len(uri) - len(last)]
        values = []
        for literal in between:
            value, found, rest = rest.partition(literal)
            if not found:
                return None
            values.append(unquote(value))
        values.append(unquote(rest))
        return dict(zip(self.names, values, strict=True)) if all(map(_is_safe, values, self._takes_slashes)) else None


def _is_safe(value: str, takes_slashes: bool) -> bool:
    segments = value.split("/")
    if len(segments) > 1 and (not takes_slashes or segments[0] == ""):
        return False
    return value != "" and ".." not in segments and not _ELSEWHERE.search(value)


_ELSEWHERE = re.compile(r"\\|\0|^[A-Za-z]:")  # on Windows "c:x" leads to another drive
