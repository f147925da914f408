"""What ~/.ssh/config says of a host, for paramiko, which reads it only when told to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import paramiko

from hpc_flows.transports.ssh_destination import Destination, SshOptions, parse_destination
from hpc_flows.transports.ssh_trouble import SshError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SYSTEM = "/etc/ssh/ssh_config"
_KNOWN = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
_GLOBAL = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
_PORT = 22


class HostSettings(NamedTuple):
    """How one machine is reached.

    Attributes:
        host: name or address to connect to.
        port: of its ssh server.
        user: who logs in there; None takes the name of the user here.
        keys: private key files to try; empty tries the usual ones.
        agent: whether the agent is asked.
        known_hosts: files with host keys.
        key_name: name that the host has in them.
        jumps: machines to go through, in order.
        proxy: command that connects, instead of TCP.
    """

    host: str
    port: int
    user: str | None
    keys: tuple[str, ...]
    agent: bool
    known_hosts: tuple[str, ...]
    key_name: str
    jumps: tuple[Destination, ...]
    proxy: str | None


def host_settings(destination: Destination, options: SshOptions) -> HostSettings:
    """Return what the configuration says of a machine.

    Raises:
        SshError: the configuration cannot be read.
        SettingsError: a jump host in it cannot be.
    """
    found = _read(options).lookup(destination.host)
    host = found.get("hostname", destination.host)
    port = destination.port or int(found.get("port", _PORT))
    only = found.get("identitiesonly", "no") == "yes"
    agent = found.get("identityagent", "") != "none" and not only
    standard = host if port == _PORT else f"[{host}]:{port}"
    return HostSettings(
        host=host,
        port=port,
        user=destination.user or found.get("user"),
        keys=tuple(_existing(_words(found.get("identityfile", [])))),
        agent=agent,
        known_hosts=tuple(_known_hosts(found)),
        key_name=found.get("hostkeyalias", standard),
        jumps=_jumps(found.get("proxyjump", "none")),
        proxy=_proxy(found),
    )


def _read(options: SshOptions) -> paramiko.SSHConfig:
    named = [options.config] if options.config else ["~/.ssh/config", _SYSTEM]
    config = paramiko.SSHConfig()
    for path in map(os.path.expanduser, named):
        try:
            with open(path, encoding="utf-8") as file:
                config.parse(file)
        except FileNotFoundError as error:
            if options.config:
                raise SshError(f"There is no ssh configuration {path}.") from error
        except (OSError, ValueError, paramiko.SSHException) as error:
            raise SshError(f"The ssh configuration {path} cannot be read: {error}.") from error
    return config


def _known_hosts(found: Mapping[str, str]) -> list[str]:
    named = found.get("userknownhostsfile", _KNOWN), found.get("globalknownhostsfile", _GLOBAL)
    return _existing([word for text in named for word in text.split()])


def _jumps(text: str) -> tuple[Destination, ...]:
    if text.lower() == "none":
        return ()
    return tuple(parse_destination(part.strip()) for part in text.split(","))


def _proxy(found: Mapping[str, str]) -> str | None:
    command = found.get("proxycommand", "none")
    return None if command.lower() == "none" or "proxyjump" in found else command


def _words(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else value.split()


def _existing(paths: list[str]) -> list[str]:
    # Neither a folder nor /dev/null, which people name to say "none".
    return [path for path in map(os.path.expanduser, paths) if os.path.isfile(path)]
