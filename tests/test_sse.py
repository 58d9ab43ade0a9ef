"""Event streams: the WHATWG algorithm, wherever the chunks are cut, and `encode` as its inverse."""

from __future__ import annotations

import random
import re
import time

import pytest

from mcp_min.sse import COMMENT, Event, Parser, encode

# (stream, data of the events, last_event_id, retry)
STREAMS = {
    "one event": (b"data: a\n\n", ["a"], "", None),
    "several lines": (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"], "", None),
    "one space is dropped": (b"data:a\n\ndata: a\n\ndata:  a\n\n", ["a", "a", " a"], "", None),
    "CR ends lines": (b"data: a\rdata: b\r\r", ["a\nb"], "", None),
    "CRLF ends lines": (b"data: a\r\ndata: b\r\n\r\n", ["a\nb"], "", None),
    "the ends may be mixed": (b"data: a\r\n\rdata: b\n\r\ndata: c\r\r", ["a", "b", "c"], "", None),
    "only CR and LF end lines": ("data: a\x0b\x0c\x1c\x85\u2028b\n\n".encode(), ["a\x0b\x0c\x1c\x85\u2028b"], "", None),
    "comments": (b": a comment\n:\n\ndata: a\n:data: b\n\n", ["a"], "", None),
    "a field without a colon": (b"data\n\ndata\ndata\n\ndata:", ["", "\n"], "", None),
    "a value with colons": (b"data: a: b\n\n", ["a: b"], "", None),
    "unknown fields": (b"Data: x\ndat: x\n data: x\nfoo\ndata: a\n\n", ["a"], "", None),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", ["a"], "", None),
    "one byte order mark only": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [], "", None),
    "half a byte order mark": (b"\xef\xbbdata: a\n\ndata: b\n\n", ["b"], "", None),
    "bytes that are not UTF-8": (b"data: \xff\xe2\x82\ndata: \xac\n\n", ["\ufffd\ufffd\n\ufffd"], "", None),
    "blank lines alone": (b"\n\r\n\r\r\n\n", [], "", None),
    "an event that the end cuts short": (b"id: 1\ndata: a\n\nid: 2\ndata: b\n", ["a"], "1", None),
    "an id without data": (b"id: 7\nretry: 500\n\n", [], "7", 500),
    "an id with empty data": (b"id: 7\nretry: 500\ndata:\n\n", [""], "7", 500),
    "an id stays": (b"id: 1\ndata: a\n\ndata: b\n\n", ["a", "b"], "1", None),
    "an id is taken back": (b"id: 1\ndata: a\n\nid\ndata: b\n\n", ["a", "b"], "", None),
    "an id with NUL": (b"id: 1\n\nid: 2\x003\ndata: a\n\n", ["a"], "1", None),
    "retry is digits": (b"retry: 5\nretry: +6\nretry: 7 \nretry: -8\nretry:\n", [], "", 5),
    "retry is ASCII digits": ("retry: \u0663\nretry: \u00b2\n".encode(), [], "", None),
    "retry out of all bounds": (b"retry: 5\nretry: " + b"9" * 5_000 + b"\n", [], "", 5),
}


def parse(chunks: list[bytes], max_event: int = 10**9) -> tuple[list[Event], str, int | None, bool]:
    """Return what the chunks give: events, last_event_id, retry, and whether an event was too long."""
    parser, events = Parser(max_event), []
    try:
        for chunk in [*chunks, b""]:
            events += parser.feed(chunk)
    except ValueError:
        return events, parser.last_event_id, parser.retry, True
    return events, parser.last_event_id, parser.retry, False


def bytewise(stream: bytes) -> list[bytes]:
    return [piece for i in range(len(stream)) for piece in (stream[i : i + 1], b"")]


