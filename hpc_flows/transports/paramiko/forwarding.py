"""A paramiko transport that also reaches Unix sockets, and that asks nobody unless told to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import paramiko

from hpc_flows.transports.ssh_trouble import FORBIDDEN, NO_SERVER, OTHER, SshError, trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.transports.ssh_destination import Target

#: OpenSSH's extension (PROTOCOL, section 2.4), for which paramiko has no call of its own.
_STREAMLOCAL = "direct-streamlocal@openssh.com"

#: Reasons by which a server refuses to open a channel (RFC 4254, section 5.1).
_PROHIBITED, _CONNECT_FAILED, _UNKNOWN_TYPE = 1, 2, 3


class ForwardingTransport(paramiko.Transport):
    """A connection whose channels lead to targets.

    Attributes:
        ask: asks a person, as `ask(question, is_secret)`; None where nobody is there.
    """

    ask: Callable[[str, bool], str] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._appended = threading.local()
        self._opening = threading.Lock()

    def open_channel(self, *args: Any, **kwargs: Any) -> paramiko.Channel:
        """Open a channel; one at a time, for paramiko mixes up why they were refused."""
        with self._opening:
            return super().open_channel(*args, **kwargs)

    def auth_interactive_dumb(
        self, username: str, handler: Any = None, submethods: str = ""
    ) -> list[str]:
        """Answer the server's questions with a person's help; paramiko's own reads from stdin.

        Raises:
            paramiko.AuthenticationException: nobody is there to be asked.
        """
        if self.ask is None:
            raise paramiko.AuthenticationException("nobody is there to be asked")
        return self.auth_interactive(username, handler or self._answers, submethods)

    def open_target(self, target: Target, host: str, timeout: float) -> paramiko.Channel:
        """Open a channel to a TCP port or a Unix socket, as seen from the server.

        Raises:
            SshError: the server refuses, or nothing answers there.
        """
        try:
            if target.path:
                return self._open_streamlocal(target.path, timeout)
            where = (target.host, target.port)
            return self.open_channel("direct-tcpip", where, ("127.0.0.1", 0), timeout=timeout)
        except paramiko.ChannelException as error:
            raise _refusal(error, target, host) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise SshError(f"{host} opened no channel to {target}: {error}", OTHER) from error

    def _open_streamlocal(self, path: str, timeout: float) -> paramiko.Channel:
        # The request to open a channel ends, for this kind, with the path and two reserved
        # fields. paramiko writes none of them for kinds that it does not know.
        words = paramiko.Message()
        words.add_string(path)
        words.add_string("")
        words.add_int(0)
        self._appended.words = words.asbytes()
        try:
            return self.open_channel(_STREAMLOCAL, timeout=timeout)
        finally:
            self._appended.words = b""

    def _send_user_message(self, data: paramiko.Message) -> None:
        # Called by `open_channel`, in the thread that opens the channel.
        words = getattr(self._appended, "words", b"")
        if words:
            self._appended.words = b""
            data.add_bytes(words)
        super()._send_user_message(data)  # type: ignore[misc] # a private name; the stubs leave it out

    def _answers(self, title: str, instructions: str, fields: list[tuple[str, bool]]) -> list[str]:
        assert self.ask is not None  # noqa: S101 - `auth_interactive_dumb` has looked
        before = "".join(f"{text.strip()}\n" for text in (title, instructions) if text.strip())
        return [self.ask(f"{before}{question}", not echo) for question, echo in fields]


def _refusal(error: paramiko.ChannelException, target: Target, host: str) -> SshError:
    if error.code in (_PROHIBITED, _UNKNOWN_TYPE):
        return trouble(FORBIDDEN, host, target)
    if error.code == _CONNECT_FAILED:
        return trouble(NO_SERVER, host, target)
    return SshError(f"{host} opened no channel to {target}: {error.text}", OTHER)
