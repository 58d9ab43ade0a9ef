"""API keys, bearer tokens and JSON Web Tokens: what is let in, and above all what is not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from mcp_min import Context, Server, serve_http, spec
from mcp_min.extras import auth as auth_module
from mcp_min.extras.auth import JWKS_LIFETIME, JWKS_PAUSE, MAX_TOKEN, Auth, Jwt
from mcp_min.guards import Grant, Refused
from mcp_min.http_client import HttpClient
from mcp_min.http_server import HttpServer

# Three primes of 1,024 bits, published here and so good for tests only; two keys share one of them.
P = int(
    "e8e377699cbd34ccb242fe73636fb9160a28a1004c20202f4c216605055f770ad42ee8bd5c3250238c428bbde5824e43"
    "f29ba5373d7df2415180256c9f526b3e14aeeb1e4d691d7f6c0b33c888993e20ca59c45ee6362e1cc39b725fbdbbfe29"
    "455330702d4b81c437517e08086c102c90d2b187f2893053604efbec0cbc09db",
    16,
)
Q = int(
    "d6036881781bbef0cd728d10877531ffcdfe0899a4e2a8a2dd8e3f111dd112f1068a1af19bd2213a21350de64254b65f"
    "eefc0974efbda2fb1a0f71e84900a8055a01daeb2554d8a1fbae1aec22302cec851b46a97b42e270044ba6411f78986d"
    "8aadede4541f3873482a007e706b0e8a0b4fd3a6aa763158d2448a283a5204ad",
    16,
)
R = int(
    "c8d4cba3cd621fb548deaa4f0a276adf86903af490f8235760cf0e20b6a474ecdf2aa64ce47c59a63914af65813c3fd8"
    "f7b5686a768fb418c6af1ce532e165ba8dc64ef65ff8513f241d56dade5fff54ecb4e0b0ea4296201a0434e545490a69"
    "b919e6c1dc1ef1ef7cbe168c3c4904af418ec1027bd56454b4049fba0921e7cd",
    16,
)
E = 65537
NOW = 1_800_000_000.0
ISSUER = "https://login.example"
AUDIENCE = "https://api.example/mcp"
SECRET = b"0123456789abcdef0123456789abcdef"
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 300}
INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_key(p: int, q: int, **more: str) -> dict[str, str]:
    return {"kty": "RSA", "n": number(p * q), "e": number(E), **more}


RSA = rsa_key(P, Q, kid="one")
OTHER_RSA = rsa_key(P, R, kid="two")
OCT = {"kty": "oct", "k": b64(SECRET), "kid": "one"}


def encoded(digest: bytes, size: int = 256) -> bytes:
    """The message that RS256 signs (RFC 8017 section 9.2)."""
    return b"\0\1" + b"\xff" * (size - 3 - len(INFO) - len(digest)) + b"\0" + INFO + digest


def rsa_private(message: bytes, p: int = P, q: int = Q) -> bytes:
    return pow(int.from_bytes(message, "big"), pow(E, -1, (p - 1) * (q - 1)), p * q).to_bytes(256, "big")


def sign(alg: str, data: bytes, secret: bytes = SECRET, p: int = P, q: int = Q) -> bytes:
    if alg == "HS256":
        return hmac.digest(secret, data, "sha256")
    return rsa_private(encoded(hashlib.sha256(data).digest()), p, q)


def part(value: Any) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


def make(alg: str = "HS256", claims: Any = CLAIMS, header: Mapping[str, Any] | None = None, **key: Any) -> str:
    signed = f"{part({'alg': alg, 'kid': 'one', **(header or {})})}.{part(claims)}"
    return f"{signed}.{b64(sign(alg, signed.encode(), **key))}"


def jwt(*keys: Mapping[str, Any], **options: Any) -> Jwt:
    return Jwt(issuer=ISSUER, audience=AUDIENCE, keys=keys, now=lambda: NOW, **options)


async def status_of(auth: Auth, **headers: str) -> tuple[int, str]:
    """The status and the challenge of a refusal."""
    with pytest.raises(Refused) as refused:
        await auth.authenticate({name.replace("_", "-"): value for name, value in headers.items()})
    assert refused.value.headers is not None
    return refused.value.status, refused.value.headers["WWW-Authenticate"]


# --- API keys ------------------------------------------------------------------------------------

KEYS = Auth(api_keys={"first-key": "alice", "second-key": "bob"})


@pytest.mark.parametrize(("key", "principal"), [("first-key", "alice"), ("second-key", "bob")])
async def test_a_known_key_is_its_principal(key, principal):
    assert await KEYS.authenticate({"x-api-key": key}) == Grant(principal, None)


@pytest.mark.parametrize("key", ["", "first-ke", "first-keyy", "FIRST-KEY", "alice", "first-key,second-key", "\udce9"])
async def test_an_unknown_key_is_refused(key):
    assert await status_of(KEYS, x_api_key=key) == (401, 'Bearer realm="mcp", error="invalid_token"')


async def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch):
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr(auth_module.hmac, "compare_digest", compare)
    await KEYS.authenticate({"x-api-key": "first-key"})
    assert compared == [(32, 32), (32, 32)]


def test_an_empty_key_cannot_be_configured():
    with pytest.raises(ValueError, match="empty"):
        Auth(api_keys={"": "everybody"})


# --- bearer tokens by a function -----------------------------------------------------------------


async def verify_later(token: str) -> Grant | None:
    return Grant("later") if token == "good" else None


VERIFIERS = [lambda token: Grant("now") if token == "good" else None, verify_later]


@pytest.mark.parametrize("verify", VERIFIERS, ids=["def", "async def"])
async def test_verify_may_be_def_or_async(verify):
    auth = Auth(verify=verify)
    for header in ("Bearer good", "bearer good", "BEARER   good "):
        assert (await auth.authenticate({"authorization": header})).principal in ("now", "later")
    assert (await status_of(auth, authorization="Bearer bad"))[0] == 401


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (Auth(verify=verify_later), {}),
        (Auth(verify=verify_later), {"authorization": "Basic good"}),
        (Auth(verify=verify_later), {"authorization": "good"}),
        (Auth(verify=verify_later), {"x_api_key": "good"}),
        (KEYS, {"authorization": "Bearer first-key"}),
        (Auth(), {"x_api_key": "", "authorization": "Bearer "}),
    ],
)
async def test_without_credentials_of_a_known_kind_authentication_is_asked_for(auth, headers):
    # RFC 6750 section 3.1: SHOULD NOT tell an error to who has sent no authentication.
    assert await status_of(auth, **headers) == (401, 'Bearer realm="mcp"')


async def test_a_key_header_does_not_hide_a_token_where_there_are_no_keys():
    headers = {"x-api-key": "for the gateway", "authorization": "Bearer good"}
    assert await Auth(verify=verify_later).authenticate(headers) == Grant("later")


@pytest.mark.parametrize("answer", [True, "alice", {"sub": "alice"}])
async def test_verify_must_return_a_grant(answer):
    with pytest.raises(TypeError, match="must return a Grant or None, not"):
        await Auth(verify=lambda token: answer).authenticate({"authorization": "Bearer x"})


async def test_huge_tokens_are_not_even_verified():
    seen = []
    auth = Auth(verify=lambda token: seen.append(token))
    assert (await status_of(auth, authorization="Bearer " + "a" * (MAX_TOKEN + 1)))[0] == 401
    assert seen == []
    await status_of(auth, authorization="Bearer " + "a" * MAX_TOKEN)
    assert len(seen) == 1


# --- scopes and metadata -------------------------------------------------------------------------


async def test_scopes_that_every_request_needs():
    grants = {"none": Grant("a", frozenset()), "all": Grant("a", frozenset("rwx")), "unused": Grant("a", None)}
    auth = Auth(verify=grants.get, scopes=["w", "r"])
    assert await status_of(auth) == (401, 'Bearer realm="mcp", scope="r w"')
    assert await status_of(auth, authorization="Bearer none") == (
        403,
        'Bearer realm="mcp", error="insufficient_scope", scope="r w"',
    )
    assert await auth.authenticate({"authorization": "Bearer all"}) is grants["all"]
    assert await auth.authenticate({"authorization": "Bearer unused"}) is grants["unused"]


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        ("https://api.example/mcp", "https://api.example/.well-known/oauth-protected-resource/mcp"),
        ("https://api.example/", "https://api.example/.well-known/oauth-protected-resource"),
        ("http://localhost:8000", "http://localhost:8000/.well-known/oauth-protected-resource"),
    ],
)
async def test_the_challenge_tells_where_the_metadata_is(resource, where):
    auth = Auth(resource=resource, authorization_servers=[ISSUER], scopes=["r"])
    assert auth.metadata == {
        "resource": resource,
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["r"],
    }
    assert (await status_of(auth))[1] == f'Bearer realm="mcp", scope="r", resource_metadata="{where}"'


@pytest.mark.parametrize("resource", ["/mcp", "api.example/mcp", "https:///mcp", "https://api.example/mcp#a"])
def test_a_resource_is_a_whole_url(resource):
    with pytest.raises(ValueError, match="whole URL"):
        Auth(resource=resource, authorization_servers=[ISSUER])


def test_a_resource_needs_an_authorization_server():
    with pytest.raises(ValueError, match="authorization_servers"):
        Auth(resource=AUDIENCE)


# --- over HTTP -----------------------------------------------------------------------------------

META = {
    spec.PROTOCOL_VERSION: "2026-07-28",
    spec.CLIENT_CAPABILITIES: {},
    spec.CLIENT_INFO: {"name": "t", "version": "1"},
}


def guarded_server() -> Server:
    server = Server("guarded", version="1")

    @server.tool
    async def whoami(ctx: Context) -> str:
        return str(ctx.principal)

    @server.tool(scopes=("write",))
    async def wipe() -> str:
        return "wiped"

    return server


@contextlib.asynccontextmanager
async def serving(auth: Auth) -> AsyncIterator[Any]:
    client = HttpClient()
    async with serve_http(guarded_server(), port=0, auth=auth) as http:

        async def send(method: str, message: Any, path: str = "", **headers: str) -> tuple[int, dict[str, str], Any]:
            wanted = {name.replace("_", "-"): value for name, value in headers.items()}
            wanted |= {"accept": "application/json, text/event-stream", "content-type": "application/json"}
            url = http.url if not path else http.url.removesuffix("/mcp") + path
            body = None if message is None else json.dumps(message).encode()
            response = await client.request(method, url, wanted, body)
            data = await response.read()
            return response.status, response.headers, json.loads(data) if data else None

        try:
            yield send
        finally:
            client.close()


async def call(send: Any, tool: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    params = {"name": tool, "arguments": {}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    repeated = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": tool}
    return await send("POST", message, **repeated, **headers)


async def test_the_principal_reaches_the_handler():
    async with serving(KEYS) as send:
        status, _, answer = await call(send, "whoami", x_api_key="first-key")
        assert (status, answer["result"]["content"][0]["text"]) == (200, "alice")
        status, headers, answer = await call(send, "whoami")
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="mcp"')
        assert "result" not in answer


async def test_a_tool_that_needs_a_scope():
    grants = {"reader": Grant("r", frozenset({"use"})), "writer": Grant("w", frozenset({"use", "write"}))}
    async with serving(Auth(verify=grants.get, scopes=["use"])) as send:
        status, headers, _ = await call(send, "wipe", authorization="Bearer reader")
        # What the operation needs is what the server needs and what the tool needs.
        assert status == 403
        assert headers["www-authenticate"] == 'Bearer realm="mcp", error="insufficient_scope", scope="use write"'
        assert (await call(send, "whoami", authorization="Bearer reader"))[0] == 200
        status, _, answer = await call(send, "wipe", authorization="Bearer writer")
        assert (status, answer["result"]["content"][0]["text"]) == (200, "wiped")


async def test_the_metadata_needs_no_authentication():
    auth = Auth(api_keys={"key": "a"}, resource=AUDIENCE, authorization_servers=[ISSUER])
    async with serving(auth) as send:
        for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"):
            status, _, document = await send("GET", None, path)
            assert (status, document) == (200, auth.metadata)
        status, headers, _ = await send("GET", None, "/mcp")
        assert status == 401
        expected = 'resource_metadata="https://api.example/.well-known/oauth-protected-resource/mcp"'
        assert expected in headers["www-authenticate"]


async def test_a_session_belongs_to_its_principal():
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    async with serving(KEYS) as send:
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        _, headers, _ = await send("POST", message, x_api_key="first-key")
        named = {"mcp_session_id": headers["mcp-session-id"], "mcp_protocol_version": "2025-11-25"}
        assert (await send("POST", ping, **named, x_api_key="first-key"))[0] == 200
        assert (await send("POST", ping, **named, x_api_key="second-key"))[0] == 404


# --- tokens that are good ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "token"),
    [
        ([OCT], make("HS256")),
        ([RSA], make("RS256")),
        ([OTHER_RSA, RSA], make("RS256")),
        ([{**RSA, "alg": "RS256"}], make("RS256", header={"typ": "at+jwt"})),
        ([rsa_key(P, R), rsa_key(P, Q)], make("RS256")),  # without key ids, all of them are tried
        ([OTHER_RSA, RSA], make("RS256", header={"kid": None})),
        ([RSA, OCT], make("HS256")),
    ],
)
async def test_good_tokens(keys, token):
    assert await jwt(*keys)(token) == Grant("alice", frozenset())


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b  c"}, "abc"),
        ({"scope": ["a", "b"]}, "ab"),
        ({"scp": "a"}, "a"),
        ({"scp": ["a"], "scope": ""}, ""),
        ({"aud": ["https://other.example", AUDIENCE]}, ""),
        ({"exp": NOW - 59}, ""),  # within the leeway
        ({"exp": NOW + 0.5, "nbf": NOW + 60}, ""),
        ({"exp": 10**400, "nbf": -(10**400)}, ""),
    ],
)
async def test_good_claims(claims, scopes):
    assert await jwt(OCT)(make(claims=CLAIMS | claims)) == Grant("alice", frozenset(scopes))


# --- tokens that are not -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW - 60}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": float("nan")}, "expired"),
        ({"exp": float("inf")}, "never would"),
        ({"exp": str(NOW + 300)}, "exp is no number"),
        ({"exp": True}, "exp is no number"),
        ({"exp": None}, "exp is no number"),
        ({"exp": [NOW]}, "exp is no number"),
        ({"nbf": NOW + 61}, "not valid yet"),
        ({"nbf": float("nan")}, "not valid yet"),
        ({"nbf": "now"}, "nbf is no number"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "https://api.example"}, "audience"),
        ({"aud": AUDIENCE + "/other"}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"sub": None}, "subject"),
        ({"sub": 7}, "subject"),
        ({"scope": None}, "scope"),
        ({"scope": 5}, "scope"),
        ({"scope": ["a", 1]}, "scope"),
    ],
)
async def test_bad_claims(caplog, claims, reason):
    caplog.set_level("INFO", "mcp_min")
    assert await jwt(OCT)(make(claims=CLAIMS | claims)) is None
    assert reason in caplog.text


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "sub"])
async def test_claims_that_must_be_there(missing):
    assert await jwt(OCT)(make(claims={name: CLAIMS[name] for name in CLAIMS if name != missing})) is None


HEAD, BODY, SIGNATURE = make().split(".")


def resigned(head: str, body: str) -> str:
    return f"{head}.{body}.{b64(sign('HS256', f'{head}.{body}'.encode()))}"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "three parts"),
        ("a.b", "three parts"),
        ("..", "refused"),
        (HEAD, "three parts"),
        (f"{HEAD}.{BODY}", "refused"),
        (f"{HEAD}.{BODY}.", "signature is wrong"),
        (f"{HEAD}.{BODY}.{SIGNATURE}.x", "refused"),
        (f"{HEAD}.{BODY}.x.{SIGNATURE}", "signature is wrong"),
        (f"{HEAD}.{BODY}.{SIGNATURE}=", "base64url"),
        (f"{HEAD}.{BODY}.{SIGNATURE}\n", "base64url"),
        (f" {HEAD}.{BODY}.{SIGNATURE}", "base64url"),
        (f"{HEAD}==.{BODY}.{SIGNATURE}", "base64url"),
        (f"{HEAD}.é.{SIGNATURE}", "ascii"),
        (f"a.{BODY}.{SIGNATURE}", "refused"),  # no number of characters that base64 has
        (f"{HEAD}.{part(CLAIMS | {'sub': 'root'})}.{SIGNATURE}", "signature is wrong"),
        (f"{HEAD}.{BODY}.{b64(sign('HS256', f'{HEAD}.{BODY}'.encode())[:-1])}", "signature is wrong"),
        (f"{HEAD}.{BODY}.{b64(sign('HS256', f'{HEAD}.{BODY}'.encode(), b'x' * 32))}", "signature is wrong"),
        (resigned(HEAD, part([1])), "no object"),
        (resigned(HEAD, part(b"\xff\xfe{")), "refused"),
        (resigned(HEAD, part(b"{")), "refused"),
        (resigned(HEAD, part(b'{"exp": ' + b"1" * 5000 + b"}")), "refused"),
        (resigned(HEAD, part(b"[" * 200_000)), "refused"),
        (f"{part(b'[' * 200_000)}.{BODY}.{SIGNATURE}", "refused"),
        (f"{part([1])}.{BODY}.{SIGNATURE}", "no object"),
        (make(header={"crit": ["exp"]}), "critical"),
        (make(header={"crit": []}), "critical"),
        (make(header={"kid": "two"}), "no key"),
        (make(header={"kid": ["one"]}), "no key"),
        (make(header={"kid": {}}), "no key"),
        (make(header={"alg": "none"}), "no key"),
        (make(header={"alg": "None"}), "no key"),
        (make(header={"alg": None}), "no key"),
        (make(header={"alg": ["HS256"]}), "no key"),
        (make(header={"alg": "HS512"}), "no key"),
        (make(header={"alg": "hs256"}), "no key"),
        (f"{part({'alg': 'none'})}.{BODY}.", "no key"),
        (make("RS256"), "no key"),
    ],
)
async def test_bad_tokens(caplog, token, reason):
    caplog.set_level("INFO", "mcp_min")
    assert await jwt(OCT)(token) is None
    assert reason in caplog.text


@pytest.mark.parametrize(
    "secret",
    [(P * Q).to_bytes(256, "big"), RSA["n"].encode(), json.dumps(RSA).encode(), b""],
    ids=["modulus", "n", "whole key", "empty"],
)
async def test_a_public_key_is_no_secret(secret):
    """Algorithm confusion: what everybody knows must not be taken for the secret of HS256."""
    assert await jwt(RSA)(make("HS256", secret=secret)) is None


async def test_a_key_is_for_one_algorithm():
    assert await jwt({**RSA, "alg": "PS256"})(make("RS256")) is None
    assert await jwt({**OCT, "alg": "HS512"})(make("HS256")) is None


RS_HEAD, RS_BODY, _ = make("RS256").split(".")
DIGEST = hashlib.sha256(f"{RS_HEAD}.{RS_BODY}".encode()).digest()
GOOD = encoded(DIGEST)
FORGERIES = {
    "padding of other bytes": GOOD.replace(b"\xff", b"\xfe"),
    "one byte of padding differs": GOOD[:9] + b"\0" + GOOD[10:],
    "short padding, garbage at the end": encoded(DIGEST, 100) + b"x" * 156,
    "garbage in the middle": b"\0\1" + b"\xff" * 8 + b"\0" + b"x" * 194 + INFO + DIGEST,
    "for encryption": b"\0\2" + GOOD[2:],
    "without the algorithm": b"\0\1" + b"\xff" * 221 + b"\0" + DIGEST,
    "algorithm without its NULL": b"\0\1"
    + b"\xff" * 204
    + b"\0"
    + bytes.fromhex("302f300b06096086480165030402010420")
    + DIGEST,
    "another digest": encoded(hashlib.sha256(b"other").digest()),
    "sha1": b"\0\1" + b"\xff" * 218 + b"\0" + bytes.fromhex("3021300906052b0e03021a05000414") + DIGEST[:20],
}


@pytest.mark.parametrize("message", FORGERIES.values(), ids=FORGERIES)
async def test_forged_paddings(message):
    assert len(message) == 256
    forged = b64(rsa_private(message))
    assert await jwt(RSA)(f"{RS_HEAD}.{RS_BODY}.{b64(rsa_private(GOOD))}") is not None
    assert await jwt(RSA)(f"{RS_HEAD}.{RS_BODY}.{forged}") is None


RIGHT = rsa_private(GOOD)
BAD_SIGNATURES = {
    "empty": b"",
    "one byte shorter": RIGHT[:-1],
    "without its first byte": RIGHT[1:],
    "one byte longer": RIGHT + b"\0",
    "a zero before": b"\0" + RIGHT,
    "zero": bytes(256),
    "one": bytes(255) + b"\1",
    "the modulus": (P * Q).to_bytes(256, "big"),
    "beyond the modulus": b"\xff" * 256,
    "not signed at all": GOOD,
    "by another key": rsa_private(GOOD, P, R),
}


@pytest.mark.parametrize("signature", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
async def test_bad_rsa_signatures(signature):
    assert await jwt(RSA)(f"{RS_HEAD}.{RS_BODY}.{b64(signature)}") is None


async def test_a_signature_plus_the_modulus_is_another_signature():
    small = next(f"{RS_HEAD}.{part(CLAIMS | {'jti': count})}" for count in range(200) if fits(count))
    signature = int.from_bytes(sign("RS256", small.encode()), "big")
    assert await jwt(RSA)(f"{small}.{b64(signature.to_bytes(256, 'big'))}") is not None
    assert await jwt(RSA)(f"{small}.{b64((signature + P * Q).to_bytes(256, 'big'))}") is None


def fits(count: int) -> bool:
    data = f"{RS_HEAD}.{part(CLAIMS | {'jti': count})}".encode()
    return int.from_bytes(sign("RS256", data), "big") + P * Q < 2**2048


# --- keys ----------------------------------------------------------------------------------------

BAD_KEYS = [
    ({"kty": "oct", "k": b64(SECRET[:-1])}, "32 bytes"),
    ({"kty": "oct", "k": ""}, "32 bytes"),
    ({"kty": "oct"}, "base64url"),
    ({"kty": "oct", "k": "no good"}, "base64url"),
    ({"kty": "RSA", "n": number(2**2046 + 1), "e": number(E)}, "2048 bits"),
    ({"kty": "RSA", "n": number(P * Q), "e": number(1)}, "odd exponent"),
    ({"kty": "RSA", "n": number(P * Q), "e": number(4)}, "odd exponent"),
    ({"kty": "RSA", "n": number(P * Q), "e": ""}, "odd exponent"),
    ({"kty": "RSA", "n": number(P * Q)}, "base64url"),
    ({"kty": "RSA", "n": 5, "e": number(E)}, "base64url"),
    ({"kty": "EC", "crv": "P-256"}, "'EC'"),
    ({}, "None"),
]


@pytest.mark.parametrize(("key", "reason"), BAD_KEYS)
def test_keys_that_are_not_fit_for_use(key, reason):
    with pytest.raises(ValueError, match=reason):
        jwt(key)


@pytest.mark.parametrize("options", [{}, {"keys": [OCT], "jwks_url": "https://login.example/keys"}])
def test_keys_come_from_one_place(options):
    with pytest.raises(ValueError, match="jwks_url"):
        Jwt(issuer=ISSUER, audience=AUDIENCE, **options)


class Issuer:
    """An HTTP server with a key set, a clock, and the Jwt that asks it."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {"keys": [RSA]}
        self.fetches = 0
        self.now = NOW
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.http = HttpServer(self.answer, lambda status, message: message.encode())

    async def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        self.fetches += 1
        self.asked.set()
        await self.release.wait()
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return self.status, {"Content-Type": "application/json"}, body


