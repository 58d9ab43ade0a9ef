"""URI templates: what matches, what would lead out of a folder and does not, and that no match can explode."""

from __future__ import annotations

import re
import time

import pytest

from mcp_min.uri_template import UriTemplate

# (template, URI, values; None: no match)
MATCHES = [
    ("note://{id}", "note://7", {"id": "7"}),
    ("note://{id}", "note://", None),
    ("note://{id}", "NOTE://7", None),
    ("note://{id}", "xnote://7", None),
    ("note://{id}", "note://a/b", None),
    ("note://{id}/text", "note://7/text", {"id": "7"}),
    ("note://{id}/text", "note://7/textx", None),
    ("note://{id}/text", "note://7", None),
    ("{name}.txt", "notes.pdf", None),
    ("note://{id}/text", "note:///text", None),
    ("test://template/{id}/data", "test://template/123/data", {"id": "123"}),
    ("db://{table}/{row}", "db://users/3", {"table": "users", "row": "3"}),
    ("db://{table}/{row}", "db://users", None),
    ("db://{table}/{row}", "db://users/3/4", None),
    ("{whole}", "anything", {"whole": "anything"}),
    ("{a}-{b}-{c}", "1-2-3", {"a": "1", "b": "2", "c": "3"}),
    ("{a}-{b}", "1-2-3", {"a": "1", "b": "2-3"}),  # each literal at its first place
    ("x{a}aa", "xaa", None),  # the literals may not overlap
    ("x{a}aa", "xaaa", {"a": "a"}),
    ("file:///{+path}", "file:///a/b/c.txt", {"path": "a/b/c.txt"}),
    ("file:///{+path}", "file:///a", {"path": "a"}),
    ("file:///{+path}", "file:///", None),
    ("git://{+path}/at/{revision}", "git://src/main.py/at/v1", {"path": "src/main.py", "revision": "v1"}),
    ("note://{id}", "note://a%20b%C3%A9", {"id": "a bé"}),
    ("note://{id}", "note://100%", {"id": "100%"}),
    ("note://{id}", "note://%252e", {"id": "%2e"}),  # decoded once, and once only
    ("verse://{place}", "verse://3:16", {"place": "3:16"}),
    ("urn:{name}", "urn:isbn:0451450523", {"name": "isbn:0451450523"}),
    ("a.c{x}", "abc1", None),  # no regular expression is made of a template
    ("a.c{x}", "a.c1", {"x": "1"}),
    ("(a+)+{x}", "(a+)+1", {"x": "1"}),
]


@pytest.mark.parametrize(("template", "uri", "values"), MATCHES)
def test_match(template, uri, values):
    assert UriTemplate(template).match(uri) == values


# Decoded or not, upper or lower case, none may reach a handler that joins it to a folder.
DOTS = ["..", "%2e%2e", "%2E%2E", ".%2e", "%2E."]
SLASHES = ["/", "%2f", "%2F"]
TRAVERSALS = [
    *DOTS,
    *[f"{dots}{slash}etc" for dots in DOTS for slash in SLASHES],
    *[f"a{slash}{dots}" for dots in DOTS for slash in SLASHES],
    *[f"a{slash}{dots}{slash}b" for dots in DOTS for slash in SLASHES],
    *[f"{slash}etc{slash}passwd" for slash in SLASHES],
    *["..\\etc", "..%5cetc", "..%5Cetc", "a\\b", "\\\\host\\share", "%5c"],
    *["a%00.txt", "\0"],
    *["c:", "C:secret", "c%3asecret", "C:/secret"],
]


@pytest.mark.parametrize("value", TRAVERSALS)
@pytest.mark.parametrize("template", ["file:///{name}", "file:///{+name}", "file:///{name}/end"])
def test_traversal_is_no_match(template, value):
    uri = template.replace("{name}", value).replace("{+name}", value)
    assert UriTemplate(template).match(uri) is None


@pytest.mark.parametrize("value", ["a%2Fb", "a%2fb", "a/b"])
def test_only_the_plus_form_takes_slashes(value):
    assert UriTemplate("file:///{name}").match(f"file:///{value}") is None
    assert UriTemplate("file:///{+name}").match(f"file:///{value}") == {"name": "a/b"}


@pytest.mark.parametrize("value", [".", "...", "a..b", "..a", ".hidden", "a.", "~", "ab:c", "10:30"])
def test_dots_and_colons_alone_are_harmless(value):
    assert UriTemplate("file:///{name}").match(f"file:///{value}") == {"name": value}


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("a://{x}{y}", "some text between"),
        ("a://{x}/{x}", "named twice"),
        ("a://{?query}", "only {name} and {+name}"),
        ("a://{x*}", "only {name} and {+name}"),
        ("a://{x:3}", "only {name} and {+name}"),
        ("a://{x,y}", "only {name} and {+name}"),
        ("a://{}", "only {name} and {+name}"),
        ("a://{1}", "only {name} and {+name}"),
        ("a://{x", "only {name} and {+name}"),
        ("a://x}", "only {name} and {+name}"),
        ("a://{x}/{y", "only {name} and {+name}"),
        ("a://{x}/y}", "only {name} and {+name}"),
        ("constant://here", "needs variables"),
        ("{" * 50 + "x" + "}" * 50, "only {name} and {+name}"),
    ],
)
def test_a_template_that_cannot_be_matched_is_refused(template, problem):
    with pytest.raises(ValueError, match=re.escape(problem)) as raised:
        UriTemplate(template)
    assert repr(template) in str(raised.value)


def test_names_are_known_in_order():
    assert UriTemplate("db://{table}/{+row}").names == ["table", "row"]


@pytest.mark.parametrize(
    ("literal", "uri"),
    [
        ("-", "-" * 100_000),
        ("-", "a-" * 50_000),
        ("/", "a" * 100_000),
        ("ab", "a" * 100_000),
        ("aaaaaaaab", "a" * 100_000),
        ("%2e", "%2e" * 33_000),
    ],
)
def test_no_template_makes_a_match_explode(literal, uri):
    template = UriTemplate("x://" + literal.join(f"{{v{number}}}" for number in range(50)))
    start = time.process_time()
    template.match("x://" + uri)
    assert time.process_time() - start < 0.05
