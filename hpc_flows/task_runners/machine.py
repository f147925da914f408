"""This machine, where no cluster is active: what runs at once is bounded by what it has."""

from __future__ import annotations

import os
from _thread import allocate_lock
from functools import partial

from hpc_flows.context import give_way
from hpc_flows.exceptions import DoesNotFit, text_of
from hpc_flows.logging import WARNING, run_log
from hpc_flows.resources import format_memory
from hpc_flows.states import Crashed
from hpc_flows.task_runners.base import TaskRunner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.resources import Resources
    from hpc_flows.task_runners.base import TaskCall

    Amounts = tuple[int, int, int]


class Machine:
    """The cpus, memory and GPUs of this machine, and who holds how much of them.

    Attributes:
        cpus: cpus that this process may use.
        memory: bytes.
        gpus: GPUs that this process may use.
        warned_of: names of tasks of which it was told what they do not get here.
    """

    def __init__(
        self, cpus: int | None = None, memory: int | None = None, gpus: int | None = None
    ) -> None:
        self.cpus = usable_cpus() if cpus is None else cpus
        self.memory = _memory() if memory is None else memory
        self.gpus = _gpus() if gpus is None else gpus
        self.warned_of: set[str] = set()
        self._free: Amounts = (self.cpus, self.memory, self.gpus)
        self._queue: list[Reservation] = []
        self._lock = allocate_lock()

    def __str__(self) -> str:
        return f"{self.cpus} cpus, {format_memory(self.memory)} of memory and {self.gpus} GPUs"

    def check(self, name: str, resources: Resources) -> None:
        """Raise DoesNotFit when the machine could not hold `resources` even if it were idle."""
        asked = _amounts(resources)
        has = (self.cpus, self.memory, self.gpus)
        if all(map(int.__le__, asked, has)) and (resources.nodes or 1) == 1:
            return
        msg = (
            f"Task {name!r} asks for {resources.describe()}, and no cluster is active; this "
            f"machine has {self}. Choose a cluster: HPC_FLOWS_CLUSTER=<name> "
            f"(`hpc-flows cluster ls` lists them; `mock` is one to try with), or "
            f"task_runner=SlurmTaskRunner(...) on the flow. Or ask for less, with "
            f"task.with_options(resources=...)."
        )
        raise DoesNotFit(msg)

    def reserve(self, resources: Resources) -> Reservation:
        """Return a reservation; it is granted once all earlier ones were and there is room."""
        reservation = Reservation(self, _amounts(resources))
        with self._lock:
            self._queue.append(reservation)
        self._grant()
        return reservation

    def _grant(self) -> None:
        granted = []
        with self._lock:
            while self._queue and all(map(int.__le__, self._queue[0].amounts, self._free)):
                granted.append(self._take(self._queue.pop(0)))
        for reservation in granted:
            reservation.granted()

    def _take(self, reservation: Reservation) -> Reservation:
        self._free = _minus(self._free, reservation.amounts)
        return reservation

    def _give(self, reservation: Reservation) -> None:
        with self._lock:
            if reservation in self._queue:
                self._queue.remove(reservation)
            else:
                self._free = _minus(self._free, _minus((0, 0, 0), reservation.amounts))
        self._grant()

    def _retake(self, reservation: Reservation) -> None:
        """Take amounts again at once: more than there is, for a while, if others took them."""
        with self._lock:
            self._take(reservation)


class Reservation:
    """A share of the machine for one task: wait for it, and release it."""

    def __init__(self, machine: Machine, amounts: Amounts) -> None:
        self.amounts = amounts
        self._machine = machine
        self._gate = allocate_lock()
        self._gate.acquire()
        self._lock = allocate_lock()
        self._is_granted = False
        self._callbacks: list[Callable[[Any], None]] = []

    def granted(self) -> None:
        """Let those who wait go on."""
        with self._lock:
            self._is_granted = True
            callbacks, self._callbacks = self._callbacks, []
        self._gate.release()
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(self)` once it is granted."""
        with self._lock:
            if not self._is_granted:
                self._callbacks.append(callback)
                return
        callback(self)

    def wait(self) -> None:
        """Wait until it is granted; the caller's own places are given back meanwhile."""
        if self._is_granted:
            return
        resume = give_way()
        try:
            with self._gate:
                pass
        finally:
            resume()

    def pause(self) -> None:
        """Give the share back while the task waits for another."""
        self._machine._give(self)  # noqa: SLF001 - the two are one mechanism

    def resume(self) -> None:
        """Take the share again."""
        self._machine._retake(self)  # noqa: SLF001 - the two are one mechanism

    def release(self, _: object = None) -> None:
        """Give the share back for good, or leave the queue."""
        self._machine._give(self)  # noqa: SLF001 - the two are one mechanism


class MachineRunner(TaskRunner):
    """Holds calls back until this machine has what they ask for, then gives them to a runner."""

    name = "this machine"

    def __init__(
        self, machine: Machine, inner: Callable[[], TaskRunner], context: RunContext
    ) -> None:
        self._machine = machine
        self._inner = inner
        self._context = context

    def check(self, task: Any) -> None:
        """Raise DoesNotFit when the machine could never hold what the task asks for."""
        self._machine.check(task.name, task.resources)
        missed = [name for name in _ON_CLUSTERS if getattr(task.resources, name)]
        if missed and task.name not in self._machine.warned_of:
            self._machine.warned_of.add(task.name)
            run_log(self._context, WARNING, _missed(task.name, missed))

    def submit(self, calls: Sequence[TaskCall]) -> None:
        """Start each call as soon as there is room for it."""
        for call in calls:
            reservation = self._machine.reserve(call.task.resources)
            call.future.add_done_callback(reservation.release)
            call.context = call.context.copy()
            call.context.slots = (*call.context.slots, reservation)
            reservation.add_done_callback(partial(self._start, call))

    def _start(self, call: TaskCall, _: Reservation) -> None:
        if call.future.done():
            return
        try:
            self._inner().submit([call])
        except Exception as error:  # noqa: BLE001 - it would end who has just made room for it
            message = f"The run could not be started: {text_of(error)}"
            call.end(Crashed(message, data=error))

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        """Cancel calls, whether they are held back or started."""
        self._inner().cancel(calls, reason)


#: Resources that change what a task finds around it, and that only jobs can be given.
_ON_CLUSTERS = ("modules", "environment", "container")


def _missed(name: str, missed: Sequence[str]) -> str:
    it, does = ("They", "have") if len(missed) > 1 else ("It", "has")
    return (
        f"Task {name!r} runs on this machine without the {' and '.join(missed)} that it asks for, "
        f"because no cluster is active. {it} {does} an effect on clusters only."
    )


def _amounts(resources: Resources) -> Amounts:
    """Return the cpus, bytes and GPUs of one task, on one node."""
    tasks = resources.tasks_per_node or 1
    return (resources.cpus or 1) * tasks, resources.memory or 0, resources.gpu_count


def _minus(a: Amounts, b: Amounts) -> Amounts:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def usable_cpus() -> int:
    """Return how many cpus this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gpus() -> int:
    """Count NVIDIA's GPUs: those of CUDA_VISIBLE_DEVICES, or those that the driver shows."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    try:
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        return 0
