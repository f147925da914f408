"""What the command line asks a server: runs, task runs, logs, and to cancel, pause and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.client.requests import Client

#: Most rows that a server gives at once.
_PAGE = 500


class FlowRun(TypedDict, total=False):
    """A flow run as the server tells it; times are seconds since 1970."""

    id: str
    run: str
    name: str
    flow: str
    state_type: str
    state_name: str
    message: str | None
    details: dict[str, Any] | None
    attempt: int
    created: float | None
    started: float | None
    ended: float | None
    parameters: dict[str, Any]
    tags: list[str]
    parent_task_run: str | None
    parent_flow_run: str | None
    entrypoint: str | None
    owner: str
    project: str | None
    clusters: list[str]
    host: str | None
    tasks: dict[str, int]
    total_tasks: int
    heard: float | None
    skew: float | None
    version: int
    history: list[list[Any]]


class TaskRun(TypedDict, total=False):
    """A task run as the server tells it; times are seconds since 1970."""

    id: str
    run: str
    flow_run: str
    name: str
    task: str
    key: str
    state_type: str
    state_name: str
    message: str | None
    attempt: int
    created: float | None
    queued: float | None
    started: float | None
    ended: float | None
    map_index: int | None
    token: str | None
    job: str | None
    node: str | None
    cluster: str | None
    partition: str | None
    reason: str | None
    reason_words: str | None
    tags: list[str]
    upstream: list[str]
    resources: dict[str, Any] | None
    details: dict[str, Any] | None
    history: list[list[Any]]


class LogRecord(TypedDict, total=False):
    """A log record as the server tells it."""

    id: str
    t: float
    level: int
    message: str
    logger: str
    task_run: str | None
    flow_run: str | None


class LogPage(TypedDict, total=False):
    """Some log records, and where to go on."""

    items: list[LogRecord]
    next: str | None
    previous: str | None
    dropped: int
    arrived: str


class Command(TypedDict, total=False):
    """What became of a wish to cancel, pause or go on.

    `heard` is how many seconds ago the run's relay was heard; None: never.
    """

    id: str
    status: str
    heard: float | None
    message: str


class Page(TypedDict):
    """Some rows of a list; `next` is the offset of those that follow."""

    items: list[Any]
    total: int | None
    next: int | None


class Api:
    """The server's reading API and its commands, with names.

    Every method raises `ClientError` when the server cannot be asked or says no; what is not there,
    or not to be seen, is a `ServerRefusal` with the status 404.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def me(self) -> dict[str, Any]:
        """Return who we are there: user, scopes, projects, instance, version."""
        found: dict[str, Any] = self.client.get("/me")
        return found

    def flow_runs(self, **filters: Any) -> Page:
        """Return a page of flow runs; filters as in `GET /flow-runs` (state, flow, tag, …)."""
        return self._page("/flow-runs", filters)

    def flow_run(self, id_: str) -> FlowRun:
        """Return a flow run with its history."""
        found: FlowRun = self.client.get(f"/flow-runs/{quote(id_, safe='')}")
        return found

    def counts(self, id_: str) -> dict[str, Any]:
        """Return how many task runs of each task are in which state."""
        found: dict[str, Any] = self.client.get(f"/flow-runs/{quote(id_, safe='')}/counts")
        return found

    def delete_flow_run(self, id_: str) -> None:
        """Delete a flow run on the server; its journal stays."""
        self.client.request("DELETE", f"/flow-runs/{quote(id_, safe='')}", patience=0)

    def task_runs(self, **filters: Any) -> Page:
        """Return a page of task runs; filters as in `GET /task-runs` (flow_run, task, …)."""
        return self._page("/task-runs", filters)

    def task_run(self, id_: str) -> TaskRun:
        """Return a task run with its history."""
        found: TaskRun = self.client.get(f"/task-runs/{quote(id_, safe='')}")
        return found

    def output(self, task_run: str) -> str:
        """Return the end of the output of a task run's job."""
        found = self.client.get(f"/task-runs/{quote(task_run, safe='')}/output")
        return str(found["text"])

    def logs(self, **filters: Any) -> LogPage:
        """Return some log records; filters as in `GET /logs` (flow_run, after, level, …)."""
        found: LogPage = self.client.get("/logs", filters)
        return found

    def all_logs(self, **filters: Any) -> Iterator[LogRecord]:
        """Give all log records that fit, page by page."""
        after = filters.pop("after", None)
        while True:
            page = self.logs(**filters, after=after, limit=_PAGE)
            # A search may have found nothing yet in what it has looked through.
            yield from page["items"]
            after = page.get("next")
            if not after:
                return

    def every(self, path: str, **filters: Any) -> Iterator[Any]:
        """Give all rows of a list such as `/flow-runs`, page by page."""
        offset: int | None = int(filters.pop("offset", 0))
        while offset is not None:
            page = self._page(path, {"limit": _PAGE, **filters, "offset": offset})
            yield from page["items"]
            offset = page["next"] if page["items"] else None

    def ask(self, id_: str, action: str, reason: str = "") -> Command:
        """Ask for a flow run to `cancel`, `pause` or `resume`; return what became of it so far."""
        path = f"/flow-runs/{quote(id_, safe='')}/{quote(action, safe='')}"
        found: Command = self.client.post(path, {"reason": reason}, patience=0)
        return found

    def command(self, id_: str) -> Command:
        """Return what became of a command."""
        found: Command = self.client.get(f"/commands/{quote(id_, safe='')}")
        return found

    def changes(self, run: str | None = None) -> Iterator[tuple[str, str, str]]:
        """Give the server's stream of changes as (name, data, id); see `Client.stream`."""
        suffix = f"?run={quote(run, safe='')}" if run else ""
        return self.client.stream(f"/stream{suffix}")

    def _page(self, path: str, filters: dict[str, Any]) -> Page:
        found: Page = self.client.get(path, filters)
        return found
