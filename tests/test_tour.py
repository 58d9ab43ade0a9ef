"""One call, followed: what is counted, and that it is what happens."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from types import FrameType

import pytest

import mcp_min
from mcp_min import peer
from mcp_min.extras import tour
from mcp_min.extras.tour import Hops

PACKAGE = Path(mcp_min.__file__).parent
ERAS = pytest.mark.parametrize("era", tour.ERAS)


@ERAS
def test_the_way_of_a_call(era: str) -> None:
    way = tour.hops(era)
    message, answer = json.loads(way.request), json.loads(way.reply)
    assert message["method"] == "tools/call"
    assert answer["id"] == message["id"]
    assert answer["result"]["content"] == [{"type": "text", "text": "3"}]
    assert ("resultType" in answer["result"]) == (era == tour.ERAS[1])
    names = [name for _, _, name in way.steps]
    order = ["FileStream.receive", "Peer.receive", "Dispatcher.dispatch", "Server._call_tool", "add() is", "encode"]
    places = [next(place for place, name in enumerate(names) if part in name) for part in order]
    assert places == sorted(places)
    assert names[places[4] + 1] == "add() returns 3"
    # Written to the socket last; no client and no function of the tour itself.
    assert way.steps[-1][1].startswith("stdio.py:")
    assert {place.partition(":")[0] for _, place, _ in way.steps} == {*way.files, "your function"}
    assert not {"client.py", "extras.tour.py"} & set(way.files)
    assert sys.getprofile() is None


@ERAS
def test_the_way_of_a_call_over_http(era: str) -> None:
    way = tour.hops(era, http=True)
    head, _, body = way.request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /mcp HTTP/1.1\r\n")
    assert json.loads(body)["method"] == "tools/call"
    head, _, body = way.reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert ("resultType" in json.loads(body)["result"]) == (era == tour.ERAS[1])
    names = [name for _, _, name in way.steps]
    order = [
        "parse_request",
        "Endpoint.post",
        "Dispatcher.dispatch",
        "Server._call_tool",
        "add() is",
        "encode",
        "respond",
    ]
    places = [next(place for place, name in enumerate(names) if part in name) for part in order]
    assert places == sorted(places)
    assert places[-1] == len(names) - 1
    assert not {"client.py", "extras.tour.py", "sessions.py", "peer.py"} & set(way.files)
    assert sys.getprofile() is None


@pytest.mark.parametrize("http", [False, True])
@ERAS
def test_the_numbers(era: str, http: bool) -> None:
    way = tour.hops(era, http=http)
    assert way.total_lines == sum(len((PACKAGE / name).read_text().splitlines()) for name in way.files)
    assert len(way.functions) == len(way.steps) - 2 == len({(place, name) for _, place, name in way.steps}) - 2
    assert way.code_lines == sum(way.functions.values())
    assert all(0 < lines < 60 for lines in way.functions.values())
    assert way.queues == 0
    for function in way.functions:  # each stands where it is said to stand
        place, name = function.split(" ")
        file, line = place.split(":")
        source = (PACKAGE / file).read_text().splitlines()[int(line) - 1]
        assert name == "<lambda>" or source.strip().startswith("@") or f"def {name.rpartition('.')[2]}(" in source


def test_code_lines_are_those_with_code() -> None:
    lines, total, spans = tour._outline("mcp_min.peer")
    source = (PACKAGE / "peer.py").read_text().splitlines()
    assert total == len(source)
    assert range(peer.call_back.__code__.co_firstlineno, len(source) + 1) in spans
    for span in spans:
        text = [source[line - 1].strip() for line in sorted(lines.intersection(span))]
        assert text[0].startswith(("@", "def ", "async def "))
        assert not [line for line in text if line == "" or line.startswith(("#", '"""', "Raises"))]


def way_of_a_lambda(way: Hops) -> None:
    """Report the call of a lambda, as the interpreter would."""
    (lambda: way.observe(sys._getframe(), "call", None))()


def test_a_function_is_counted_once_and_a_lambda_with_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "_PACKAGE", "")  # everything is ours
    way = Hops(b"")
    way_of_a_lambda(way)
    way_of_a_lambda(way)
    assert [function.split(" ")[1] for function in way.functions] == ["way_of_a_lambda"]
    assert list(way.functions.values()) == [2]  # without its docstring
    assert len(way.steps) == 1


def test_what_the_interpreter_reports() -> None:
    """Called by hand here, since the interpreter does not look on while it reports."""
    way, ours, theirs = Hops(b""), tour.add(1, 2), asyncio.Queue[int]().put_nowait
    way.observe(sys._getframe(), "call", None)  # of no package
    way.observe(sys._getframe(), "c_call", len)
    way.observe(ours.cr_frame, "c_return", len)
    assert way == Hops(b"")
    way.observe(ours.cr_frame, "call", None)
    way.observe(ours.cr_frame, "return", 3)
    ours.close()
    texts = ["add() is called with {'a': 1, 'b': 2}", "add() returns 3"]
    assert way.steps == [(0, "your function", text) for text in texts]
    frames: list[FrameType] = []
    sys.setprofile(lambda frame, event, argument: frames.append(frame))
    theirs(1)
    way.observe(frames[0], "call", None)
    assert (way.queues, way.functions) == (1, {})
    way.observe(frames[0], "c_call", os.write)
    assert sys.getprofile() is None


@pytest.mark.parametrize(
    ("http", "first"), [(False, '{"jsonrpc":"2.0","id":2,'), (True, "POST /mcp HTTP/1.1\n       host: ")]
)
def test_the_telling(http: bool, first: str) -> None:
    lines = list(tour.tell(http=http))
    starts = [number for number, line in enumerate(lines) if line.startswith("One tools/call of ")]
    assert [lines[number].split()[3].strip(",") for number in starts] == list(tour.ERAS)
    for number in starts:
        assert lines[number + 1].startswith(f"  in   {first}")
    assert [line for line in lines if line.endswith("0 queues\n")]
