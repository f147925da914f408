"""Calls whose tags have limits wait here for their slots, before any runner gets them.

A job that is sent before there is a slot for it would hold its cpus while it waits, and a thread
would hold its place in the pool. So the flow's process takes the slots, gives the call to its
runner, and keeps them until the run has taken them over; however the run ends, they are free then.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread

from hpc_flows.concurrency.taking import give_back, taking
from hpc_flows.engine.slots import failed, limited, tell_waiting, wanted_for
from hpc_flows.exceptions import HpcFlowsError, text_of
from hpc_flows.leases import end
from hpc_flows.states import Crashed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import Any

    from hpc_flows.leases import Lease
    from hpc_flows.task_runners.base import TaskCall, TaskRunner

#: Longest pause: calls may have been cancelled meanwhile.
_LONGEST_PAUSE = 5.0


class Admission:
    """Calls of one flow run that wait for slots; those with the same limits in their order."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._wake = allocate_lock()
        self._wake.acquire()
        self._queues: dict[tuple[str, ...], _Queue] = {}
        self._running = False

    def take(self, runner: TaskRunner, calls: Sequence[TaskCall]) -> None:
        """Give calls to a runner, each when it has the slots that its tags need."""
        free = []
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        for call in calls:
            tags = call.run.tags
            if tags not in known:
                known[tags] = tuple(limited(call.run, call.context.root.settings.home))
            names = known[tags]
            if not names:
                free.append(call)
                continue
            with self._lock:
                self._queues.setdefault(names, _Queue(names)).calls.append((runner, call))
        if free:
            _submit(runner, free)
        self._go_on()

    def _go_on(self, _: object = None) -> None:
        """Look again now, in the thread that does it."""
        with self._lock:
            start = not self._running and any(queue.calls for queue in self._queues.values())
            self._running = self._running or start
            if self._wake.locked():
                self._wake.release()
        if start:
            start_new_thread(self._serve, ())

    def _serve(self) -> None:
        while True:
            with self._lock:
                queues = [queue for queue in self._queues.values() if queue.calls]
                if not queues:
                    self._running = False
                    return
            pause = _LONGEST_PAUSE
            for queue in queues:
                ready: dict[int, list[TaskCall]] = {}
                runners: dict[int, TaskRunner] = {}
                pause = min(pause, queue.advance(ready, runners, self._go_on))
                for key, calls in ready.items():
                    try:
                        _submit(runners[key], calls)
                    except Exception as error:  # noqa: BLE001 - the other calls go on
                        _end(calls, error)
            self._wake.acquire(True, pause)


def _submit(runner: TaskRunner, calls: list[TaskCall]) -> None:
    # Not before: until then the router cancels them, and runners know nothing of them.
    for call in calls:
        call.given_to(runner)
    runner.submit(calls)


def _end(calls: list[TaskCall], error: Exception) -> None:
    for call in calls:
        call.end(Crashed(f"The run could not be submitted: {text_of(error)}", data=error))


class _Queue:
    """Calls that need slots of the same limits."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = list(names)
        self.calls: list[tuple[TaskRunner, TaskCall]] = []
        self._steps: Generator[float, None, list[Lease]] | None = None
        self._told = 0

    def advance(
        self, ready: dict[int, list[TaskCall]], runners: dict[int, TaskRunner], go_on: Any
    ) -> float:
        """Move calls that have their slots into `ready`; return the seconds until the next look."""
        while self.calls:
            runner, call = self.calls[0]
            pause = self._pause(call)
            if pause is not None:
                self._tell()
                return pause
            del self.calls[0]
            self._told = max(0, self._told - 1)
            if not call.future.done():
                call.future.add_done_callback(go_on)
                runners[id(runner)] = runner
                ready.setdefault(id(runner), []).append(call)
        return _LONGEST_PAUSE

    def _pause(self, call: TaskCall) -> float | None:
        """Return how long the first call has to wait, or None if it need not any more."""
        if call.future.done():  # cancelled while it waited
            if self._steps is not None:
                self._steps.close()
                self._steps = None
            return None
        try:
            if self._steps is None:
                self._steps = taking(wanted_for(call.run, self.names, call.context))
            return next(self._steps)
        except StopIteration as found:
            _keep(call, found.value)
        except HpcFlowsError as error:
            call.future.resolve(failed(call.run, call.context.for_task(call.task, call.run), error))
        self._steps = None
        return None

    def _tell(self) -> None:
        """Record, once, of every call that it waits."""
        for _, call in self.calls[self._told :]:
            if not call.future.done():
                tell_waiting(call.run, call.context, self.names)
        self._told = len(self.calls)


def _keep(call: TaskCall, leases: list[Lease]) -> None:
    """Keep the slots of a call until its job adopts them, and free them when the run has ended."""
    call.run.slots = tuple((lease.path, lease.bequeath()) for lease in leases)

    def give(_: object) -> None:
        for lease in leases:
            try:
                if not lease.release():
                    end(lease.path, lease.token)
            except HpcFlowsError:  # its time will end it
                continue

    call.future.add_done_callback(give)
    if call.future.done():
        give_back(leases)
