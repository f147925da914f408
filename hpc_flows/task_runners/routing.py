"""Which runner gets which call, and when: after the runs have ended that the call waits for."""

from __future__ import annotations

import os
from _thread import allocate_lock

from hpc_flows.context import RunContext, current, open_root
from hpc_flows.engine.cancelling import watch
from hpc_flows.engine.task_engine import not_ready, with_values
from hpc_flows.exceptions import UpstreamTaskError, text_of
from hpc_flows.futures import find_futures, is_plain
from hpc_flows.runs import new_id
from hpc_flows.settings import get_settings
from hpc_flows.states import Cancelled, Crashed, StateType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any

    from hpc_flows.context import Dispatch
    from hpc_flows.futures import TaskFuture
    from hpc_flows.task_runners.base import TaskCall, TaskRunner
    from hpc_flows.task_runners.machine import Machine, Reservation

_RUNNING = StateType.RUNNING

#: Of what the flow runs of one root run share: several of them may begin at once, in threads.
_shared = allocate_lock()


class Router:
    """Gives the calls of one flow run to runners.

    Tasks without resources go to the flow's own runner. Tasks with resources go to the flow's
    runner if it places resources, else to the active cluster's; with no cluster active this
    machine's cpus, memory and GPUs bound what the flow's runner runs at once.
    """

    def __init__(self, context: RunContext, runner: TaskRunner | None = None) -> None:
        """Route the calls of `context`'s flow run.

        Args:
            context: whose calls; it must have a root.
            runner: the flow's runner, which the router starts and closes; None takes threads.
        """
        self._context = context
        self._runner = runner
        self._started = False
        self._local: TaskRunner | None = None
        self._admission: Any = None
        self._lock = allocate_lock()

    def __call__(self, task: Any, calls: Sequence[TaskCall]) -> None:
        """Run calls of one task, each once what it waits for has ended.

        Where that raises, the calls that nobody has taken are ended: nobody has their futures.
        """
        submitted = self._context.submitted
        ready: list[TaskCall] = []
        waiting: list[TaskCall] = []
        for call in calls:
            submitted.add(call)
            plain = not call.wait_for and is_plain(call.args)
            plain = plain and (not call.kwargs or is_plain(call.kwargs.values()))
            (ready if plain else waiting).append(call)
        left = calls
        try:
            if ready:
                self._submit(task, ready)
            left = waiting
            if waiting:
                _WaitingCalls(self, task, waiting)
        except Exception as error:
            _refuse(left, error)
            raise

    def check(self, task: Any) -> None:
        """Raise ResourceError when the task asks for what can never be given."""
        given = self._runner
        if task.resources is not None or (given is not None and given.places_resources):
            self._runner_for(task).check(task)

    def takes(self, task: Any) -> bool:
        """Tell whether a direct call of the task goes to a runner too: one that has resources."""
        return task.resources is not None and self._runner_for(task).places_resources

    def hold(self, task: Any) -> Reservation:
        """Return a reservation of this machine for a direct call of a task with resources."""
        return self._machine().reserve(task.resources)

    def start_ready(self, task: Any, calls: Sequence[TaskCall]) -> None:
        """Submit calls whose upstream runs have all ended."""
        ready = []
        for call in calls:
            if call.future.done():  # cancelled while it waited
                continue
            try:
                args, kwargs = with_values(call.args, call.kwargs, call.wait_for)
            except UpstreamTaskError as error:
                call.future.resolve(not_ready(task, call.run, call.context, error))
            except Exception as error:  # noqa: BLE001 - a result that cannot be loaded, say
                call.end(Crashed(f"An argument could not be had: {text_of(error)}", data=error))
            else:
                call.args, call.kwargs, call.wait_for = tuple(args), kwargs, ()
                ready.append(call)
        if ready:
            self._submit(task, ready)

    def _submit(self, task: Any, calls: Sequence[TaskCall]) -> None:
        runner = self._runner_for(task)
        limited = calls[0].run.tags and os.path.isdir(
            f"{self._context.root.settings.home}/concurrency"
        )
        if runner.places_resources or limited:
            calls = _not_kept_yet(task, calls)
        if not calls:
            return
        if limited:
            self._admission_of().take(runner, calls)
            return
        for call in calls:
            call.given_to(runner)
        runner.submit(calls)

    def _admission_of(self) -> Any:
        with self._lock:
            if self._admission is None:
                from hpc_flows.task_runners.admission import Admission  # noqa: PLC0415 - few need it

                self._admission = Admission()
        return self._admission

    def cancel(self, reason: str, *, started: bool) -> None:
        """Cancel what has not ended; with `started=False`, only what has not begun."""
        by_runner: dict[int, list[TaskCall]] = {}
        for call in list(self._context.submitted.calls.values()):
            if call.runner is None:
                call.end(Cancelled(reason))
            elif started or call.run.state is None or call.run.state.type is not _RUNNING:
                by_runner.setdefault(id(call.runner), []).append(call)
        for calls in by_runner.values():
            runner = calls[0].runner
            if runner is not None:
                runner.cancel(calls, reason)

    def close(self) -> None:
        """Close the flow's runner; those of clusters live as long as the root run."""
        if self._runner is not None and self._started:
            self._runner.close()

    def _runner_for(self, task: Any) -> TaskRunner:
        root = self._context.root
        given = self._runner is not None and self._runner.places_resources
        # A job has its resources already: what it submits shares them.
        if task.resources is None or given or root.in_job:
            return self._own()
        if root.settings.cluster is not None:
            return self._cluster(root.settings.cluster)
        with self._lock:
            if self._local is None:
                from hpc_flows.task_runners.machine import MachineRunner  # noqa: PLC0415

                self._local = MachineRunner(self._machine(), self._own, self._context)
        return self._local

    def _own(self) -> TaskRunner:
        """Return the flow's runner, started."""
        if self._runner is not None and self._started:
            return self._runner
        with self._lock:
            if self._runner is None:
                # Here, because a flow that submits nothing needs no threads.
                from hpc_flows.task_runners.threads import ThreadPoolTaskRunner  # noqa: PLC0415

                self._runner = ThreadPoolTaskRunner()
            if not self._started:
                self._runner.start(self._context)
                self._started = True
            return self._runner

    def _cluster(self, name: str) -> TaskRunner:
        """Return the one runner of a cluster in this root run, started."""
        runners = self._context.root.runners
        with _shared:
            if name not in runners:
                from hpc_flows.task_runners.cluster import ClusterTaskRunner  # noqa: PLC0415

                runner = ClusterTaskRunner(name)
                runner.start(self._context)
                runners[name] = runner
            runner_: TaskRunner = runners[name]
            return runner_

    def _machine(self) -> Machine:
        root = self._context.root
        with _shared:
            if root.machine is None:
                from hpc_flows.task_runners.machine import Machine  # noqa: PLC0415 - few need it

                root.machine = Machine()
            machine: Machine = root.machine
        return machine


