"""Tokens: `hpcf_<id>_<secret>`, of which the database has only the SHA-256 hash.

The secret has 256 bits of chance, so that a fast hash is enough: there is no word list to try.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

#: What a token may be for.
REPORT, READ, CONTROL, ADMIN = "report", "read", "control", "admin"
SCOPES = (REPORT, READ, CONTROL, ADMIN)

_FORM = re.compile(r"hpcf_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_HELLO = b"hpc-flows hello\0"
#: Characters of a nonce, at least: with fewer an answer might be one that was heard before.
SHORTEST_NONCE, LONGEST_NONCE = 16, 256


class NewToken(NamedTuple):
    """A token that was just made; its text is shown once and kept nowhere.

    Attributes:
        id: names it, and is no secret.
        text: what its owner sends.
        hash: what the database keeps.
    """

    id: str
    text: str
    hash: bytes


def new_token() -> NewToken:
    """Make a token."""
    id_ = secrets.token_hex(6)
    text = f"hpcf_{id_}_{secrets.token_urlsafe(32)}"
    return NewToken(id_, text, hash_of(text))


def id_in(text: str) -> str | None:
    """Return the id that is in a token's text, or None if it has not the form of a token."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def hash_of(text: str) -> bytes:
    """Return the 32 bytes that the database keeps of a token or login code."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def fits(text: str, kept: bytes) -> bool:
    """Tell whether a text is the one that a hash was made of, in a time that tells nothing."""
    return hmac.compare_digest(hash_of(text), kept)


def proof(kept: bytes, nonce: str, instance: str, epoch: str) -> str:
    """Return the proof that a server knows a token's hash, so that a client may trust it.

    A stranger's service on the same port or socket cannot make it (threat T11).

    Args:
        kept: the token's hash.
        nonce: what the client made up for this one question.
        instance: the server's database.
        epoch: the server's start.
    """
    message = _HELLO + nonce.encode("utf-8", "surrogatepass") + instance.encode() + epoch.encode()
    return hmac.new(kept, message, hashlib.sha256).hexdigest()


def new_code() -> str:
    """Make a one-time login code of 192 bits."""
    return secrets.token_urlsafe(24)
