"""Who may call an HTTP server: API keys, bearer tokens, JSON Web Tokens.

`streamable_http.py` asks an `Auth` who sent a request; this file has the answers. An API key is
looked up, a bearer token is given to a function: yours, or a `Jwt`, which checks a signed token with
nothing but the standard library. Verification needs public data and `pow` only.

    auth = Auth(api_keys={os.environ["KEY"]: "alice"})
    auth = Auth(verify=Jwt(jwks_url="https://login.example/keys", issuer="https://login.example",
                           audience="https://api.example/mcp"),
                resource="https://api.example/mcp", authorization_servers=["https://login.example"])

Spec: 2026-07-28 basic/authorization; RFC 6750 (bearer tokens), RFC 7515 to 7519 (JWT), RFC 8017
      section 8.2.2 (RS256), RFC 9728 (the metadata document).
Wire: ← 401, WWW-Authenticate: Bearer realm="mcp", resource_metadata="https://api.example/.well-known/…"

Deliberately absent: issuing tokens, passwords, and algorithms that need more than this: give `verify`
a function that calls the library of your choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import inspect
import json
import logging
import math
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..guards import Grant, Refused
from ..http_client import HttpClient

logger = logging.getLogger("mcp_min")

LEEWAY = 60.0  # seconds that two clocks may differ
JWKS_LIFETIME = 600.0  # seconds that fetched keys are used
JWKS_PAUSE = 10.0  # seconds between two fetches, so that made-up key ids make no traffic
MIN_RSA_BITS = 2048  # MUST be 2048 bits or larger (RFC 7518 section 3.3)
MAX_TOKEN = 16 * 2**10  # characters

Verify = Callable[[str], Any]  # token -> Grant, or None for a token that is not good; `def` or `async def`


class Auth:
    """Makes the sender of a request known, or refuses it.

    api_keys: key -> principal, taken from `X-API-Key`. verify: takes the bearer token, returns a Grant or
    None. scopes: what every request needs. resource: this server's URL as clients know it; with
    authorization_servers it makes the RFC 9728 document, which is served without authentication.
    Raises ValueError for an empty key, and for a resource without an authorization server.
    """

    def __init__(
        self,
        *,
        api_keys: Mapping[str, str] | None = None,
        verify: Verify | None = None,
        scopes: Iterable[str] = (),
        resource: str | None = None,
        authorization_servers: Sequence[str] = (),
    ) -> None:
        if api_keys and "" in api_keys:  # as from a variable that is not set
            raise ValueError("an API key is empty, so that anybody could guess it")
        # Digests have one length, so that comparing them tells nothing of a key's.
        self._api_keys = {_digest(key): principal for key, principal in (api_keys or {}).items()}
        self._verify = verify
        self._scopes = frozenset(scopes)
        self.metadata: dict[str, Any] | None = None
        self._metadata_url = ""
        if resource is not None:
            where = urlsplit(resource)
            # MUST be an absolute URL without a fragment (RFC 9728 section 1.2), and MUST come with who gives out
            # tokens for it (basic/authorization#authorization-server-location).
            if not (where.scheme and where.netloc and authorization_servers) or where.fragment:
                raise ValueError(f"resource={resource!r}: give this server's whole URL, and its authorization_servers")
            self.metadata = {"resource": resource, "authorization_servers": list(authorization_servers)}
            self.metadata |= {"bearer_methods_supported": ["header"]}
            if self._scopes:  # the least that is needed (basic/authorization#scope-selection-strategy)
                self.metadata["scopes_supported"] = sorted(self._scopes)
            self._metadata_url = urljoin(resource, "/.well-known/oauth-protected-resource" + where.path.rstrip("/"))

    async def authenticate(self, headers: Mapping[str, str]) -> Grant:
        """Return who sent these headers. Raises Refused 401 for nobody known, 403 for a lack of scopes."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self._api_keys and "x-api-key" in headers:
            given = _digest(headers["x-api-key"])
            # All of them: time must not tell which one is near.
            found = [Grant(name) for known, name in self._api_keys.items() if hmac.compare_digest(given, known)]
            grant = found[0] if found else None
        elif scheme.lower() == "bearer" and self._verify is not None:
            grant = self._verify(token.strip()) if len(token) <= MAX_TOKEN else None
            grant = await grant if inspect.isawaitable(grant) else grant
            if grant is not None and not isinstance(grant, Grant):
                raise TypeError(f"verify must return a Grant or None, not {type(grant).__name__}")
        else:
            raise Refused(401, "authentication is needed (option auth)", self._challenge())
        if grant is None:
            raise Refused(401, "the credentials are not valid", self._challenge("invalid_token"))
        if grant.scopes is not None and not self._scopes <= grant.scopes:
            raise Refused(403, f"the scopes {sorted(self._scopes)} are needed", self.insufficient([]))
        return grant

    def insufficient(self, scopes: list[str]) -> Mapping[str, str]:
        """Return the header that names the scopes a request needs besides the server's (RFC 6750 section 3.1)."""
        return self._challenge("insufficient_scope", scopes)

    def _challenge(self, error: str = "", scopes: Iterable[str] = ()) -> dict[str, str]:
        needed = " ".join(sorted(self._scopes.union(scopes)))
        # MUST tell where the metadata is (basic/authorization#authorization-server-location).
        parts = {"realm": "mcp", "error": error, "scope": needed, "resource_metadata": self._metadata_url}
        challenge = ", ".join(f'{name}="{value}"' for name, value in parts.items() if value)
        return {"WWW-Authenticate": f"Bearer {challenge}"}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


