"""The server fixture of the official conformance suite: python server.py PORT

What each tool, resource and prompt must do is the suite's wish; the texts are ours.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from mcp_min import Context, RpcError, Server, ToolError, audio, embedded, image, serve_http, spec, text
from mcp_min.context import ROOTS, elicitation, sampling

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
WAV = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0"
NAME_FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CONFIRM_FORM = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}

server = Server("conformance", "1.0.0", instructions="The fixture of the conformance suite.")


@server.tool
async def test_simple_text() -> str:
    """One text."""
    return "a simple text"


@server.tool
async def test_image_content() -> list:
    """One image."""
    return [image(PNG, "image/png")]


@server.tool
async def test_audio_content() -> list:
    """One sound."""
    return [audio(WAV, "audio/wav")]


@server.tool
async def test_embedded_resource() -> list:
    """One resource inside the result."""
    return [embedded("test://embedded", "inside", "text/plain")]


@server.tool
async def test_multiple_content_types() -> list:
    """A text, an image and a resource."""
    return [text("all three"), image(PNG, "image/png"), embedded("test://mixed", '{"a": 1}', "application/json")]


@server.tool
async def test_error_handling() -> str:
    """Fails, as a tool may."""
    raise ToolError("this tool always fails")


@server.tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await ctx.progress(done, total=100)
    return "done"


@server.tool
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three times."""
    for step in ("started", "working", "finished"):
        await ctx.log("info", step)
        await asyncio.sleep(0.05)
    return "logged"


@server.tool
async def test_logging_tool(ctx: Context) -> str:
    """Logs when the request wants to know."""
    await ctx.log("info", "called")
    return "logged"


@server.tool
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Has the client's model answer."""
    answer = await ctx.sample(prompt, max_tokens=100)
    return str(answer["content"])


@server.tool
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the user."""
    return str(await ctx.elicit(message, {"type": "object", "properties": {"response": {"type": "string"}}}))


@server.tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with defaults of every kind."""
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return str(await ctx.elicit("Your profile", {"type": "object", "properties": properties}))


@server.tool
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks with choices of every form."""
    plain = ["one", "two", "three"]
    titled = [{"const": value, "title": value.title()} for value in plain]
    properties = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", "enum": plain, "enumNames": ["One", "Two", "Three"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return str(await ctx.elicit("Your choices", {"type": "object", "properties": properties}))


@server.tool
async def test_reconnection(ctx: Context) -> str:
    """Lets go of its stream, and finishes for whoever comes back."""
    ctx.close_stream()
    await asyncio.sleep(0.1)
    return "finished after the stream was closed"


SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}, {"required": ["name"]}, True]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": True,
    "additionalProperties": False,
}


@server.tool(input_schema=SCHEMA_2020_12)
async def json_schema_2020_12_tool(**arguments: Any) -> str:
    """Has a schema with everything in it."""
    return f"called with {sorted(arguments)}"


@server.tool
async def test_missing_capability(ctx: Context) -> str:
    """Needs a client that can sample."""
    if "sampling" not in ctx.client_capabilities:
        data = {"requiredCapabilities": {"sampling": {}}}
        raise RpcError(spec.MISSING_CLIENT_CAPABILITY, "Missing client capability", data)
    return "the client can sample"


@server.tool
async def test_streaming_elicitation(ctx: Context) -> str:
    """Asks for input."""
    return str(await ctx.elicit("Your name?", NAME_FORM))


@server.tool
async def test_trigger_tool_change() -> str:
    """Tells listeners that the tools have changed."""
    server.tools_changed()
    return "told"


@server.tool
async def test_trigger_prompt_change() -> str:
    """Tells listeners that the prompts have changed."""
    server.prompts_changed()
    return "told"


@server.tool
async def test_x_mcp_header(region: Annotated[str, {"x-mcp-header": "Region"}] = "") -> str:
    """Has an argument that is a header too."""
    return f"region {region!r}"


# --- input_required ------------------------------------------------------------------------------


@server.tool
async def test_input_required_result_elicitation(ctx: Context) -> str:
    """Asks for a name."""
    answer = await ctx.elicit("Your name?", NAME_FORM, key="user_name")
    return f"hello {answer.get('content', {}).get('name')}"


@server.tool
async def test_input_required_result_sampling(ctx: Context) -> str:
    """Asks the client's model."""
    return str((await ctx.sample("What is the capital of France?", max_tokens=50, key="capital_question"))["content"])


