"""Server-Sent Events: text to events and back.

`stream.py` frames messages by newlines; HTTP frames them as events, so that one response can carry
many messages, each with an id to resume from. Both directions are here, as pure functions of bytes.

Spec: WHATWG HTML 9.2.6, "Interpreting an event stream"; 2025-11-25 basic/transports#streamable-http.
Wire:
    : a comment, which keeps proxies from closing a silent stream
    (empty line)
    id: 7                       what a client that lost the stream sends back as Last-Event-ID
    retry: 500                  milliseconds to wait before it reconnects
    data: {"jsonrpc":"2.0",
    data:  "method":"x"}        joined to the line above by a newline
    (empty line)                the event happens here

Deliberately absent: sockets, reconnecting, and what the data means.
"""

from __future__ import annotations

from typing import NamedTuple

COMMENT = b":\n\n"  # an event stream's way to say nothing
MAX_EVENT = 16 * 2**20  # bytes of one event, as for a line of stdio


class TooLong(ValueError):
    """An event has more bytes than its reader takes."""


class Event(NamedTuple):
    """One event as it was dispatched; what a stream has named to resume from, its Parser knows."""

    data: str
    event: str = "message"


def encode(data: str, *, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """Return one event; `data` may have several lines, `retry` is in milliseconds.

    A newline at the end of `data` makes an empty last line, which the reader gets as a newline.

    Raises ValueError for a line break or NUL in `event` or `id`: it would end the field, or void the id.
    """
    lines = []
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if any(character in value for character in "\r\n\0"):
                raise ValueError(f"the {name} of an event must not hold a line break or NUL: {value!r}")
            lines.append(f"{name}: {value}")
    if retry is not None:
        lines.append(f"retry: {retry}")
    # A bare CR ends a line too: left in place, the rest of the data would be read as a field.
    for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        lines.append(f"data: {line}")
    return ("\n".join(lines) + "\n\n").encode("utf-8")


class Parser:
    """Reads an event stream; the same events come out wherever the chunks are cut.

    last_event_id: what to resume from. An event without data is not dispatched, yet its id counts:
    2025-11-25 servers open a stream so. retry: milliseconds, None until the server names them.
    An event that the stream's end cuts short never happened, and its id does not count.
    max_event: bytes of one event, field names included and line ends not.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._max_event = max_event
        self._size = 0  # bytes of the unfinished line and of the data lines before it
        self._line: list[bytes] = []  # the unfinished line; joined once, so that time stays linear
        self._after_cr = False
        self._byte_order_mark = b"\xef\xbb\xbf"  # dropped once, before the first line
        self._data: list[bytes] = []
        self._event = self._id = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes.

        Raises TooLong for an event of over `max_event` bytes: the rest of the stream cannot be
        trusted to fit either. Events before it in the same chunk come first, the error with the next call.
        """
        events: list[Event] = []
        if chunk and self._after_cr:
            chunk = chunk.removeprefix(b"\n")  # of a CRLF cut in two; it ends no second line
            self._after_cr = False
        # Of bytes, unlike of str, `splitlines` cuts at CR, LF and CRLF only.
        for part in chunk.splitlines(keepends=True):
            self._line.append(part.rstrip(b"\r\n"))
            self._size += len(self._line[-1])
            if self._size > self._max_event:
                break
            self._after_cr = part.endswith(b"\r")
            if part.endswith((b"\r", b"\n")):
                events += self._end_line()
        if self._size > self._max_event and not events:
            raise TooLong(f"an event has more than {self._max_event} bytes (option max_event)")
        return events

    def _end_line(self) -> list[Event]:
        line = b"".join(self._line).removeprefix(self._byte_order_mark)
        self._line, self._byte_order_mark = [], b""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            return self._dispatch()
        if name == b"data":
            self._data.append(value)
        else:
            self._size -= len(line)  # only data piles up: a stream of comments may go on for ever
        if name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        # `int` refuses over 4,300 digits; nine are eleven days.
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry = int(value)
        return []

    def _dispatch(self) -> list[Event]:
        data, event = self._data, self._event.decode("utf-8", "replace")
        self._data, self._event, self._size = [], b"", 0
        self.last_event_id = self._id.decode("utf-8", "replace")
        if not data:
            return []
        text = b"\n".join(data).decode("utf-8", "replace")
        return [Event(text, event or "message")]
