"""Tag limits: a task run with a tag that has a limit takes a slot of it before it begins.

A run keeps its slot through its retries. It gives it back while its function waits for other
runs, as it does with its place in a thread pool, so that what it waits for can have it.
A task that is called, not submitted, by a task with the same tag shares that one's slot: of the
two only one is at work.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from hpc_flows.concurrency.limits import TAG, find_limit
from hpc_flows.concurrency.sync import slept
from hpc_flows.concurrency.taking import Wanted, give_back, taking
from hpc_flows.engine.cancelling import record_abort
from hpc_flows.engine.drive import Sleep
from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.leases import Lease
from hpc_flows.logging import ERROR, WARNING, run_log
from hpc_flows.states import AwaitingConcurrencySlot, Failed, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.runs import TaskRun

#: Seconds without a sign of life after which the slot of a run on another machine is free.
SLOT_TTL = 120.0


class TagSlots:
    """The slots that a task run holds, one for each of its tags that has a limit.

    It is one of the `slots` of the run's context: see `RunContext`.
    """

    def __init__(self, names: list[str], run: TaskRun, context: RunContext) -> None:
        self.names = names
        self._run = run
        self._context = context
        self._thread = get_ident()
        self._leases: list[Lease] = []
        self._pauses = 0

    def is_of_caller(self) -> bool:
        """Tell whether the run that holds them runs in this thread, beneath the caller.

        A thread of a pool runs others after it, which `end` tells apart.
        """
        return self._thread == get_ident()

    def take(self) -> Generator[float, None, None]:
        """Take the slots; yields the seconds to sleep before it goes on."""
        self._thread = get_ident()
        self._leases = self._handed_on()
        have = {lease.path for lease in self._leases}
        if len(have) < len(self.names):
            give_back(self._leases)
            self._leases = []
            self._leases = yield from taking(
                wanted_for(self._run, self.names, self._context, self._lost)
            )

    def _handed_on(self) -> list[Lease]:
        """Adopt what the driver took for the job that this is."""
        found = []
        for path, token in self._run.slots:
            lease = Lease.adopt(path, token, note=self._run.name, ttl=SLOT_TTL, on_lost=self._lost)
            if lease is not None:
                found.append(lease)
        self._run.slots = ()
        return found

    def _lost(self, lease: Lease) -> None:
        run_log(
            self._context,
            WARNING,
            f"The slot {lease.path} of a tag's limit was lost: it was not renewed for "
            f"{lease.holder.ttl:g} s, or somebody has freed it. The run goes on; others may have "
            f"the slot now.",
        )

    def pause(self) -> None:
        """Give the slots back while the run waits; not where an event loop runs.

        There `resume` could not wait for them without holding up everything else.
        """
        if not self.is_of_caller() or _in_event_loop():
            return
        self._pauses += 1
        if self._pauses == 1:
            self.release()

    def resume(self) -> None:
        """Take the slots again, and wait for them if need be."""
        if not self.is_of_caller() or not self._pauses:
            return
        self._pauses -= 1
        if self._pauses == 0:
            slept(self.take())

    def release(self) -> None:
        """Give the slots back."""
        give_back(self._leases)
        self._leases = []

    def end(self) -> None:
        """Give the slots back for good."""
        self._thread = 0
        self.release()


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - quick


def limited(run: TaskRun, home: str) -> list[str]:
    """Return the names of the limits that a run's tags have."""
    names = [TAG + tag for tag in run.tags]
    limits = {name: find_limit(name, home) for name in names}
    return [name for name, limit in limits.items() if limit is not None and limit.active]


def wanted_for(
    run: TaskRun,
    names: list[str],
    context: RunContext,
    on_lost: Callable[[Lease], object] | None = None,
) -> Wanted:
    """Return what a run wants: a slot of each of these limits."""
    wanted = Wanted(names, note=run.name, ttl=SLOT_TTL, on_lost=on_lost)
    wanted.home = context.root.settings.home
    return wanted


def held(
    task: Any, run: TaskRun, context: RunContext, attempts: Callable[[RunContext], Steps]
) -> Steps:
    """Take the slots that a run's tags need, run its attempts, and give the slots back."""
    shared: set[str] = set()
    for slot in context.slots:
        if isinstance(slot, TagSlots) and slot.is_of_caller():
            shared.update(slot.names)
    names = [name for name in limited(run, context.root.settings.home) if name not in shared]
    if not names:
        return (yield from attempts(context))
    slots = TagSlots(names, run, context)
    try:
        state = yield from _taken(task, run, context, slots)
        if state is not None:
            return state
        inner = context.copy()
        inner.slots = (*context.slots, slots)
        return (yield from attempts(inner))
    finally:
        slots.end()


def _taken(task: Any, run: TaskRun, context: RunContext, slots: TagSlots) -> Steps:
    """Take slots, waiting in the state AwaitingConcurrencySlot; return the state of a failure."""
    del task
    steps = slots.take()
    waits = False
    try:
        for pause in steps:
            if not waits:
                waits = True
                tell_waiting(run, context, slots.names)
            yield Sleep(pause)
    except HpcFlowsError as error:
        return failed(run, context, error)
    except BaseException as error:
        steps.close()
        record_abort(run, context, error)
        raise
    return None


def tell_waiting(run: TaskRun, context: RunContext, names: list[str]) -> None:
    """Record that a run waits for slots."""
    tags = ", ".join(name.removeprefix(TAG) for name in names)
    context.root.record(
        "task", run, AwaitingConcurrencySlot(f"Waiting for a slot of the tag limits of {tags}.")
    )


def failed(run: TaskRun, context: RunContext, error: HpcFlowsError) -> State:
    """Record that a run can never have its slots, and return its last state."""
    state: State = Failed(f"Task run did not get its concurrency slots: {error}", data=error)
    context.root.record("task", run, state)
    run_log(context, ERROR, f"Finished in state {state!r}")
    return state