@pytest.fixture
async def issuer():
    issuer = Issuer()
    await issuer.http.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{issuer.http.port}/keys"
    issuer.jwt = Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_url=url, now=lambda: issuer.now)
    yield issuer
    await issuer.http.close(1)


ONE = make("RS256", CLAIMS | {"exp": NOW + 10**6})
TWO = make("RS256", CLAIMS | {"exp": NOW + 10**6}, {"kid": "two"}, q=R)


async def test_fetched_keys_are_kept_for_their_lifetime(issuer):
    for later in (0, 1, JWKS_LIFETIME):
        issuer.now = NOW + later
        assert await issuer.jwt(ONE) is not None
    assert issuer.fetches == 1
    issuer.now += 1
    issuer.body = {"keys": [OTHER_RSA]}
    assert await issuer.jwt(ONE) is None  # withdrawn
    assert await issuer.jwt(TWO) is not None
    assert issuer.fetches == 2


async def test_a_new_key_is_fetched_once_and_made_up_ones_make_no_traffic(issuer):
    assert await issuer.jwt(ONE) is not None
    issuer.body = {"keys": [RSA, OTHER_RSA]}
    issuer.now += JWKS_PAUSE
    assert await issuer.jwt(TWO) is None  # too soon
    issuer.now += 1
    assert await issuer.jwt(TWO) is not None
    assert await issuer.jwt(TWO) is not None
    assert issuer.fetches == 2
    for number in range(20):
        assert await issuer.jwt(make("RS256", header={"kid": f"made-up-{number}"})) is None
    assert issuer.fetches == 2
    assert await issuer.jwt(ONE) is not None


