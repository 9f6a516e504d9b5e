"""Answers to HTTP and RTSP log-in challenges: Basic (RFC 7617) and Digest (RFC 7616, and RFC 2617 before it). Pure."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda text: hashlib.md5(text, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda text: hashlib.sha256(text).hexdigest(),
}
_PARAMETER = re.compile(r'([a-zA-Z][\w-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True)
class Challenge:
    """One `WWW-Authenticate` header.

    Attributes:
        scheme: `basic` or `digest`, or what else was asked for, in small letters.
        parameters: their names in small letters.
    """

    scheme: str
    parameters: dict[str, str]

    @property
    def algorithm(self) -> str:
        """The digest's hash, without `-sess`."""
        return self.parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")

    def known(self) -> bool:
        """Tell whether `answer` can answer it."""
        return self.scheme == "basic" or (self.scheme == "digest" and self.algorithm in _HASHES)


def parse_challenge(header: str) -> Challenge:
    """Read a `WWW-Authenticate` header: text in UTF-8, or bytes that are none, escaped as surrogates."""
    scheme, _, rest = header.strip().partition(" ")
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
        for name, quoted, bare in _PARAMETER.findall(rest)
    }
    return Challenge(scheme.lower(), parameters)


def choice(challenges: Sequence[Challenge]) -> Challenge | None:
    """Return the one to answer, if one is `known`: the server's first digest, else Basic, which shows the password."""
    known = [challenge for challenge in challenges if challenge.known()]
    return min(known, key=lambda challenge: challenge.scheme != "digest", default=None)


def answer(
    challenge: Challenge, username: str, password: str, method: str, uri: str, nonce: str | None = None, count: int = 1
) -> str:
    """Return the `Authorization` header that answers a challenge that is `known`.

    Args:
        challenge: of the server.
        username: of the log-in.
        password: of the log-in.
        method: of the request, such as `DESCRIBE`.
        uri: of the request, as it stands in it.
        nonce: the client's; random if left out.
        count: how often the server's nonce has been answered, this time included.
    """
    if challenge.scheme == "basic":
        return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    given = challenge.parameters
    realm, server_nonce = given.get("realm", ""), given.get("nonce", "")
    client_nonce = nonce or secrets.token_hex(8)

    def hashed(*parts: str) -> str:
        return _HASHES[challenge.algorithm](":".join(parts).encode("utf-8", "surrogateescape"))

    secret = hashed(username, realm, password)
    if given.get("algorithm", "").upper().endswith("-SESS"):
        secret = hashed(secret, server_nonce, client_nonce)
    fields = {"username": username, "realm": realm, "nonce": server_nonce, "uri": uri}
    counted = ""
    if "auth" in re.split(r"[\s,]+", given.get("qop", "")):
        counted = f', qop=auth, nc={count:08x}, cnonce="{client_nonce}"'
        proof = hashed(secret, server_nonce, f"{count:08x}", client_nonce, "auth", hashed(method, uri))
    else:
        proof = hashed(secret, server_nonce, hashed(method, uri))
    fields["response"] = proof
    if "opaque" in given:
        fields["opaque"] = given["opaque"]
    text = ", ".join(f'{name}="{_escaped(value)}"' for name, value in fields.items())
    algorithm = f", algorithm={given['algorithm']}" if "algorithm" in given else ""
    return f"Digest {text}{algorithm}{counted}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
