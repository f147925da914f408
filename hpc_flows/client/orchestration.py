"""`get_client`: asking a server as Prefect's client is asked.

    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(limit=10):
            print(run.name, run.state)

    async with get_client() as client:
        run = await client.read_flow_run(id_)

It asks the server that the settings name, or the one that runs on this machine; without a server
there is `NoServer`, and runs are read by `hpc-flows flow-run ls`. What Prefect's client can do and
this one cannot is told when it is asked for, with the reason.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from hpc_flows._version import __version__
from hpc_flows.client.absent import why_absent
from hpc_flows.client.api import Api
from hpc_flows.client.errors import NOT_FOUND, ServerRefusal
from hpc_flows.client.finding import open_client
from hpc_flows.client.reading import flow_runs, log_records, task_runs
from hpc_flows.client.schemas.objects import FlowRun, TaskRun
from hpc_flows.client.wishes import set_state
from hpc_flows.exceptions import ObjectNotFound, OptionValueError
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from uuid import UUID

    from hpc_flows.client.requests import Client
    from hpc_flows.client.schemas.objects import Log, OrchestrationResult
    from hpc_flows.states import State

    Id = str | UUID

__all__ = ["PrefectClient", "SyncPrefectClient", "get_client"]


@overload
def get_client(httpx_settings: None = None, sync_client: Literal[False] = ...) -> PrefectClient: ...


@overload
def get_client(httpx_settings: None = None, *, sync_client: Literal[True]) -> SyncPrefectClient: ...


def get_client(
    httpx_settings: dict[str, Any] | None = None,
    sync_client: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
) -> PrefectClient | SyncPrefectClient:
    """Return a client of the server that the settings mean.

    Args:
        httpx_settings: None; requests are not made by httpx here.
        sync_client: whether the client's methods return values, or what is to be awaited.

    Raises:
        NoServer: none is configured, and none runs on this machine.
        OptionValueError: `httpx_settings` is given.
    """
    if httpx_settings is not None:
        msg = (
            "httpx_settings is not taken: requests are made by the standard library. "
            "`hpc-flows config set` has api_url and api_key."
        )
        raise OptionValueError(msg)
    client = SyncPrefectClient(open_client(get_settings()))
    return client if sync_client else PrefectClient(client)


class SyncPrefectClient:
    """Asks a server; may be used by several threads, one after the other.

    Each method raises `ClientError` when the server cannot be asked or says no, and
    `ObjectNotFound` where there is no such thing, or it is not to be seen.

    Args:
        client: makes the requests.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._api = Api(client)
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(why_absent(type(self).__name__, name, dir(type(self))))

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        with self._lock:
            self._client.close()

    # The server ---------------------------------------------------------------------------------

    @property
    def api_url(self) -> str:
        """Where the server is."""
        return str(self._client.address)

    def client_version(self) -> str:
        """Return the version of hpc_flows in this process."""
        return __version__

    def api_version(self) -> str:
        """Return the version of hpc_flows on the server."""
        with self._lock:
            return self._client.identity(fresh=True).version

    def api_healthcheck(self) -> Exception | None:
        """Return None if the server answers, and what went wrong if it does not."""
        try:
            with self._lock:
                self._client.get("/health")
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            return error
        return None

    def hello(self) -> dict[str, Any]:
        """Return who we are there: user, scopes, projects, and the server's version."""
        with self._lock:
            return self._api.me()

    # Flow runs ----------------------------------------------------------------------------------

    def read_flow_run(self, flow_run_id: Id) -> FlowRun:
        """Return a flow run by its id."""
        with self._asking("flow run", flow_run_id) as id_:
            return FlowRun(dict(self._api.flow_run(id_)))

    def read_flow_runs(
        self,
        *,
        flow_filter: Any = None,
        flow_run_filter: Any = None,
        sort: Any = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[FlowRun]:
        """Return flow runs, subflows among them.

        Args:
            flow_filter: a `FlowFilter`, or its dict.
            flow_run_filter: a `FlowRunFilter`, or its dict.
            sort: a `FlowRunSort`; the newest first without one.
            limit: how many; 200 without one, as in Prefect.
            offset: how many are passed over.
        """
        with self._lock:
            found = flow_runs(self._api, flow_run_filter, flow_filter, sort)
            return _part(found, limit, offset)

    def count_flow_runs(self, *, flow_filter: Any = None, flow_run_filter: Any = None) -> int:
        """Return how many flow runs fit the filters of `read_flow_runs`."""
        with self._lock:
            return sum(1 for _ in flow_runs(self._api, flow_run_filter, flow_filter, None))

    def read_flow_run_states(self, flow_run_id: Id) -> list[State]:
        """Return the states that a flow run went through."""
        return self.read_flow_run(flow_run_id).states()

    def set_flow_run_state(
        self,
        flow_run_id: Id,
        state: State,
        force: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    ) -> OrchestrationResult:
        """Ask the driver of a flow run to cancel, to pause, or to go on.

        Args:
            flow_run_id: of a run that is no subflow's.
            state: `Cancelling()` or `Cancelled()`, `Paused()`, or `Resuming` to let a paused run go
                on; its message is kept as the reason.
            force: False; what a run does is its driver's to say.

        Raises:
            OptionValueError: another state is asked for, or force.
            ObjectNotFound: there is no such run.
        """
        with self._asking("flow run", flow_run_id) as id_:
            return set_state(self._api, id_, state, force=force)

    def resume_flow_run(self, flow_run_id: Id, run_input: Any = None) -> OrchestrationResult:
        """Ask the driver of a paused flow run to go on."""
        from hpc_flows.client.wishes import RESUMING  # noqa: PLC0415 - made when it is asked for

        if run_input is not None:
            msg = "run_input is not taken: have the flow read a variable, set it, and resume."
            raise OptionValueError(msg)
        return self.set_flow_run_state(flow_run_id, RESUMING())

    def delete_flow_run(self, flow_run_id: Id) -> None:
        """Delete a flow run on the server; its journal stays where it is."""
        with self._asking("flow run", flow_run_id) as id_:
            self._api.delete_flow_run(id_)

    # Task runs, log records ---------------------------------------------------------------------

    def read_task_run(self, task_run_id: Id) -> TaskRun:
        """Return a task run by its id."""
        with self._asking("task run", task_run_id) as id_:
            return TaskRun(dict(self._api.task_run(id_)))

    def read_task_runs(
        self,
        *,
        flow_filter: Any = None,
        flow_run_filter: Any = None,
        task_run_filter: Any = None,
        sort: Any = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[TaskRun]:
        """Return task runs.

        Args:
            flow_filter: the flows of whose runs; as in `read_flow_runs`.
            flow_run_filter: of which flow runs; as in `read_flow_runs`.
            task_run_filter: a `TaskRunFilter`, or its dict.
            sort: a `TaskRunSort`; as they were made without one.
            limit: how many; 200 without one, as in Prefect.
            offset: how many are passed over.
        """
        with self._lock:
            found = task_runs(self._api, task_run_filter, (flow_run_filter, flow_filter), sort)
            return _part(found, limit, offset)

    def read_task_run_states(self, task_run_id: Id) -> list[State]:
        """Return the states that a task run went through."""
        return self.read_task_run(task_run_id).states()

    def read_logs(
        self,
        log_filter: Any = None,
        limit: int | None = None,
        offset: int | None = None,
        sort: Any = "TIMESTAMP_ASC",
    ) -> list[Log]:
        """Return log records of flow runs or task runs.

        Args:
            log_filter: a `LogFilter`, or its dict, that names a flow run or task run at least.
            limit: how many; 200 without one, as in Prefect.
            offset: how many are passed over.
            sort: a `LogSort`.
        """
        with self._lock:
            return _part(log_records(self._api, log_filter, sort), limit, offset or 0)

    @contextmanager
    def _asking(self, what: str, id_: Id) -> Iterator[str]:
        """Make an ObjectNotFound of the answer that there is no such thing, in the block."""
        try:
            with self._lock:
                yield str(id_)
        except ServerRefusal as error:
            if error.status != NOT_FOUND:
                raise
            msg = f"There is no {what} {str(id_)!r} on {self.api_url}, or it is not for you to see."
            raise ObjectNotFound(msg) from None


#: How many Prefect's server gives unless more are asked for.
_LIMIT = 200


def _part(found: Iterator[Any], limit: int | None, offset: int) -> list[Any]:
    wanted = _LIMIT if limit is None else limit
    for name, number in (("limit", wanted), ("offset", offset)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise OptionValueError(f"{name} is a whole number from 0, not {number!r}.")
    numbered = zip(range(offset + wanted), found, strict=False)
    return [each for place, each in numbered if place >= offset]


def _in_thread(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return the method that awaits what the synchronous client's method of that name returns."""
    told = getattr(SyncPrefectClient, name)

    async def asked(self: PrefectClient, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(getattr(self._sync, name), *args, **kwargs)

    asked.__name__, asked.__doc__ = name, told.__doc__
    asked.__qualname__ = f"PrefectClient.{name}"
    return asked


_NOT_ENTERED = "Use `async with get_client()`, or `with get_client(sync_client=True)`."


class PrefectClient:
    """Asks a server in threads, so that the event loop goes on meanwhile.

    Its methods are those of `SyncPrefectClient`, to be awaited.

    Args:
        client: makes the requests.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._sync = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._sync.close)

    def __enter__(self) -> Self:
        raise RuntimeError(_NOT_ENTERED)

    def __exit__(self, *_: object) -> None:
        raise RuntimeError(_NOT_ENTERED)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(why_absent(type(self).__name__, name, dir(type(self))))

    @property
    def api_url(self) -> str:
        """Where the server is."""
        return self._sync.api_url

    def client_version(self) -> str:
        """Return the version of hpc_flows in this process."""
        return self._sync.client_version()

    api_version = _in_thread("api_version")
    api_healthcheck = _in_thread("api_healthcheck")
    hello = _in_thread("hello")
    read_flow_run = _in_thread("read_flow_run")
    read_flow_runs = _in_thread("read_flow_runs")
    count_flow_runs = _in_thread("count_flow_runs")
    read_flow_run_states = _in_thread("read_flow_run_states")
    set_flow_run_state = _in_thread("set_flow_run_state")
    resume_flow_run = _in_thread("resume_flow_run")
    delete_flow_run = _in_thread("delete_flow_run")
    read_task_run = _in_thread("read_task_run")
    read_task_runs = _in_thread("read_task_runs")
    read_task_run_states = _in_thread("read_task_run_states")
    read_logs = _in_thread("read_logs")