async def test_tokens_that_come_together_wait_for_one_fetch(issuer):
    issuer.release.clear()
    calls = [asyncio.ensure_future(issuer.jwt(ONE)) for _ in range(5)]
    await issuer.asked.wait()
    issuer.release.set()
    assert None not in await asyncio.gather(*calls)
    assert issuer.fetches == 1


async def test_keys_that_cannot_be_renewed_are_not_used_beyond_their_lifetime(issuer):
    assert await issuer.jwt(ONE) is not None
    issuer.status = 503
    issuer.now += JWKS_LIFETIME + 1
    assert await issuer.jwt(ONE) is None
    assert await issuer.jwt(ONE) is None  # nor between two attempts
    assert issuer.fetches == 2
    issuer.status = 200
    issuer.now += JWKS_PAUSE + 1
    assert await issuer.jwt(ONE) is not None


async def test_a_failed_fetch_does_not_end_keys_that_are_still_good(issuer):
    assert await issuer.jwt(ONE) is not None
    issuer.body = b"gone"
    issuer.now += JWKS_PAUSE + 1
    assert await issuer.jwt(TWO) is None
    assert issuer.fetches == 2
    assert await issuer.jwt(ONE) is not None


UNUSED = [{"kty": "EC"}, {}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {**RSA, "use": "enc"}, OCT]


