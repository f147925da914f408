"""What runs inside one job or array element: one task run, from its payload to its outcome.

In order: take the lease (the job's own journal file; the first instance wins), open the payload,
compare versions, put the user's folders back, load the task, run it through the engine, keep its
result, record the outcome durably, and only then leave the mark by which the driver finds it.

A thousand elements pay for every import here a thousand times: see docs/reference/import-cost.md.
"""

from __future__ import annotations

import os
import sys
from time import monotonic, time

from hpc_flows.context import RootRun, RunContext, current
from hpc_flows.engine.drive import drive
from hpc_flows.engine.task_engine import run_task
from hpc_flows.exceptions import (
    HpcFlowsError,
    JournalError,
    JournalTaken,
    PayloadError,
    ResultError,
)
from hpc_flows.jobs.payload import Payload, read_payload
from hpc_flows.journal.event import shortened
from hpc_flows.journal.folder import read_key
from hpc_flows.journal.writer import JournalWriter
from hpc_flows.logging import ERROR, INFO, active_capture, attach_loggers, run_log
from hpc_flows.results.kept import RunResults
from hpc_flows.settings import adopt
from hpc_flows.states import Crashed, Failed, State, StateType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, NoReturn

    from hpc_flows.runs import FlowRun, TaskRun

#: Exit statuses of the job. A failure that was recorded has one that Python itself never uses, so
#: that the driver knows whether to wait for a record.
COMPLETED, FAILED = 0, 3

_SIGTERM, _SIG_DFL = 15, 0


class Job:
    """Which job this is.

    Attributes:
        run_dir, token, index: as given by the script.
        restart: how often the scheduler has started it before.
        id: the scheduler's id as people write it, `351` or `351_3`.
        node: this node's name.
        began: the monotonic clock at the start.
        environ: the environment that the scheduler started it with, which `runtime.job` reads.
    """

    __slots__ = ("began", "environ", "id", "index", "node", "restart", "run_dir", "token")

    def __init__(self, arguments: list[str], environ: dict[str, str]) -> None:
        names = [word for word in arguments if not word.startswith("--")]
        if len(names) not in (2, 3):
            usage = "usage: run.py RUN_DIR TOKEN [INDEX] [--retake]"
            raise PayloadError(f"{usage}; it was given {arguments}")
        self.run_dir, self.token = names[0], names[1]
        self.environ = environ
        element = environ.get("SLURM_ARRAY_TASK_ID", "")
        self.index = int(names[2] if len(names) > 2 else element or "0")  # noqa: PLR2004 - the third word
        self.restart = int(environ.get("SLURM_RESTART_COUNT") or "0")
        array = environ.get("SLURM_ARRAY_JOB_ID", "")
        self.id = f"{array}_{element}" if array else environ.get("SLURM_JOB_ID", "")
        self.node = environ.get("SLURMD_NODENAME") or os.uname().nodename
        self.began = monotonic()
        if "--retake" in arguments:
            self.restart = self._next_restart()

    def writer(self, restart: int) -> str:
        """Return the name of the journal of one start of this element."""
        return f"{self.token}-{self.index}-{restart}"

    def mark(self, restart: int) -> str:
        """Return the path of the file that says: this start has left its outcome."""
        return os.path.join(self.run_dir, "journal", self.writer(restart) + ".ended")

    def _next_restart(self) -> int:
        restart = self.restart
        path = os.path.join(self.run_dir, "journal", "")
        while os.path.exists(f"{path}{self.writer(restart)}.jsonl"):
            restart += 1
        return restart

    def is_done(self) -> bool:
        """Tell whether an earlier start of this element has left an outcome."""
        return any(os.path.exists(self.mark(restart)) for restart in range(self.restart))


