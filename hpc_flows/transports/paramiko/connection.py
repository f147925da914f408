"""Logging in with paramiko: host keys checked, jump hosts gone through, nobody asked by chance."""

from __future__ import annotations

import contextlib
import getpass
import logging
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import paramiko

from hpc_flows.transports.paramiko.configuration import HostSettings, host_settings
from hpc_flows.transports.paramiko.forwarding import ForwardingTransport
from hpc_flows.transports.ssh_destination import Destination, SshOptions, Target
from hpc_flows.transports.ssh_trouble import (
    HOST_UNKNOWN,
    KEY_CHANGED,
    NEEDS_LOGIN,
    NO_ANSWER,
    NO_NAME,
    OTHER,
    REFUSED,
    UNREACHABLE,
    SshError,
    trouble,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = "hpc_flows.transports.paramiko"


class ParamikoConnection:
    """A connection that is logged in, with those to the jump hosts before it."""

    def __init__(
        self,
        destination: Destination,
        options: SshOptions,
        ask: Callable[[str, bool], str] | None = None,
    ) -> None:
        """Log in.

        Args:
            destination: where.
            options: how.
            ask: asks a person, as `ask(question, is_secret)`; None where nobody is there.

        Raises:
            SshError: it cannot be done; why, and what to do.
        """
        self.host = str(destination)
        self._options = options
        self._ask = ask
        self._opened: list[paramiko.SSHClient] = []
        _keep_quiet()
        try:
            self.transport = self._log_in(destination, host_settings(destination, options))
        except BaseException:
            self.close()
            raise

    def alive(self) -> bool:
        """Tell whether it still stands, as far as this machine knows."""
        return self.transport.is_active()

    def trouble(self) -> SshError:
        """Return why it has ended."""
        error = self.transport.get_exception()
        return _explained(error or EOFError("the connection was closed"), self.host)

    def close(self) -> None:
        """End it, the jump hosts last; a second call does nothing."""
        while self._opened:
            with contextlib.suppress(Exception):  # what is to be gone may be gone already
                self._opened.pop().close()

    def _log_in(self, destination: Destination, settings: HostSettings) -> ForwardingTransport:
        """Log in to a machine, through its jump hosts."""
        before: ForwardingTransport | None = None
        for jump in settings.jumps:
            known = host_settings(jump, self._options)
            link = self._link(known, before)
            before = self._log_in_over(str(jump), known, link)
        return self._log_in_over(str(destination), settings, self._link(settings, before))

    def _link(self, settings: HostSettings, before: ForwardingTransport | None) -> Any:
        timeout = self._options.connect_timeout
        if before is not None:
            target = Target(settings.host, settings.port)
            return before.open_target(target, "the jump host", timeout)
        if settings.proxy is not None:
            return paramiko.ProxyCommand(settings.proxy)
        try:
            link = socket.create_connection((settings.host, settings.port), timeout)
        except OSError as error:
            raise _explained(error, self.host) from error
        # Requests are small: held back until the last packet is acknowledged, each took 44 ms.
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def _log_in_over(self, host: str, settings: HostSettings, link: Any) -> ForwardingTransport:
        client = paramiko.SSHClient()
        self._opened.append(client)
        client.set_log_channel(_LOGGER)
        client.set_missing_host_key_policy(_Refuse(host))
        for path in settings.known_hosts:
            client.load_system_host_keys(path)
        timeout = self._options.connect_timeout
        try:
            client.connect(
                # The name by which the key is looked up; the way there is `link`.
                settings.key_name,
                port=22,
                username=settings.user or getpass.getuser(),
                key_filename=list(settings.keys),  # type: ignore[arg-type] # the stubs forget lists
                look_for_keys=not settings.keys,
                allow_agent=settings.agent,
                sock=link,
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
                channel_timeout=timeout,
                transport_factory=self._transport,
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            why = _explained(error, host)
            if why.kind != NEEDS_LOGIN or self._ask is None:
                raise why from error
            self._log_in_by_hand(client, settings, why)
        transport = client.get_transport()
        if not isinstance(transport, ForwardingTransport):
            raise SshError(f"The connection to {host} was closed.", UNREACHABLE)
        return transport

    def _log_in_by_hand(
        self, client: paramiko.SSHClient, settings: HostSettings, why: SshError
    ) -> None:
        transport = client.get_transport()
        if not isinstance(transport, ForwardingTransport) or not transport.is_active():
            raise why
        try:
            transport.auth_interactive_dumb(settings.user or getpass.getuser())
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise why from error

    def _transport(self, *args: Any, **kwargs: Any) -> ForwardingTransport:
        transport = ForwardingTransport(*args, **kwargs)
        transport.ask = self._ask
        return transport


class _Refuse(paramiko.MissingHostKeyPolicy):
    """Takes no key that is not known: there is nobody who could compare it."""

    def __init__(self, host: str) -> None:
        self._host = host

    def missing_host_key(self, *_: object) -> NoReturn:
        raise trouble(HOST_UNKNOWN, self._host)


_NO_LOGIN_KEPT = (
    "{host} wants a login that only a person can give (a second factor, a password, or a key that "
    "is locked or not known there). paramiko keeps no login for later: set `ssh_client = openssh` "
    "and run `hpc-flows connect {host}`, or have your key let in."
)

# The first that fits is taken: some are kinds of others.
_SIGNS: tuple[tuple[type[BaseException], str, str], ...] = (
    (paramiko.BadHostKeyException, KEY_CHANGED, ""),
    (paramiko.AuthenticationException, NEEDS_LOGIN, _NO_LOGIN_KEPT),
    (socket.gaierror, UNREACHABLE, NO_NAME),
    (ConnectionRefusedError, UNREACHABLE, REFUSED),
    (paramiko.ssh_exception.NoValidConnectionsError, UNREACHABLE, REFUSED),
    (TimeoutError, UNREACHABLE, NO_ANSWER),
    (EOFError, UNREACHABLE, ""),
    (OSError, UNREACHABLE, ""),
)


def _explained(error: BaseException, host: str) -> SshError:
    if isinstance(error, SshError):
        return error
    said = f" paramiko said: {error}"
    for kind_of_error, kind, message in _SIGNS:
        if isinstance(error, kind_of_error):
            return trouble(kind, host, message=message, said=said)
    if "No authentication methods" in str(error):
        return trouble(NEEDS_LOGIN, host, message=_NO_LOGIN_KEPT, said=said)
    return trouble(OTHER, host, said=said)


def _keep_quiet() -> None:
    """Keep paramiko's own records out of the flow's output: their content is in our errors."""
    logger = logging.getLogger(_LOGGER)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