class _WaitingCalls:
    """Calls of one task that wait for futures; those that become ready together go together."""

    __slots__ = ("_dependents", "_left", "_lock", "_router", "_task")

    def __init__(self, router: Router, task: Any, calls: Sequence[TaskCall]) -> None:
        self._router = router
        self._task = task
        self._lock = allocate_lock()
        self._left: dict[str, int] = {}
        self._dependents: dict[str, list[TaskCall]] = {}
        upstream: dict[str, TaskFuture] = {}
        free = []
        for call in calls:
            futures = {
                future.task_run_id: future
                for future in find_futures((call.args, call.kwargs, call.wait_for))
            }
            upstream.update(futures)
            self._left[call.run.id] = len(futures)
            for run_id in futures:
                self._dependents.setdefault(run_id, []).append(call)
            if not futures:
                free.append(call)
        if free:
            router.start_ready(task, free)
        for future in upstream.values():
            future.add_done_callback(self._upstream_ended)

    def _upstream_ended(self, future: TaskFuture) -> None:
        ready = []
        with self._lock:
            for call in self._dependents.pop(future.task_run_id, ()):
                self._left[call.run.id] -= 1
                if self._left[call.run.id] == 0:
                    ready.append(call)
        if not ready:
            return
        try:
            self._router.start_ready(self._task, ready)
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it, and wait for ever
            _refuse(ready, error)


def _refuse(calls: Sequence[TaskCall], error: Exception) -> None:
    """End calls that no runner has taken; a flow would wait for them for ever."""
    for call in calls:
        call.end(Crashed(f"The run could not be submitted: {text_of(error)}", data=error))


def _not_kept_yet(task: Any, calls: Sequence[TaskCall]) -> Sequence[TaskCall]:
    """Resolve calls whose results other runs have left; return the others."""
    around = (call.context.transaction is not None or call.context.keeping for call in calls)
    if not task.recall and not any(around):
        return calls
    from hpc_flows.engine.recall_ahead import found_before  # noqa: PLC0415 - few tasks need it

    return found_before(calls)


def with_dispatch(context: RunContext) -> Dispatch:
    """Return what runs the calls of a context, a router of its own where there is nothing yet."""
    if context.dispatch is None:
        context.dispatch = Router(context)
    return context.dispatch


class standing_alone:  # noqa: N801 - reads as a statement: `with standing_alone(name) as context:`
    """Give a task that is called outside of any run a root run of its own, for a `with` block."""

    def __init__(self, task_name: str) -> None:
        self._context = _alone(task_name)

    def __enter__(self) -> RunContext:
        return self._context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_alone(self._context)


def _alone(task_name: str) -> RunContext:
    settings = get_settings()
    root = open_root(new_id(), {"task": task_name, "name": task_name}, settings)
    watch(root)
    from hpc_flows.settings.reported import is_reported  # noqa: PLC0415 - flows have another door

    if is_reported(settings):
        from hpc_flows.reporting.alone import begin_alone  # noqa: PLC0415 - only where it is wanted

        begin_alone(root)
    outer = current()  # it has tags, if anything
    tags = () if outer is None else outer.tags
    context = RunContext(root, tags=tags, log_prints=settings.log_prints)
    context.transaction = None if outer is None else outer.transaction
    with_dispatch(context)
    return context


def close_alone(context: RunContext) -> None:
    """Close a root run that a task got for itself."""
    dispatch: Any = context.dispatch
    dispatch.close()
    root = context.root
    if root is None:
        return
    root.close()
    from hpc_flows.settings.reported import is_reported  # noqa: PLC0415 - as above

    if is_reported(root.settings):
        from hpc_flows.reporting.alone import end_alone  # noqa: PLC0415 - as above

        end_alone(root)


def standing_alone_until_done(task_name: str) -> RunContext:
    """Return a root run of its own for calls that are submitted outside of any run.

    It is closed when the last of them has ended.
    """
    context = _alone(task_name)
    context.submitted.when_empty = lambda: close_alone(context)
    return context