class JobRun(RootRun):
    """The run as a job sees it: states carry what the job knows of its node, results are kept."""

    __slots__ = ("job", "shares")

    job: Job
    #: Whether it was said that tasks in a job share what the job has.
    shares: bool

    def record_task(self, run: TaskRun) -> None:
        """Journal a run inside of the job's own; what it asks for has no effect, and is told."""
        super().record_task(run)
        self._tell_of_sharing((run,))

    def record_begun(self, run: TaskRun, state: State) -> None:
        """Journal a run inside of the job's own, and the state that it starts in."""
        super().record_begun(run, state)
        self._tell_of_sharing((run,))

    def record_pending(self, runs: Sequence[TaskRun]) -> None:
        """Journal runs inside of the job's own that wait to be started."""
        super().record_pending(runs)
        self._tell_of_sharing(runs)

    def _tell_of_sharing(self, runs: Sequence[TaskRun]) -> None:
        asking = next((run for run in runs if run.resources is not None), None)
        context = current()
        if asking is None or asking.resources is None or self.shares or context is None:
            return
        self.shares = True
        text = (
            f"Task {asking.task_name!r} asks for {asking.resources.describe()}, which has no "
            f"effect inside of job {self.job.id}: tasks that are called in a job run there, and "
            "share what it has. For a job of its own, submit it from the flow."
        )
        run_log(context, INFO, text)

    def record(
        self,
        subject: Literal["task", "flow"],
        run: FlowRun | TaskRun,
        state: State,
        log: str | None = None,
    ) -> bool:
        """Journal a state; a final one with its result or error, and durably.

        Raises:
            ResultError: the value cannot be kept.
        """
        if subject == "flow" or run.id != self.job_task_run:
            return super().record(subject, run, state, log)
        data: dict[str, Any] = {
            "subject": subject,
            "id": run.id,
            "type": state.type.value,
            "name": state.name,
            "attempt": run.run_count,
        }
        if state.message:
            data["message"] = shortened(str(state.message))
        final = state.is_final()
        if final:
            _log_output()
            self._keep(data, run.name, state)
        run.state = state
        data["details"] = {**state.details, **facts(self.job, final=final)}
        self.journal.write("state", data, durable=final)
        return log is None or not self.journal.write_texts(("log", log))

    @property
    def job_task_run(self) -> str:
        """Id of the task run that the job is for; others in it are the user's own doing."""
        return _task_run[0]

    def _keep(self, data: dict[str, Any], name: str, state: State) -> None:
        value = state.data
        if getattr(value, "is_persisted", False):
            # Kept for other runs: what the record says is enough.
            data["result"] = {"record": value.metadata.model_dump_json()}
        elif state.type is StateType.COMPLETED:
            data["result"] = self.results.keep(name, value)
        elif isinstance(value, BaseException):
            data["result"] = self.results.keep_error(value, name)


_task_run = [""]


def facts(job: Job, *, final: bool) -> dict[str, Any]:
    """Return what a state says of the job: where it is, and at its end what it has used."""
    found: dict[str, Any] = {"job": job.id, "node": job.node, "restart": job.restart}
    if not final:
        found["pid"] = os.getpid()
        return found
    # Not loaded by bare Python, and wanted once.
    from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage  # noqa: PLC0415

    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    found["elapsed"] = round(monotonic() - job.began, 3)
    found["max_rss"] = max(own.ru_maxrss, children.ru_maxrss) * 1024
    found["cpu"] = round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3)
    kills = oom_kills(job.id)
    if kills:
        found["oom_kills"] = kills
    return found