# --- JSON Web Tokens -----------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)  # a key may be a secret, which no log should show
class Jwt:
    """Checks tokens: `verify=Jwt(…)`. A token that is not good gives None, and the reason is logged.

    keys: JSON Web Keys, of type "RSA" for RS256 or "oct" for HS256; or jwks_url, from which they are
    fetched, kept for JWKS_LIFETIME and fetched anew for a key id that is not among them. issuer,
    audience: what `iss` must be and `aud` must contain; the audience is this server's own URL.
    """

    issuer: str
    audience: str
    keys: Iterable[Mapping[str, Any]] | None = None
    jwks_url: str | None = None
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if (self.keys is None) == (self.jwks_url is None):
            raise ValueError("give keys, or the jwks_url to fetch them from")
        self._good_keys = [_checked_key(key) for key in self.keys or ()]
        self._fetched_at = self._tried_at = -math.inf
        self._fetching = asyncio.Lock()

    async def __call__(self, token: str) -> Grant | None:
        try:
            return self._check_claims(await self._check_signature(token))
        except (ValueError, RecursionError, OSError) as error:
            logger.info("a token was refused: %s", error)
            return None

    async def _check_signature(self, token: str) -> dict[str, Any]:
        signed, _, signature = token.rpartition(".")
        encoded_header, dot, encoded_claims = signed.partition(".")
        if not dot:
            raise ValueError("it has not three parts")
        header = _object(_bytes(encoded_header))
        if "crit" in header:  # MUST be understood (RFC 7515 section 4.1.11), and none is here
            raise ValueError("its header has critical extensions")
        keys = await self._find_keys(header.get("kid"), header.get("alg"))
        if not any(_ALGORITHMS[key["kty"]][1](key, signed.encode("ascii"), _bytes(signature)) for key in keys):
            raise ValueError("its signature is wrong")
        return _object(_bytes(encoded_claims))

    async def _find_keys(self, kid: Any, alg: Any) -> list[Mapping[str, Any]]:
        found = self._matching(kid, alg)
        if not found and self.jwks_url is not None:  # they are old, or the issuer may have a new one
            async with self._fetching:  # who comes meanwhile waits for the same answer
                if self.now() - self._tried_at > JWKS_PAUSE:
                    await self._fetch(self.jwks_url)
            found = self._matching(kid, alg)
        if not found:
            raise ValueError(f"no key {kid!r:.100} for the algorithm {alg!r:.20}")
        return found

    def _matching(self, kid: Any, alg: Any) -> list[Mapping[str, Any]]:
        if self.jwks_url is not None and self.now() - self._fetched_at > JWKS_LIFETIME:
            return []  # one of them may have been withdrawn
        # The key says which algorithm it is for, never the token: "none" has no key, and an RSA key is no secret.
        keys = [key for key in self._good_keys if _ALGORITHMS[key["kty"]][0] == alg == key.get("alg", alg)]
        return [key for key in keys if kid is None or key.get("kid", kid) == kid]

    async def _fetch(self, url: str) -> None:
        self._tried_at = self.now()
        with contextlib.closing(HttpClient(max_body=2**20)) as client:
            response = await client.request("GET", url, {"accept": "application/json"})
            body = await response.read()
        if response.status != 200:
            raise ValueError(f"{url} answered {response.status}")
        keys = _object(body).get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise ValueError(f"{url} holds no key set")
        self._fetched_at, self._good_keys = self.now(), []
        # A fetched key is public: one of type "oct" would be a secret that everybody knows.
        for key in (key for key in keys if key.get("kty") == "RSA" and key.get("use", "sig") == "sig"):
            # SHOULD ignore keys that are not fit for use (RFC 7517 section 5).
            with contextlib.suppress(ValueError):
                self._good_keys.append(_checked_key(key))

    def _check_claims(self, claims: dict[str, Any]) -> Grant:
        now = self.now()
        for name in ("exp", "nbf"):
            if type(claims.get(name, now)) not in (int, float):
                raise ValueError(f"its {name} is no number")
        # Asked for what is good, so that NaN is not.
        if not now - LEEWAY < claims.get("exp", math.inf) < math.inf:
            raise ValueError("it has expired, or never would")
        if not claims.get("nbf", now) <= now + LEEWAY:
            raise ValueError("it is not valid yet")
        if claims.get("iss") != self.issuer:
            raise ValueError(f"its issuer is {claims.get('iss')!r:.100}")
        audience = claims.get("aud")
        # MUST accept only tokens meant for this server (basic/authorization#token-handling).
        if self.audience not in (audience if isinstance(audience, list) else [audience]):
            raise ValueError(f"its audience is {audience!r:.100}")
        if not isinstance(claims.get("sub"), str):
            raise ValueError("it names no subject")
        scopes = claims.get("scope", claims.get("scp", []))
        scopes = scopes.split() if isinstance(scopes, str) else scopes
        if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
            raise ValueError("its scope is neither text nor a list of texts")
        return Grant(claims["sub"], frozenset(scopes))


