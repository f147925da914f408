"""Collecting runs that may be submitted together, for a moment."""

from __future__ import annotations

import copy
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.exceptions import PayloadError
from hpc_flows.jobs import packing
from hpc_flows.jobs.script import Folders
from hpc_flows.jobs.submission import Element, Stage, Submission, new_token
from hpc_flows.states import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpc_flows.clusters import Cluster
    from hpc_flows.context import RootRun, RunContext
    from hpc_flows.resources import Resources
    from hpc_flows.runs import FlowRun, TaskRun
    from hpc_flows.task_runners.base import TaskCall

#: Elements of one array where neither profile nor scheduler says: Slurm's own default.
USUAL_ARRAY = 1001
#: How many windows a group may stay open while more runs keep coming.
MOST_WINDOWS = 10


class GroupKey(NamedTuple):
    """Runs that agree in this may be submitted together."""

    task: int
    flow_run: str | None
    tags: tuple[str, ...]
    log_prints: bool
    resources: Resources


class Collector:
    """Groups runs, and writes their payloads while they come.

    Args:
        root: the run.
        cluster: where they will go.
        mode: `job` for a job each, `array` for arrays always, `auto` for arrays of several.
        window: seconds without another run after which a group is closed.
        wake: called when there is a group to watch.
    """

    def __init__(
        self, root: RootRun, cluster: Cluster, mode: str, window: float, wake: Callable[[], None]
    ) -> None:
        self.cluster = cluster
        self._root = root
        self._mode = mode
        self._window = window
        self._wake = wake
        self._lock = threading.RLock()
        self._open: dict[GroupKey, Submission] = {}
        self._closed: list[Submission] = []

    def take(self, calls: Sequence[TaskCall], resources: Resources) -> None:
        """Take runs of one task that ask for the same.

        Arguments are pickled here and now, so that changing them later changes nothing.

        Args:
            calls: the runs.
            resources: what each asks for, before placing.
        """
        failed: list[tuple[TaskCall, Exception]] = []
        left = list(calls)
        while left:
            with self._lock:
                batch, left = self._take_some(left, resources, failed)
            del batch
        self._wake()
        for call, error in failed:
            call.end(Failed(str(error), data=error))

    def _take_some(
        self,
        calls: list[TaskCall],
        resources: Resources,
        failed: list[tuple[TaskCall, Exception]],
    ) -> tuple[list[TaskCall], list[TaskCall]]:
        key = _key(calls[0], resources)
        try:
            group = self._open.get(key) or self._new(key, calls[0])
        except (PayloadError, OSError) as error:
            failed.extend((call, error) for call in calls)
            return calls, []
        room = self._room() - len(group.elements)
        batch, left = calls[:room], calls[room:]
        failed.extend(_pack(group, batch))
        now = time.monotonic()
        full = len(group.elements) >= self._room()
        latest = group.opened + MOST_WINDOWS * self._window
        group.due = now if full else min(now + self._window, latest)
        if full or not group.elements:
            self._close(key)
        return batch, left

    def due(self) -> tuple[list[Submission], float | None]:
        """Return the groups that are closed now, and in how many seconds the next one will be."""
        now = time.monotonic()
        with self._lock:
            for key in [key for key, group in self._open.items() if group.due <= now]:
                self._close(key)
            ready, self._closed = self._closed, []
            waits = [group.due - now for group in self._open.values()]
        return ready, min(waits, default=None)

    def groups(self) -> list[Submission]:
        """Return the groups that have not been handed on."""
        with self._lock:
            return [*self._open.values(), *self._closed]

    def discard(self) -> None:
        """Forget all open groups."""
        with self._lock:
            for group in (*self._open.values(), *self._closed):
                group.payload.discard()
            self._open.clear()
            self._closed.clear()

    def cut(self, group: Submission) -> Submission | None:
        """Take off what one array cannot hold, or return None where it holds all.

        It was collected before the scheduler was asked for its limit. What arguments were when
        they were given counts, so that they are moved as they were pickled.

        Raises:
            PayloadError: the files of the rest cannot be written.
        """
        room = self._room()
        if len(group.elements) <= room:
            return None
        folders = Folders(self._root.run_dir, new_token(self._root.run_id))
        payload = group.payload.split(room, folders.payload)
        rest = Submission(group.cluster, folders, group.request, group.task, payload)
        rest.array, rest.stage = group.array, group.stage
        rest.elements += [
            Element(element.call, rest, index)
            for index, element in enumerate(group.elements[room:])
        ]
        return rest

    def _close(self, key: GroupKey) -> None:
        group = self._open.pop(key)
        if not group.elements:
            group.payload.discard()
            return
        count = len(group.elements)
        group.array = self._mode == "array" or count > 1
        group.stage = Stage.WAITING
        self._closed.append(group)

    def _room(self) -> int:
        if self._mode == "job":
            return 1
        limits = self.cluster.limits
        most = limits.max_array_size or USUAL_ARRAY
        return max(1, min(most, limits.max_submitted or most))

    def _new(self, key: GroupKey, call: TaskCall) -> Submission:
        folders = Folders(self._root.run_dir, new_token(self._root.run_id))
        part = packing.pack_task(_shared_part(call), call.task.fn.__module__, call.task.name)
        group = Submission(
            cluster=self.cluster,
            folders=folders,
            request=key.resources,
            task=call.task.name,
            payload=packing.PayloadFile(folders.payload, part, packing.places()),
        )
        self._open[key] = group
        return group


def _key(call: TaskCall, resources: Resources) -> GroupKey:
    context = call.context
    flow_run = context.flow_run.id if context.flow_run is not None else None
    return GroupKey(id(call.task), flow_run, tuple(context.tags), context.log_prints, resources)


def _pack(group: Submission, calls: Sequence[TaskCall]) -> list[tuple[TaskCall, Exception]]:
    """Add calls to a group; return those that cannot be sent, and why."""
    batch = [packing.Arguments(_bare_task_run(c.run), c.args, c.kwargs) for c in calls]
    failed: list[tuple[TaskCall, Exception]] = []
    for call, index in zip(
        calls, packing.pack_calls(group.payload, group.task, batch), strict=True
    ):
        if isinstance(index, PayloadError):
            failed.append((call, index))
        else:
            group.elements.append(Element(call, group, index))
    return failed


def _shared_part(call: TaskCall) -> tuple[object, ...]:
    """Return what all runs of a group share: what `inside` unpacks."""
    context = call.context
    root = context.root
    settings = None if root is None else root.settings
    return (
        call.task,
        _bare_flow_run(context),
        tuple(context.tags),
        context.log_prints,
        settings,
    )


def _bare_flow_run(context: RunContext) -> FlowRun | None:
    """Return the flow run without its state, and without parameters that cannot be pickled."""
    if context.flow_run is None:
        return None
    bare = copy.copy(context.flow_run)
    bare.state = None
    bare.parameters = {name: value for name, value in bare.parameters.items() if _is_small(value)}
    return bare


def _is_small(value: object) -> bool:
    try:
        return len(packing.dumps(value)) <= 65536  # noqa: PLR2004 - as small as an inline result
    except Exception:  # noqa: BLE001 - whatever cannot be pickled is left out
        return False


def _bare_task_run(run: TaskRun) -> TaskRun:
    """Return the task run without its state and arguments, which travel by themselves."""
    bare = copy.copy(run)
    bare.state = None
    bare.parameters = {}
    return bare
