"""Whether a server knows our token, found out before the token is sent to it.

Another user of a login node can listen where our server did. So the server first proves that it
has the token's hash, which nobody can make up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Any

from hpc_flows.client.errors import ForeignServer, NoServer

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"hpcf_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_GREETING = b"hpc-flows hello\0"


def token_id(token: str) -> str:
    """Return the part of a token that is no secret.

    Raises:
        NoServer: it is no token of a hpc_flows server. The message does not repeat it.
    """
    found = _TOKEN.fullmatch(token)
    if found is None:
        msg = (
            "The API key is no token of a hpc_flows server (hpcf_…_…). Set HPC_FLOWS_API_KEY, or "
            "`hpc-flows config set api_key=…`, to one that `hpc-flows token create` printed."
        )
        raise NoServer(msg)
    return found.group(1)


def expected_proof(token: str, nonce: str, instance: str, epoch: str) -> str:
    """Return what a server that knows the token answers."""
    key = hashlib.sha256(token.encode()).digest()
    message = _GREETING + nonce.encode() + instance.encode() + epoch.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def check_proof(token: str, nonce: str, answer: Mapping[str, Any], where: str) -> None:
    """Raise ForeignServer unless an answer to a greeting proves that the server knows us."""
    proof = str(answer.get("proof", ""))
    wanted = expected_proof(
        token, nonce, str(answer.get("instance", "")), str(answer.get("epoch", ""))
    )
    if not hmac.compare_digest(proof.encode(), wanted.encode()):
        msg = (
            f"What answers at {where} does not know your API key, so the key was not sent: it is "
            f"another server, or the key was revoked. Check api_url (`hpc-flows config view`); "
            f"make a new key with `hpc-flows token create` on the server's machine."
        )
        raise ForeignServer(msg)