_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2, note 1


def _verify_hs256(key: Mapping[str, Any], signed: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(_bytes(key["k"]), signed, hashlib.sha256), signature)


def _verify_rs256(key: Mapping[str, Any], signed: bytes, signature: bytes) -> bool:
    modulus, exponent = (int.from_bytes(_bytes(key[name]), "big") for name in ("n", "e"))
    size = (modulus.bit_length() + 7) // 8
    if len(signature) != size or int.from_bytes(signature, "big") >= modulus:
        return False
    # The whole encoded message is made and compared: reading fields out of it has let forgeries through.
    end = b"\0" + _SHA256_INFO + hashlib.sha256(signed).digest()
    expected = b"\0\1" + b"\xff" * (size - 2 - len(end)) + end
    return pow(int.from_bytes(signature, "big"), exponent, modulus).to_bytes(size, "big") == expected


_ALGORITHMS = {"RSA": ("RS256", _verify_rs256), "oct": ("HS256", _verify_hs256)}


def _checked_key(key: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a key that is fit for use. Raises ValueError."""
    if key.get("kty") == "oct":
        if len(_bytes(key.get("k"))) < 32:  # MUST be as long as the hash (RFC 7518 section 3.2)
            raise ValueError("an HS256 key needs 32 bytes or more")
    elif key.get("kty") == "RSA":
        modulus, exponent = (int.from_bytes(_bytes(key.get(name)), "big") for name in ("n", "e"))
        if modulus.bit_length() < MIN_RSA_BITS or exponent < 3 or exponent % 2 == 0:
            raise ValueError(f"an RSA key needs {MIN_RSA_BITS} bits or more and an odd exponent")
    else:
        raise ValueError(f"a key is of type RSA or oct, not {key.get('kty')!r:.20}")
    return key


_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise ValueError("it holds something that is not base64url")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it holds something that is no object")
    return value