async def test_keys_of_the_set_that_are_not_fit_for_use_are_passed_over(issuer):
    issuer.body = {"keys": [*UNUSED, RSA]}
    assert await issuer.jwt(ONE) is not None
    assert await issuer.jwt(make("HS256")) is None  # a key that is published is no secret
    assert len(issuer.jwt._good_keys) == 1


BROKEN = [
    b"",
    b"<html>",
    b"\xff",
    b"[" * 200_000,
    [],
    {},
    {"keys": None},
    {"keys": [1]},
    {"keys": {}},
    json.dumps({"keys": [RSA]}).encode() + b" " * 2**20,
]


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
async def test_broken_key_sets(issuer, body):
    issuer.body = body
    assert await issuer.jwt(ONE) is None
    issuer.body = {"keys": [RSA]}
    issuer.now += JWKS_PAUSE + 1
    assert await issuer.jwt(ONE) is not None


@pytest.mark.parametrize("status", [204, 401, 404, 500])
async def test_statuses_that_are_no_key_set(issuer, status):
    issuer.status = status
    assert await issuer.jwt(ONE) is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/keys", "http://nowhere.invalid/", "ftp://x/", "https://127.0.0.1:{port}/"]
)
async def test_an_issuer_that_cannot_be_reached(issuer, url):
    port = issuer.http.port
    if url.startswith("http:"):
        await issuer.http.close(1)
    token = Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_url=url.format(port=port), now=lambda: NOW)
    assert await token(ONE) is None


async def test_a_token_over_http_is_its_subject(issuer):
    async with serving(Auth(verify=issuer.jwt)) as send:
        status, _, answer = await call(send, "whoami", authorization=f"Bearer {ONE}")
        assert (status, answer["result"]["content"][0]["text"]) == (200, "alice")
        status, headers, _ = await call(send, "whoami", authorization=f"Bearer {ONE[:-9]}")
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="mcp", error="invalid_token"')
