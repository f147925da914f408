"""Pauses: nothing new begins in a flow run until somebody lets it go on.

`pause_flow_run()` in a flow asks for one, and the file `control/pause` in the run's folder does;
`control/resume` ends it. The thread that looks for `control/cancel` looks for these too. While a
flow run is paused, no task run and no subflow of it begins, in whatever way it was called, and no
job is submitted; what runs goes on to its end, jobs in the queue among it.

A run that nobody pauses pays for this with one look at an empty dict for each call.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from hpc_flows.futures import has_ended
from hpc_flows.logging import INFO, run_log
from hpc_flows.states import Cancelled, Paused, Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from hpc_flows.context import RootRun, RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.runs import FlowRun, TaskRun

#: Seconds between two looks whether a pause is over; nobody looks where nothing is paused.
PERIOD = 0.1

#: Of the flow runs that are open, and of what is paused: many threads change them.
_lock = allocate_lock()


class Pause:
    """Why a flow run is paused.

    Attributes:
        reason: in words, for its state.
        details: facts of who asked, for its state.
    """

    __slots__ = ("details", "reason")

    def __init__(self, reason: str, details: dict[str, Any] | None = None) -> None:
        self.reason = reason
        self.details = details or {}


def opened(context: RunContext) -> None:
    """Note a flow run that begins, so that it can be paused."""
    if context.root.flows is not None:
        context.root.flows[context.flow_run.id] = context  # type: ignore[union-attr]


def closed(context: RunContext) -> None:
    """Forget a flow run that is about to be recorded as ended: no Paused comes after that.

    What it has handed out and is to be cancelled now stays held.
    """
    if context.root.flows is not None:
        with _lock:
            context.root.flows.pop(context.flow_run.id, None)  # type: ignore[union-attr]


def flows_within(context: RunContext) -> list[RunContext]:
    """Return the contexts of the open flow runs that a flow run contains, however deep."""
    open_flows = context.root.flows or {}
    found: dict[str, RunContext] = {context.flow_run.id: context}  # type: ignore[union-attr]
    for id_, other in list(open_flows.items()):  # those above stand before those below
        if other.flow_run.parent_flow_run_id in found:
            found[id_] = other
    return [each for each in found.values() if each is not context]


def is_held(root: RootRun, run: FlowRun | None) -> bool:
    """Tell whether a flow run is paused, or one that it is part of, or the whole run."""
    if not root.pauses:
        return False
    if root.run_id in root.pauses:
        return True
    while run is not None:
        if run.id in root.pauses:
            return True
        above = (root.flows or {}).get(run.parent_flow_run_id or "")
        run = None if above is None else above.flow_run
    return False


def pause(root: RootRun, flow_run_id: str, why: Pause) -> None:
    """Let nothing more begin in a flow run; say so of it and of its subflows."""
    with _lock:
        root.pauses[flow_run_id] = why
        _mark(root)
        for context in _open(root):
            run = context.flow_run
            if run.state is not None and run.state.is_running() and is_held(root, run):
                own = run.id == flow_run_id
                reason = why.reason if own else f"A flow run that it is part of: {why.reason}"
                root.record("flow", run, Paused(reason, details=why.details))
                run_log(context, INFO, f"Paused. {reason}")


def resume(root: RootRun, flow_run_id: str | None = None, message: str = "") -> None:
    """Let a flow run go on; None stands for all that is paused."""
    with _lock:
        if flow_run_id is None:
            root.pauses.clear()
        else:
            root.pauses.pop(flow_run_id, None)
        _mark(root)
        for context in _open(root):
            run = context.flow_run
            if run.state is not None and run.state.is_paused() and not is_held(root, run):
                root.record("flow", run, Running(message or "Resumed."))
                run_log(context, INFO, message or "Resumed.")


def _open(root: RootRun) -> list[Any]:
    return list((root.flows or {}).values())


def _mark(root: RootRun) -> None:
    """Leave or remove the mark `control/paused`: those outside see subflows' pauses by it.

    `control/was-paused` stays from the first pause on: whoever sums the run up then reads all of
    its journal, not the ends alone.
    """
    folder = os.path.join(root.run_dir, "control")
    mark = os.path.join(folder, "paused")
    try:
        if root.pauses:
            with open(os.path.join(folder, "was-paused"), "a", encoding="utf-8"):
                pass
            with open(mark, "w", encoding="utf-8") as file:
                file.writelines(f"{id_} {why.reason}\n" for id_, why in root.pauses.items())
        else:
            os.unlink(mark)
    except OSError:
        return  # the disk is full, say, or there is no mark; what is paused is known here


# What begins waits -------------------------------------------------------------------------------


class Hold:
    """Wait until a flow run goes on, or a run in it has been ended by somebody.

    A task run that waits while the whole run is being cancelled is recorded as cancelled: the
    flow may wait for it in a way that nothing else ends.
    """

    __slots__ = ("_flow_run", "_root", "_run")

    def __init__(self, root: RootRun, flow_run: FlowRun | None, run: FlowRun | TaskRun) -> None:
        self._root = root
        self._flow_run = flow_run
        self._run = run

    def _is_on(self) -> bool:
        if not is_held(self._root, self._flow_run) or self._has_ended():
            return False
        reason = self._root.cancel_reason
        if reason is None or self._run is self._flow_run:
            return True
        self._root.record("task", self._run, Cancelled(reason))
        return False

    def _has_ended(self) -> bool:
        return self._run.state is not None and has_ended(self._run.state)

    def perform(self) -> None:
        """Wait."""
        while self._is_on():
            time.sleep(PERIOD)

    async def aperform(self) -> None:
        """Wait, and let others run."""
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        while self._is_on():  # noqa: ASYNC110 - whoever resumes is in no event loop
            await asyncio.sleep(PERIOD)


def after_pause(context: RunContext, run: TaskRun, steps: Callable[[], Steps]) -> Steps:
    """Run a task once its flow run goes on; return its last state."""
    yield Hold(context.root, context.flow_run, run)
    if run.state is not None and has_ended(run.state):
        return run.state  # it was cancelled before it could begin
    return (yield from steps())


def held_flow(context: RunContext) -> Steps:
    """Hold a flow run that is about to begin, or to be tried again, while it is paused."""
    root: Any = context.root
    run: Any = context.flow_run
    with _lock:
        if not is_held(root, run):
            return
        why = root.pauses.get(run.id) or next(iter(root.pauses.values()))
        root.record("flow", run, Paused(why.reason, details=why.details))
    yield Hold(root, run, run)


# Requests ----------------------------------------------------------------------------------------


def heed(root: RootRun) -> None:
    """Do what the files `control/pause` and `control/resume` ask for, the older one first."""
    folder = os.path.join(root.run_dir, "control")
    for _, action, request in sorted(_requests(folder), key=lambda item: item[0]):
        if action == "resume":
            resume(root, _meant(request), _resumed_by(request))
            continue
        meant = _meant(request) or root.run_id
        if meant == root.run_id or meant in (root.flows or {}):  # else it has ended meanwhile
            pause(root, meant, _asked_for(request))


def _requests(folder: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for action in ("pause", "resume"):
        path, taken = os.path.join(folder, action), os.path.join(folder, f".{action}-taken")
        try:
            os.rename(path, taken)  # another request that comes meanwhile is not lost
            stamp = os.stat(taken).st_mtime_ns
            with open(taken, encoding="utf-8") as file:
                text = file.read()
            os.unlink(taken)
        except OSError:
            continue  # there is none, or its writer has taken it back
        yield stamp, action, _read(text)


def _read(text: str) -> dict[str, Any]:
    import json  # noqa: PLC0415 - only once somebody asks

    try:
        request = json.loads(text)
    except ValueError:  # written by hand, with `touch`: it means what its name says
        return {}
    return request if isinstance(request, dict) else {}


def _meant(request: dict[str, Any]) -> str | None:
    """Return the id of the subflow that is meant; None for the whole run."""
    meant = request.get("flow_run")
    return meant if isinstance(meant, str) and meant else None


def _asked_for(request: dict[str, Any]) -> Pause:
    reason = str(request.get("reason") or "hpc-flows flow-run pause")
    known = {name: request[name] for name in ("by", "id") if request.get(name)}
    by = f" by {known['by']}" if "by" in known else ""
    return Pause(f"Paused{by}: {reason}", known)


def _resumed_by(request: dict[str, Any]) -> str:
    by = f" by {request['by']}" if request.get("by") else ""
    return f"Resumed{by}: {request['reason']}" if request.get("reason") else f"Resumed{by}."
