"""A server that keeps notes in SQLite and lists each one as a resource.

    python -m mcp_min.examples.notes [DATABASE]

Resources come and go while the server runs: a new note is a new resource, and clients are told that
the list has changed; a note that is written again has changed itself, and who subscribed to it is
told that. A note is deleted only after its user has agreed. That question is asked in one line, and
reaches the user in either era: as a request to the client, or as the answer to the call.

Spec: 2026-07-28 server/resources, client/elicitation, basic/patterns/mrtr; 2025-11-25 client/elicitation.
Wire: → {"method":"tools/call","params":{"name":"delete_note","arguments":{"id":1}, …}}
      ← {"resultType":"input_required","inputRequests":{"1":{"method":"elicitation/create", …}}, …}

The database belongs to this process. Without a name it lives in memory, as long as the server.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Annotated, Any, TypedDict

from .. import Context, Server, ToolError

server = Server("notes", version="1.0.0", instructions="Keeps notes. Each is a resource, note://ID.")


class Note(TypedDict):
    """A note, as tools return it."""

    id: int
    title: str
    text: str


def open_notes(path: str) -> sqlite3.Connection:
    """Open a database and list the notes that are in it."""
    connection = sqlite3.connect(path, isolation_level=None)  # each statement is a transaction
    # AUTOINCREMENT: the URI of a deleted note is never another's.
    columns = "id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT UNIQUE NOT NULL, text TEXT NOT NULL"
    connection.execute(f"CREATE TABLE IF NOT EXISTS notes ({columns})")
    for id, title in connection.execute("SELECT id, title FROM notes ORDER BY id"):
        list_note(id, title)
    return connection


def list_note(id: int, title: str) -> None:
    """Make a note a resource; clients that listen are told."""
    # On the loop's thread, to which the database belongs; it answers in microseconds.
    server.resource(f"note://{id}", name=title, mime_type="text/plain", run_in_thread=False)(lambda: find(id)["text"])


def find(id: int) -> Note:
    """Return a note. Raises ToolError when there is none."""
    for title, text in notes.execute("SELECT title, text FROM notes WHERE id = ?", [id]):
        return Note(id=id, title=title, text=text)
    raise ToolError(f"there is no note {id}")


@server.resource("note://all", run_in_thread=False)
def all_notes() -> list[Note]:
    """Every note; a resource from the start, so that clients know of resources before there is a note."""
    rows = notes.execute("SELECT id, title, text FROM notes ORDER BY id")
    return [Note(id=id, title=title, text=text) for id, title, text in rows]


@server.tool(run_in_thread=False)
def add_note(title: str, text: str) -> Note:
    """Write a note; one of the same title gets the new text."""
    changed = notes.execute("UPDATE notes SET text = ? WHERE title = ?", [text, title]).rowcount
    if not changed:
        notes.execute("INSERT INTO notes (title, text) VALUES (?, ?)", [title, text])
    [[id]] = notes.execute("SELECT id FROM notes WHERE title = ?", [title])
    if changed:
        server.resource_updated(f"note://{id}")
    else:
        list_note(id, title)
    server.resource_updated("note://all")
    return find(id)


@server.tool(run_in_thread=False, annotations={"readOnlyHint": True})
def search_notes(words: Annotated[str, "all of them must occur; none: every note"] = "") -> list[Note]:
    """Find notes by the words in them."""
    # Not with LIKE, which knows upper and lower case of English letters only.
    wanted = words.casefold().split()
    return [
        note for note in all_notes() if all(word in f"{note['title']} {note['text']}".casefold() for word in wanted)
    ]


@server.tool(annotations={"destructiveHint": True})
async def delete_note(id: int, ctx: Context) -> str:
    """Delete a note, if its user agrees."""
    title = find(id)["title"]
    agree = {"type": "boolean", "title": "Delete it", "default": False}
    form: dict[str, Any] = {"type": "object", "properties": {"agree": agree}, "required": ["agree"]}
    answer = await ctx.elicit(f"Delete the note {title!r}?", form)
    if answer["action"] != "accept" or not answer["content"]["agree"]:
        return "kept"
    # Only from here on may something happen: with the answer, a modern call has begun once more.
    if notes.execute("DELETE FROM notes WHERE id = ?", [id]).rowcount:
        server.remove_resource(f"note://{id}")
        server.resource_updated("note://all")
    return "deleted"


@server.prompt(run_in_thread=False)
def summary(language: str = "English") -> str:
    """Ask for a summary of all notes."""
    texts = [f"{note['title']}: {note['text']}" for note in all_notes()]
    return f"Summarize these notes in {language}:\n\n" + "\n\n".join(texts)


notes = open_notes(":memory:")


def main() -> None:
    """Serve the notes of the database that the command line names."""
    global notes
    if len(sys.argv) > 1:
        notes.close()
        notes = open_notes(sys.argv[1])
    server.run()
    notes.close()


if __name__ == "__main__":
    main()