@server.tool
async def test_input_required_result_list_roots(ctx: Context) -> str:
    """Asks for the client's roots."""
    return f"{len(await ctx.roots(key='client_roots'))} roots"


@server.tool
async def test_input_required_result_request_state(ctx: Context) -> str:
    """Asks, and remembers nothing."""
    return str(await ctx.elicit("Sure?", CONFIRM_FORM, key="confirm"))


@server.tool
async def test_input_required_result_multiple_inputs(ctx: Context) -> str:
    """Asks for three things at once."""
    questions = {
        "user_name": elicitation("Your name?", NAME_FORM),
        "greeting": sampling("Write a greeting", max_tokens=50),
        "client_roots": ROOTS,
    }
    return str(sorted(await ctx.ask(questions)))


@server.tool
async def test_input_required_result_multi_round(ctx: Context) -> str:
    """Asks twice."""
    first = await ctx.elicit("Your name?", NAME_FORM, key="step1")
    second = await ctx.elicit("Your favourite colour?", {"type": "object", "properties": {}}, key="step2")
    return f"{first} {second}"


@server.tool
async def test_input_required_result_tampered_state(ctx: Context) -> str:
    """Asks, with a state that must come back as it was."""
    return str(await ctx.elicit("Sure?", CONFIRM_FORM, key="confirm"))


@server.tool
async def test_input_required_result_capabilities(ctx: Context) -> str:
    """Asks for what this client can do."""
    possible = {
        "elicitation": ("name", elicitation("Your name?", NAME_FORM)),
        "sampling": ("greeting", sampling("Write a greeting", max_tokens=50)),
        "roots": ("client_roots", ROOTS),
    }
    return str(await ctx.ask(dict(possible[name] for name in possible if name in ctx.client_capabilities)))


# --- resources, prompts, completion --------------------------------------------------------------


@server.resource("test://static-text", mime_type="text/plain")
async def static_text() -> str:
    """A text."""
    return "a static text"


@server.resource("test://static-binary", mime_type="image/png")
async def static_binary() -> bytes:
    """An image."""
    return PNG


@server.resource("test://watched-resource", mime_type="text/plain")
async def watched_resource() -> str:
    """Can be subscribed to."""
    return "watch me"


@server.resource("test://template/{id}/data", mime_type="application/json")
async def template(id: str) -> dict:
    """Data by id."""
    return {"id": id}


@server.prompt
async def test_simple_prompt() -> str:
    """One message."""
    return "a simple prompt"


@server.prompt
async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Repeats its arguments."""
    return f"{arg1} and {arg2}"


@server.prompt
async def test_prompt_with_embedded_resource(resourceUri: str) -> list:
    """Holds a resource."""
    return [embedded(resourceUri, "inside", "text/plain"), "please look at it"]


@server.prompt
async def test_prompt_with_image() -> list:
    """Holds an image."""
    return [image(PNG, "image/png"), "please look at it"]


@server.prompt
async def test_input_required_result_prompt(ctx: Context) -> str:
    """Asks before it answers."""
    form = {"type": "object", "properties": {"context": {"type": "string"}}}
    return str(await ctx.elicit("In what context?", form, key="user_context"))


@server.completion
async def complete(ref: dict, argument: dict, context: dict) -> list[str]:
    return [word for word in ("paris", "park", "party") if word.startswith(argument["value"])]


async def main(port: int) -> None:
    async with serve_http(server, port=port) as http:
        print(http.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
