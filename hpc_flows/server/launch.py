"""Serving in this process: database, address, application, and putting things away at the end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hpc_flows.exceptions import HpcFlowsError, ServerError
from hpc_flows.server import announcing, listening, owning
from hpc_flows.server.app import make_app
from hpc_flows.server.plan import Plan, Started
from hpc_flows.server.service import Options
from hpc_flows.settings.addresses import without_password

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from types import FrameType

    from hpc_flows.server.db import Database
    from hpc_flows.server.service import Service

#: Seconds that requests have to end when the server does; streams end at once.
_GRACE = 5
_MOST_CONNECTIONS = 2000
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound
_LOG = logging.getLogger("hpc_flows.server")


class OwnUserProtocol(H11Protocol):
    """HTTP that answers nobody but this user, and root, on a Unix socket (threat T1).

    The folder's mode keeps others out already; this holds when somebody changes it.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        """Take a connection, or drop it."""
        sock = transport.get_extra_info("socket")
        user = listening.peer_user(sock) if sock is not None else None
        if user not in {None, 0, os.geteuid()}:
            _LOG.warning("A connection of user %s to the socket was refused.", user)
            transport.abort()
            return
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """Uvicorn, with the live streams ended at once when it shall end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        self._service.hub.close_soon()
        super().handle_exit(sig, frame)


def serve(plan: Plan, ready: Callable[[Started], object]) -> None:
    """Serve in this process until SIGTERM or Ctrl-C.

    Args:
        plan: what to start.
        ready: called once it can be reached.

    Raises:
        ServerError: it cannot be started.
    """
    os.umask(0o077)
    _check_tls(plan)
    with owning.opened(plan.database) as database, owning.held(database):
        owning.made_ready(database)
        owning.own_token(database, plan.home)
        address = listening.choose(plan.host, plan.port, plan.socket, database.instance)
        if address.socket and plan.tls_cert is not None:
            raise ServerError(
                f"TLS is for TCP, and the server would listen on the Unix socket {address.socket} "
                f"({address.why}), which needs none and would answer nobody with it. Leave out the "
                f"certificate, or name --host and --port."
            )
        sock = listening.open_socket(address)
        try:
            _serve(plan, database, address, sock, ready)
        finally:
            sock.close()
            if address.socket:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address.socket)


def _serve(
    plan: Plan,
    database: Database,
    address: listening.Address,
    sock: socket.socket,
    ready: Callable[[Started], object],
) -> None:
    url = listening.url_of(sock, address, tls=plan.tls_cert is not None, prefix=plan.prefix)
    app = make_app(database, _options(plan, address, url))
    service: Service = app.state.service
    server = _Server(_config(plan, app), service)
    said = announcing.announce(
        plan.home,
        url,
        service.instance,
        public_url=plan.public_url,
        database=without_password(plan.database),
    )
    try:
        ready(
            Started(
                url=url,
                why=address.why,
                link=owning.first_link(database, service.base_url),
                pid=said.pid,
                socket=address.socket,
                token_file=os.path.join(announcing.folder_of(plan.home), "token"),
                database=said.database,
            )
        )
        _LOG.info("Serving at %s from %s, process %s.", said.url, said.database, said.pid)
        # The socket listens already: who connects now waits until uvicorn accepts.
        with _ended_by_signals():
            server.run(sockets=[sock])
        _LOG.info("Ended.")
    finally:
        announcing.withdraw(plan.home, said)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Keep signals from ending the process before it has put its things away.

    Uvicorn hears them, ends in its own time, and then raises them once more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heard(number: int, _: FrameType | None) -> None:
    _LOG.info("Signal %s was heard.", number)


def _options(plan: Plan, address: listening.Address, url: str) -> Options:
    wild = not address.socket and address.host in _WILDCARDS
    public = listening.name_of(plan.public_url) if plan.public_url else ""
    bound = [] if address.socket else [address.host]
    named = [socket.gethostname(), socket.getfqdn()] if wild else bound
    # Behind a socket a browser comes through a forwarded port of its own machine.
    base = f"http://127.0.0.1:{listening.DEFAULT_PORT}{plan.prefix}" if address.socket else url
    return Options(
        hosts=[name for name in (*named, public, *plan.allow_hosts) if name],
        any_address=wild,
        public_url=plan.public_url,
        prefix=plan.prefix,
        url=base,
        tls=plan.tls_cert is not None or (plan.public_url or "").startswith("https:"),
        retention_days=plan.retention_days,
    )


def _config(plan: Plan, app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=OwnUserProtocol,
        ws="none",
        log_config=None,
        # Addresses of requests tell what somebody looks at; errors are logged by the application.
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE,
        ssl_certfile=plan.tls_cert,
        ssl_keyfile=plan.tls_key,
    )


def _check_tls(plan: Plan) -> None:
    """See that the certificate can be used, before anything else is begun.

    Raises:
        ServerError: it cannot.
    """
    if plan.tls_cert is None and plan.tls_key is None:
        return
    if plan.tls_cert is None or plan.tls_key is None:
        raise ServerError("TLS needs both: --tls-cert and --tls-key.")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            plan.tls_cert, plan.tls_key
        )
    except (OSError, ssl.SSLError) as error:
        msg = f"The certificate {plan.tls_cert} with the key {plan.tls_key} cannot be used: {error}"
        raise ServerError(msg) from error


def log_to_stderr() -> None:
    """Write what the server has to say to standard error, with the time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("hpc_flows.server", "uvicorn", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO if name == "hpc_flows.server" else logging.WARNING)
        logger.propagate = False


def told(error: BaseException) -> str:
    """Return an error as the process that waits prints it."""
    return str(error) if isinstance(error, HpcFlowsError) else f"{type(error).__name__}: {error}"