@pytest.mark.parametrize("cut", [lambda stream: [stream], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("stream", "data", "last_id", "retry"), STREAMS.values(), ids=STREAMS)
def test_streams(stream, data, last_id, retry, cut):
    events, *rest = parse(cut(stream))
    assert [event.data for event in events] == data
    assert rest == [last_id, retry, False]


def test_an_event_has_its_type():
    stream = b"event: a\ndata: x\n\ndata: y\n\nevent: b\n\ndata: z\n\nevent:\ndata: w\n\n"
    assert parse([stream])[0] == [
        Event("x", "a"),
        Event("y", "message"),
        Event("z", "message"),  # the type of an event without data does not outlive it
        Event("w", "message"),
    ]


def reference(stream: bytes) -> tuple[list[Event], str, int | None]:
    """The algorithm of WHATWG HTML 9.2.6 as it is written there, over a whole stream."""
    data = event = id = last_id = ""
    retry, events = None, []
    lines = re.split("\r\n|\n|\r", stream.decode("utf-8", "replace").removeprefix("\ufeff"))
    for line in lines[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            last_id = id
            if data:
                events.append(Event(data.removesuffix("\n"), event or "message"))
            data = event = ""
        elif field == "event":
            event = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            id = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return events, last_id, retry


WORDS = [b"data", b"event", b"id", b"retry", b"x", b":", b": ", b" ", b"\r", b"\n", b"\r\n", b"\n\n", b"12", b"\0"]
WORDS += [b"\xef\xbb\xbf", "\u20ac".encode(), b"\xe2", b"data: a\n", b"id: 5\n", b"\r\n\r\n"]


@pytest.mark.parametrize("seed", range(300))
def test_the_same_events_however_the_stream_is_cut(seed):
    dice = random.Random(seed)
    stream = b"".join(dice.choices(WORDS, k=dice.randrange(60)))
    cuts = sorted(dice.choices(range(len(stream) + 1), k=4))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = parse([stream])
    assert whole[:3] == reference(stream)
    assert parse(bytewise(stream)) == parse(pieces) == whole
    for max_event in (3, 8):
        assert parse(bytewise(stream), max_event) == parse(pieces, max_event) == parse([stream], max_event)


@pytest.mark.parametrize(
    ("stream", "fits"),
    [
        (b"data: 78\r\n\r\n" * 3, True),
        (b"data: 789\n\n", False),
        (b"data: 789", False),
        (b"data\ndata\n\n", True),
        (b"data\ndata\nx", False),
        (b": comment\n", False),
        (b": comm\n" * 100, True),
        (b"id: 56\nevent: 8\nretry: 8\ndata: 78\n\n", True),
    ],
)
def test_an_event_has_at_most_max_event_bytes(stream, fits):
    assert parse([stream], 8)[-1] is not fits
    assert parse(bytewise(stream), 8)[-1] is not fits


def test_events_before_one_that_is_too_long_are_not_lost():
    parser = Parser(max_event=8)
    assert parser.feed(b"data: a\n\ndata: too long\n\ndata: b\n\n") == [Event("a")]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"more than 8 bytes \(option max_event\)"):
            parser.feed(b"")


def test_a_huge_event_in_small_chunks_takes_linear_time():
    began = time.process_time()
    size = 4 * 2**20
    parser = Parser()
    parser.feed(b"data: ")
    for _ in range(size // 16):
        assert parser.feed(b"x" * 16) == []
    [event] = parser.feed(b"\n\n")
    assert len(event.data) == size
    assert time.process_time() - began < 10  # some 0.3 s; were each chunk to copy what came before, over a minute


@pytest.mark.parametrize(
    ("arguments", "encoded"),
    [
        ({"data": "a"}, b"data: a\n\n"),
        ({"data": ""}, b"data: \n\n"),
        ({"data": "a\nb\rc\r\nd\n"}, b"data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        ({"data": "\u20ac", "event": "e", "id": "1", "retry": 5}, b"event: e\nid: 1\nretry: 5\ndata: \xe2\x82\xac\n\n"),
        ({"data": "a", "event": "", "id": "", "retry": 0}, b"event: \nid: \nretry: 0\ndata: a\n\n"),
    ],
)
def test_encode(arguments, encoded):
    assert encode(**arguments) == encoded
    parser = Parser()
    [event] = parser.feed(encoded)
    assert event.data == re.sub("\r\n?", "\n", arguments["data"])
    assert event.event == (arguments.get("event") or "message")
    assert (parser.last_event_id, parser.retry) == (arguments.get("id", ""), arguments.get("retry"))


@pytest.mark.parametrize("name", ["event", "id"])
@pytest.mark.parametrize("character", "\r\n\0")
def test_encode_refuses_what_would_become_another_field(name, character):
    with pytest.raises(ValueError, match=f"the {name} of an event must not hold"):
        encode("a", **{name: f"1{character}data: b"})


def test_a_comment_is_no_event():
    assert Parser().feed(COMMENT + encode("a") + COMMENT) == [Event("a")]
