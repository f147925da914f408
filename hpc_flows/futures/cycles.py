"""Finds task runs of this process that wait for each other, before they do so for ever."""

from __future__ import annotations

from _thread import allocate_lock

from hpc_flows.exceptions import CycleOfWaits
from hpc_flows.states import StateType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from hpc_flows.futures import TaskFuture

_lock = allocate_lock()
#: What each task run is waiting for, by its id; it may wait in several threads.
_waits: dict[str, list[Sequence[TaskFuture]]] = {}


def note_wait(context: Any, futures: Sequence[TaskFuture]) -> Callable[[], None] | None:
    """Note that the task run of a `RunContext` waits; return what ends that, or None.

    Raises:
        CycleOfWaits: the futures wait for it themselves.
    """
    run, outer = context.task_run, context.flow_run
    if run is not None:
        return _begin_wait((*run.callers, run.id), futures, context.submitted.calls)
    if outer is None or outer.parent_task_run_id is None:
        return None
    return _begin_wait((outer.parent_task_run_id,), futures, context.submitted.calls)


def _begin_wait(
    waiting: Sequence[str], futures: Sequence[TaskFuture], calls: Mapping[str, Any]
) -> Callable[[], None]:
    """Note that task runs wait for all of some futures; return what ends that.

    Args:
        waiting: ids of the task run that waits, and of those in whose code it was called.
        futures: what is waited for.
        calls: `TaskCall`s that have not ended, by the ids of their runs: where runs that have not
            begun find those that they wait for.

    Raises:
        CycleOfWaits: one of the futures waits for one of the runs, directly or through others.
    """
    with _lock:
        for run_id in waiting:
            _waits.setdefault(run_id, []).append(futures)
        names = _way_back(set(waiting), futures, calls)
    if names is not None:
        _end(waiting, futures)
        raise CycleOfWaits(_told(names))

    def end() -> None:
        _end(waiting, futures)

    return end


def _end(waiting: Sequence[str], futures: Sequence[TaskFuture]) -> None:
    with _lock:
        for run_id in waiting:
            waits = _waits[run_id]
            waits[:] = [each for each in waits if each is not futures]
            if not waits:
                del _waits[run_id]


def _way_back(
    waiting: set[str], futures: Sequence[TaskFuture], calls: Mapping[str, Any]
) -> list[str] | None:
    """Return the names of the runs on the way from the futures to who waits, or None for no way."""
    seen: set[str] = set()
    ways: list[tuple[TaskFuture, tuple[str, ...]]] = [(future, ()) for future in futures]
    while ways:
        future, before = ways.pop()
        names = (*before, future.name)
        if future.task_run_id in waiting:
            return list(names)
        if future.task_run_id in seen or future.done():
            continue
        seen.add(future.task_run_id)
        ways += [(each, names) for each in _waited_for_by(future, calls)]
    return None


def _waited_for_by(future: TaskFuture, calls: Mapping[str, Any]) -> Iterator[TaskFuture]:
    """Yield the futures that a task run which has not ended waits for."""
    run = future.task_run
    for futures in _waits.get(run.id, ()):
        yield from futures
    if run.upstream and (run.state is None or run.state.type is StateType.PENDING):
        for run_id in run.upstream:
            call = calls.get(run_id)
            if call is not None:
                yield call.future


def _told(names: list[str]) -> str:
    """Say who waits for whom; the last of the names is the one that waits."""
    *between, last = names
    through = "".join(f"{name!r}, which waits for " for name in between)
    what = f"{through}{last!r}" if between else "itself"
    return (
        f"Task run {last!r} waits for {what}, so that none of them would ever end (a deadlock). "
        f"Submit the task that needs the value with the future as an argument, instead of waiting "
        f"for the future in the code of a task that it depends on."
    )
