"""What can be wrong with an ssh connection, told from ssh's words, and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.exceptions import TransportError

if TYPE_CHECKING:
    from hpc_flows.transports.ssh_destination import Target

NEEDS_LOGIN = "needs login"
KEY_CHANGED = "host key changed"
HOST_UNKNOWN = "host unknown"
FORBIDDEN = "forwarding not allowed"
NO_SERVER = "no server there"
UNREACHABLE = "unreachable"
NO_SSH = "no ssh"
TOO_MANY_SESSIONS = "too many sessions"
OTHER = "other"

#: Troubles that a person has to end: dialling again soon would only fill the site's logs, and
#: some sites lock out who fails too often.
FOR_PEOPLE = frozenset({NEEDS_LOGIN, KEY_CHANGED, HOST_UNKNOWN, FORBIDDEN, NO_SSH})

_TAIL = 300

#: Lines of ssh's that tell why it ended; those on a changed key are fifteen.
_LAST_LINES = 20


class SshError(TransportError):
    """An ssh connection, or something on it, cannot be had.

    Attributes:
        kind: one of the constants of this module.
    """

    def __init__(self, message: str, kind: str = OTHER) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[SshError], tuple[str, str]]:
        return type(self), (str(self), self.kind)


#: With `{host}` in it, which is filled in with the message.
_INSTEAD = (
    "let the server's side fetch the events over plain ssh with `hpc-flows relay pull "
    "ssh://{host}` (docs/how-to/ssh-tunnel.md)."
)

#: What is said of each kind where nothing more is known.
_MESSAGES = {
    KEY_CHANGED: (
        "{host} shows another host key than the one in known_hosts. Either the site has new keys, "
        "or somebody is between you and it. Compare the fingerprint with what the site publishes; "
        "if it is the site's, remove the old one with `{remove}` and run "
        "`hpc-flows connect {host}`. Nothing was sent."
    ),
    HOST_UNKNOWN: (
        "{host} is not in known_hosts. Run `hpc-flows connect {host}` once, and compare the "
        "fingerprint that it shows with what the site publishes."
    ),
    NEEDS_LOGIN: (
        "{host} wants a login that only a person can give (a second factor, a password, or a "
        "key that is locked or not known there). Run `hpc-flows connect {host}`."
    ),
    UNREACHABLE: (
        "{host} has closed the connection. It may be restarting, or be refusing so many "
        "connections."
    ),
    FORBIDDEN: (
        "{host} does not allow forwarding to {target}. Ask the site, name a TCP port instead of a "
        f"socket (or the other way round), or {_INSTEAD}"
    ),
    NO_SERVER: (
        "The tunnel to {host} stands, but nothing answers at {target} as seen from there. Is the "
        "server running (`hpc-flows server status` there), and is this its address?"
    ),
    OTHER: "ssh to {host} failed.",
}

#: sshd gives one answer for a socket that is not there and for one that is not allowed.
_OR_FORBIDDEN = f" Or the site allows no forwarding to sockets: name a TCP port, or {_INSTEAD}"

#: The command that ssh itself proposes for an old key.
_REMOVE = re.compile(r"ssh-keygen -f .*-R .*\S")

NO_NAME = "The name {host} cannot be resolved. Is it right, and is the VPN up?"
NO_ANSWER = "{host} does not answer. Is the network (or the VPN) up?"
REFUSED = "{host} refuses ssh connections: its ssh server is down, or listens on another port."


def trouble(
    kind: str,
    host: str,
    target: Target | None = None,
    *,
    message: str = "",
    words: str = "",
    said: str = "",
) -> SshError:
    """Return an error of a kind, in words that say what to do.

    Args:
        kind: one of the constants of this module.
        host: where ssh logs in.
        target: what was wanted there.
        message: instead of what is usually said of that kind, with `{host}` in it.
        words: all that the ssh client said, in which there may be a command to be repeated.
        said: what of it is to be cited.
    """
    told = message or _MESSAGES[kind]
    if kind == NO_SERVER and target is not None and target.path:
        told += _OR_FORBIDDEN
    found = _REMOVE.search(words)
    remove = found[0] if found else "ssh-keygen -R HOST"
    return SshError(f"{told.format(host=host, target=target, remove=remove)}{said}", kind)


class _Sign(NamedTuple):
    """Words of ssh by which a trouble is known; the message if it is not the usual one."""

    words: re.Pattern[str]
    kind: str
    message: str = ""


_CHANGED = (
    _Sign(
        re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed"),
        KEY_CHANGED,
    ),
)

_LOGIN = (
    _Sign(re.compile(r"Host key verification failed|host key is known"), HOST_UNKNOWN),
    _Sign(
        re.compile(
            r"Permission denied|Too many authentication failures|no mutual signature"
            r"|No more authentication methods"
        ),
        NEEDS_LOGIN,
    ),
    _Sign(
        re.compile(r"Could not resolve hostname|Name or service not known"), UNREACHABLE, NO_NAME
    ),
    _Sign(
        re.compile(
            r"Connection timed out|No route to host|Network is unreachable|Operation timed out"
            r"|Connection to .* timed out|Timeout, server .* not responding"
        ),
        UNREACHABLE,
        NO_ANSWER,
    ),
    _Sign(re.compile(r"Connection refused"), UNREACHABLE, REFUSED),
    _Sign(
        re.compile(r"[Cc]onnection closed|Connection reset|closed by|Broken pipe|kex_exchange"),
        UNREACHABLE,
    ),
)

_FORWARD = (
    _Sign(re.compile(r"administratively prohibited|forwarding is disabled"), FORBIDDEN),
    _Sign(re.compile(r"open failed: connect failed|No such file"), NO_SERVER),
    _Sign(re.compile(r"open failed: unknown channel type"), FORBIDDEN),
    _Sign(
        re.compile(r"remote port forwarding failed"),
        FORBIDDEN,
        "{host} does not let the tunnel listen on a socket there: remote forwarding is not "
        f"allowed. Ask the site, or {_INSTEAD}",
    ),
)


def login_trouble(said: str, host: str) -> SshError:
    """Tell from ssh's words why a connection could not be made or has ended."""
    lines = said.strip().splitlines()[-_LAST_LINES:]
    # A changed key takes many lines, and ends as an unknown host does.
    changed = _find(_CHANGED, "\n".join(lines), host, None)
    # Of the rest the last line counts: a site's banner stands before, and may say anything.
    found = (_find(_LOGIN, line, host, None) for line in reversed(lines))
    other = trouble(OTHER, host, said=_last_words(said))
    return changed or next((error for error in found if error is not None), other)


def forward_trouble(said: str, host: str, target: Target) -> SshError | None:
    """Tell from ssh's words why a forward does not work; None when they do not say."""
    return _find(_FORWARD, said, host, target)


def _find(signs: tuple[_Sign, ...], said: str, host: str, target: Target | None) -> SshError | None:
    for sign in signs:
        if sign.words.search(said):
            last = _last_words(said)
            return trouble(sign.kind, host, target, message=sign.message, words=said, said=last)
    return None


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f" ssh said: {lines[-1][-_TAIL:]}" if lines else " ssh said nothing."