def oom_kills(job: str, proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> int:
    """Return how many processes of the job the kernel has killed for memory.

    Only counters of cgroups that Slurm made for this very job are believed: those further up
    count other people's processes too.
    """
    number = os.environ.get("SLURM_JOB_ID") or job
    try:
        with open(proc, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if f"/job_{number}/" in path + "/" and controllers in ("", "memory"):
            name = "memory.oom_control" if controllers else "memory.events"
            return _counter(os.path.join(mount, controllers, path.lstrip("/"), name))
    return 0


def _counter(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            words = file.read().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def main(arguments: list[str]) -> NoReturn:
    """Run the task run of this job; ends the process."""
    _print_by_lines()
    try:
        job = Job(arguments, dict(os.environ))
        # What reads settings here finds the home of the flow, whose environment stayed there.
        os.environ.setdefault("HPC_FLOWS_HOME", os.path.dirname(os.path.dirname(job.run_dir)))
        journal = _take_lease(job)
    except (HpcFlowsError, ValueError) as error:
        sys.stderr.write(f"hpc_flows: {error}\n")
        _leave(FAILED)
    if journal is None:
        _leave(COMPLETED)
    status = _run(job, journal)
    journal.close()
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    os.close(os.open(job.mark(job.restart), flags, 0o600))
    _leave(status)


def _print_by_lines() -> None:
    """Have what the task prints in the job's output at once: a killed process flushes nothing.

    By lines, as on a terminal; `python -u` would write each piece of a line by itself.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the descriptor may be closed
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr] # text, at the start


def _take_lease(job: Job) -> JournalWriter | None:
    """Make the job's journal file; None when the work is done, or another instance has it."""
    if job.restart and job.is_done():
        sys.stderr.write("hpc_flows: an earlier start of this job has finished; nothing to do.\n")
        return None
    run_id = os.path.basename(job.run_dir.rstrip("/"))
    try:
        return JournalWriter(job.run_dir, run_id, job.writer(job.restart), background=False)
    except JournalTaken:
        sys.stderr.write(
            "hpc_flows: another job has taken this task run; this one does nothing. If that job is "
            "dead, submit the script again with --retake.\n"
        )
        return None


def _run(job: Job, journal: JournalWriter) -> int:
    payload = None
    before: list[dict[str, Any]] = []
    try:
        payload = _open_payload(job)
        if job.restart:
            # A job that is started again can afford it.
            from hpc_flows.jobs.restarts import outcome_of, states_before  # noqa: PLC0415

            before = states_before(job, payload.task_run)
            outcome = outcome_of(before)
            if outcome is not None:
                return _repeat(journal, outcome)
        parts = _load(payload)
    except (HpcFlowsError, OSError) as error:
        _refuse(job, journal, payload, str(error))
        return FAILED
    return _run_task(job, journal, payload, parts, before)


def _repeat(journal: JournalWriter, outcome: dict[str, Any]) -> int:
    """Record an earlier start's outcome as ours, and run nothing.

    That start was ended before it had left its mark, while hooks ran, say.
    """
    sys.stderr.write("hpc_flows: an earlier start of this job has an outcome; nothing to do.\n")
    journal.write("state", outcome, durable=True)
    return COMPLETED if outcome["type"] == StateType.COMPLETED.value else FAILED


def _open_payload(job: Job) -> Payload:
    path = os.path.join(job.run_dir, "payloads", f"{job.token}.bin")
    payload = read_payload(path, read_key(job.run_dir), job.index)
    _task_run[0] = payload.task_run
    return payload


def _load(payload: Payload) -> tuple[Any, Any]:
    payload.check_versions()
    here, *path = payload.places
    try:
        os.chdir(here)
    except OSError as error:
        raise PayloadError(
            f"The flow's working directory is not there on the node: {error}. Start the flow in a "
            "folder that the nodes see."
        ) from None
    sys.path[:] = path
    return payload.load()


def _run_task(
    job: Job,
    journal: JournalWriter,
    payload: Payload,
    parts: tuple[Any, Any],
    before: list[dict[str, Any]],
) -> int:
    (task, flow_run, tags, log_prints, settings), (run, args, kwargs) = parts
    adopt(settings)
    key = read_key(job.run_dir)
    results = RunResults(job.run_dir, key, settings.results_inline_limit)
    root = JobRun(job.run_dir, journal.run_id, journal, results, key, settings, in_job=True)
    root.job, root.shares = job, False
    attach_loggers(root)
    if before:
        from hpc_flows.jobs.restarts import attempts_of  # noqa: PLC0415 - as above

        run.run_count = attempts_of(before)
    context = RunContext(root, flow_run=flow_run, tags=tags, log_prints=log_prints)
    _note_termination(job, journal, payload.task_run)
    capture = _begin_capture(context.for_task(task, run, (args, kwargs)), job)
    _collect_garbage_from_now_on()
    try:
        return _carry_out(context, task, run, args, kwargs)
    finally:
        if capture is not None:
            capture.end()


def _carry_out(context: RunContext, task: Any, run: TaskRun, args: Any, kwargs: Any) -> int:
    """Run the task run to its end and return the job's exit status."""
    try:
        state = drive(run_task(task, run, args, kwargs, context))
    except ResultError as error:
        inner = context.for_task(task, run, (args, kwargs))
        state = _record_unkept(context.root, run, inner, error)
    except JournalError:
        raise
    except BaseException:  # noqa: BLE001 - the engine has recorded it before it let it through
        return FAILED
    return COMPLETED if state.is_completed() else FAILED


def _begin_capture(context: RunContext, job: Job) -> Any:
    """Log what the task writes, also from C and Fortran; None where nobody wants that."""
    if not context.log_prints:
        return None
    from hpc_flows.logging.capture import begin  # noqa: PLC0415 - few tasks want it

    return begin(context, job.writer(job.restart), quiet=True)


def _log_output() -> None:
    """Log what the task has written so far, so that it stands before what follows."""
    capture = active_capture()
    if capture is not None:
        capture.sync()


def _record_unkept(root: JobRun, run: TaskRun, context: RunContext, error: ResultError) -> State:
    """Record a run whose function returned what cannot be kept."""
    state: State = Failed(f"The task returned, but {error}", data=error)
    root.record("task", run, state)
    run_log(context, ERROR, f"Finished in state {state!r}")
    return state


def _refuse(job: Job, journal: JournalWriter, payload: Payload | None, message: str) -> None:
    """Record that the task run could not be loaded, so that its code never started."""
    sys.stderr.write(f"hpc_flows: {message}\n")
    details = {**facts(job, final=True), "error": "PayloadError"}
    if payload is None:
        # Which task run this is stands in what cannot be trusted; the driver knows it.
        status = {"token": job.token, "job": job.id, "phase": "refused", "reason": message}
        journal.write("job-status", status, durable=True)
        return
    state = Crashed(message)
    data = {
        "subject": "task",
        "id": payload.task_run,
        "type": state.type.value,
        "name": state.name,
        "message": message,
        "attempt": 1,
        "details": details,
    }
    journal.write("state", data, durable=True)


def _note_termination(job: Job, journal: JournalWriter, task_run: str) -> None:
    """Have the journal say that the scheduler asked the job to end, before it ends.

    No state is claimed: why it was asked (time limit, preemption, scancel) only the scheduler
    knows. The signal then does what it would have done.
    """
    import _signal  # noqa: PLC0415 - the `signal` module costs 4 ms

    def note(number: int, _frame: object) -> None:
        status = {
            "token": job.token,
            "job": job.id,
            "task_run": task_run,
            "phase": "ending",
            "raw": "SIGTERM",
            "reason": f"asked to end {time():.0f}",
            "nodes": job.node,
        }
        try:
            _log_output()
            journal.write("job-status", status, durable=True)
            _flush()
        finally:
            _signal.signal(number, _SIG_DFL)
            os.kill(os.getpid(), number)

    _signal.signal(_SIGTERM, note)
    # Children that the task forks must end at once: multiprocessing's Pool waits for ever for one
    # that is asked to end just before it blocks, because a handler in Python runs only later.
    os.register_at_fork(after_in_child=lambda: _signal.signal(_SIGTERM, _SIG_DFL))


def _collect_garbage_from_now_on() -> None:
    """Let Python look for garbage in what the task makes, not in what was imported for it."""
    import gc  # noqa: PLC0415 - only here

    gc.freeze()
    gc.enable()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # the user's code has closed or replaced it


def _leave(status: int) -> NoReturn:
    """End the process, without taking Python apart where nothing could be lost by that.

    Taking it apart costs 3 ms in each job. It matters to threads and to whatever still has a file,
    a socket or a device open: then Python ends as usual.
    """
    if "threading" not in sys.modules:
        import atexit  # noqa: PLC0415 - only here

        atexit._run_exitfuncs()  # noqa: SLF001 - what Python itself calls at its end
        _flush()
        if not _anything_open():
            os._exit(status)
    _flush()
    raise SystemExit(status)


def _anything_open() -> bool:
    try:
        # The three standard streams, and the listing itself.
        return len(os.listdir("/proc/self/fd")) > 4  # noqa: PLR2004 - counted above
    except OSError:
        return True
