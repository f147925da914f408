"""What server to start, and what is told of one that is up; light, for commands that only ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_flows.server.announcing import folder_of

if TYPE_CHECKING:
    from hpc_flows.settings import Settings


def database_url(settings: Settings, wanted: str | None = None) -> str:
    """Return the address of the database: as asked for, as set, else a file in the home."""
    if wanted or settings.server_database:
        return wanted or str(settings.server_database)
    return f"sqlite:///{folder_of(settings.home)}/server.db"


@dataclass(frozen=True, slots=True)
class Plan:
    """What server to start.

    Attributes:
        home: the folder of its endpoint, token and log.
        database: the address of its database.
        host: the address to bind; None leaves it to the rule of `listening`.
        port: the same; 0 takes any that is free.
        socket: path of a Unix socket to listen on instead.
        tls_cert: file of the certificate chain, for TLS.
        tls_key: file of its key.
        allow_hosts: more names by which it may be called.
        public_url: where browsers see it, behind a proxy.
        prefix: the path that the proxy puts before ours.
        retention_days: days after which ended runs are forgotten; None for never.
    """

    home: str
    database: str
    host: str | None = None
    port: int | None = None
    socket: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    allow_hosts: tuple[str, ...] = ()
    public_url: str | None = None
    prefix: str = ""
    retention_days: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is up.

    Attributes:
        url: where it is.
        why: why it is there.
        link: logs a browser in once.
        pid: its process.
        socket: path of its Unix socket; empty for TCP.
        token_file: what opens it.
        database: where its data are, without a password.
    """

    url: str
    why: str
    link: str
    pid: int
    socket: str
    token_file: str
    database: str
