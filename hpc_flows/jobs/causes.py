"""What happened to a job, in words: the message and the details of a crashed run.

Every message says what happened, to which job on which node, what was asked for against what was
used, what to do next, and shows the end of the job's output. docs/reference/crash-causes.md lists
them.
"""

from __future__ import annotations

import pwd
import signal as signals
from dataclasses import dataclass
from typing import Any

from hpc_flows.jobs.evidence import Decision, Verdict
from hpc_flows.journal.event import told_request
from hpc_flows.resources import Resources, format_memory, format_walltime
from hpc_flows.schedulers.base import JobStatus, Phase

#: Lines of the job's output that a message shows.
TAIL_LINES = 12
#: Bytes that are read from the end of the output.
TAIL_BYTES = 8192
#: What jobs/run.py says when it cannot even begin.
_TOO_OLD = "hpc_flows: this job was started with Python"
#: What asking again should ask for, as a multiple of what was asked for.
_MORE = 2


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a message is about.

    Attributes:
        run: name of the task run.
        job: id of the job or element, or an empty text when it is not known.
        node: where it ran, as far as the job itself said.
        requested: what it asked for.
        output: path of the file with the job's output.
        tail: the end of that output.
        python: the interpreter that the script starts.
        run_dir: the run's folder.
        cluster: the cluster's name.
        token: the job's name, by which it is found where its id is not known.
    """

    run: str
    job: str
    node: str
    requested: Resources
    output: str
    tail: str
    python: str
    run_dir: str
    cluster: str
    token: str = ""


def message(verdict: Verdict, subject: Subject) -> str:
    """Return the message of a final state that the job's own record did not decide.

    Its first line stands alone, on consoles and in lists; the end of the job's output follows it.
    """
    teller = _TELLERS[verdict.cause]
    happened, advice = teller(verdict, subject)
    if verdict.cause in _NEVER_RAN:
        return f"{happened} {advice}".strip()
    first = f"{happened} {_asked_and_used(verdict, subject)} {advice}".strip()
    return f"{first}\n{output_of(subject)}"


def refusal(said: str, subject: Subject, used: dict[str, Any]) -> str:
    """Return the message of a run that its job could not load.

    Args:
        said: why, as the job said.
        subject: whose.
        used: `max_rss` in bytes and `elapsed` in seconds, as the job measured them.
    """
    status = JobStatus(
        subject.job,
        subject.token,
        Phase.ENDED,
        "",
        max_rss=used.get("max_rss"),
        elapsed=used.get("elapsed"),
    )
    verdict = Verdict(Decision.END, cause="Crashed", status=status)
    job, used_ = _job(verdict, subject), _asked_and_used(verdict, subject)
    first = f"Task run {subject.run!r} could not be loaded by {job}: {said} {used_}"
    return f"{first}\n{output_of(subject)}"


def output_of(subject: Subject) -> str:
    """Return where a job's output is, and its end."""
    tail = last_lines(subject.tail)
    if not tail:
        return f"It has left no output ({subject.output})."
    return f"The end of its output ({subject.output}):\n{tail}"


def _asked_and_used(verdict: Verdict, subject: Subject) -> str:
    used = _memory_used(verdict, subject)
    status = verdict.status
    if status is not None and status.elapsed is not None:
        seconds = round(status.elapsed)
        used.append(f"{format_walltime(seconds)} of time" if seconds else "less than a second")
    said = f"it used {' and '.join(used)}" if used else "what it used is not known"
    return f"It asked for {subject.requested.describe()}; {said}."


def _memory_used(verdict: Verdict, subject: Subject) -> list[str]:
    seen = verdict.status.max_rss if verdict.status is not None else None
    asked = subject.requested.memory
    if verdict.cause == "OutOfMemory" and asked and (seen or 0) < asked:
        # Schedulers look only now and then; the kernel saw more.
        return ["more memory than that"]
    return [f"{format_memory(seen)} of memory"] if seen else []


def details(verdict: Verdict, subject: Subject) -> dict[str, Any]:
    """Return the same facts for programs: `job`, `node`, `exit_code`, `requested`, `used`, ..."""
    status = verdict.status
    found: dict[str, Any] = {
        "job": subject.job,
        "node": _node(status, subject),
        "cluster": subject.cluster,
        "token": subject.token,
        "requested": told_request(subject.requested),
        "output": subject.output,
        "clue": verdict.clue,
    }
    if status is not None:
        found |= {
            "raw": status.raw,
            "reason": status.reason,
            "exit_code": status.exit_code,
            "signal": status.signal,
            "used": _used(status),
        }
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def last_lines(text: str, count: int = TAIL_LINES) -> str:
    """Return the last lines of a text, indented; empty when there is only white space."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line[:400]}" for line in lines[-count:])


def read_tail(path: str) -> str:
    """Return the last bytes of a job's output; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _used(status: JobStatus) -> dict[str, Any]:
    used = {"memory": status.max_rss, "walltime": status.elapsed}
    return {name: value for name, value in used.items() if value is not None}


def _node(status: JobStatus | None, subject: Subject) -> str:
    return (status.nodes if status is not None else "") or subject.node


def _job(verdict: Verdict, subject: Subject) -> str:
    node = _node(verdict.status, subject)
    return f"{_name(subject)} on {node}" if node else _name(subject)


def _name(subject: Subject) -> str:
    if subject.job:
        return f"job {subject.job}"
    # Accepted in doubt, say: the name finds it in queue and accounting.
    return f"the job named {subject.token}" if subject.token else "its job"


def _out_of_memory(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    asked = subject.requested.memory
    job = _job(verdict, subject)
    if verdict.clue == "contradicted":
        what = (
            f"Task run {subject.run!r} returned, but a process of {job} was killed for memory "
            "while it ran, so its result may lack a part and is not trusted."
        )
    else:
        limit = f" of {format_memory(asked)}" if asked else ""
        what = f"Task run {subject.run!r} was killed for passing its memory{limit} ({job})."
    more = format_memory(asked * _MORE) if asked else "16GB"
    return what, f'Ask for more: Resources(memory="{more}").'


def _walltime(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    asked = subject.requested.walltime
    limit = f" of {format_walltime(asked)}" if asked else ""
    more = format_walltime(asked * _MORE) if asked else "2:00:00"
    what = f"Task run {subject.run!r} reached its time limit{limit} ({_job(verdict, subject)})."
    return what, f'Ask for more: Resources(walltime="{more}").'


def _node_failed(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    node = _node(verdict.status, subject) or "its node"
    return (
        (
            f"Node {node} died under task run {subject.run!r} ({_name(subject)}), and the "
            "scheduler did not queue the job again."
        ),
        "Run it again; if it is the same node every time, tell the site's support.",
    )


def _preempted(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    return (
        (
            f"Task run {subject.run!r} gave way to a job of higher priority "
            f"({_job(verdict, subject)}), and the scheduler did not queue it again."
        ),
        "Run it again, or choose a partition that is not preempted.",
    )


def _cancelled(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    status = verdict.status
    by = status.cancelled_by if status is not None else None
    who = f" by {user_name(by)}" if by is not None else ""
    return (
        (
            f"Task run {subject.run!r} was cancelled{who} in the scheduler, not through hpc_flows "
            f"({_job(verdict, subject)})."
        ),
        "",
    )


def user_name(uid: int) -> str:
    """Return how people know a user id: `alice (uid 1001)`."""
    if uid == 0:
        return "the administrator (root)"
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _lost(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    kind, _, rest = verdict.clue.partition(" ")
    job = _job(verdict, subject)
    run = f"Task run {subject.run!r} was lost"
    if verdict.clue == "no output":
        return (
            f"{run}: the node could not open the output file of {job}.",
            f"Is {subject.run_dir} on a file system that the nodes see, and is there room in it?",
        )
    if kind == "result:":
        return (
            f"Task run {subject.run!r} ended ({job}), but its result did not arrive: {rest}.",
            "Has the file been deleted, or is the disk full?",
        )
    if kind == "untracked:":
        return f"{run}: {job} cannot be followed any more: {rest}.", f"See {subject.run_dir}."
    if kind == "signal":
        return f"{run}: the Python of {job} was killed by {_signal(int(rest))}.", _after(int(rest))
    if kind == "exit":
        return _exited(run, job, int(rest), subject)
    return _vanished(verdict, subject)


def _vanished(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    run, job = f"Task run {subject.run!r} was lost", _job(verdict, subject)
    if verdict.clue == "vanished":
        return (
            (
                f"{run}: neither the queue nor accounting knows {job}, and it left no outcome in "
                f"{subject.run_dir}."
            ),
            "The scheduler may have lost it in a restart. Run it again.",
        )
    return f"{run}: {job} ended as {verdict.clue} and left no outcome.", "Run it again."


def _exited(run: str, job: str, status: int, subject: Subject) -> tuple[str, str]:
    if status in (126, 127):
        return (
            f"{run}: {job} could not start {subject.python} (exit status {status}).",
            "Set `python` in the cluster's profile to an interpreter that the nodes see.",
        )
    if _TOO_OLD in subject.tail:
        return (
            f"{run}: {job} was started with a Python older than 3.11 (exit status {status}).",
            "Set `python` in the cluster's profile to a newer one that the nodes see.",
        )
    if status == 0:
        return (
            f"{run}: {job} ended with exit status 0, but no outcome appeared in {subject.run_dir}.",
            "Does the task call os._exit, or is the folder not the same on the nodes?",
        )
    return f"{run}: {job} ended with exit status {status} and left no outcome.", ""


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _after(number: int) -> str:
    if number == signals.SIGKILL:
        return (
            "By hand, by the site, or by the kernel for lack of memory: if it happens again, ask "
            "for more memory."
        )
    if number in (signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGABRT, signals.SIGFPE):
        return (
            "A compiled library crashed. PYTHONFAULTHANDLER=1 in Resources(environment=...) shows "
            "where."
        )
    return ""


def _rejected(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    return (
        (
            f"Task run {subject.run!r} can never start, so {_job(verdict, subject)} was withdrawn: "
            f"{verdict.clue}."
        ),
        "",
    )


def _cancelled_by_us(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    return f"Task run {subject.run!r} was cancelled: {verdict.clue}.", ""


_TELLERS = {
    "OutOfMemory": _out_of_memory,
    "WalltimeExceeded": _walltime,
    "NodeFailed": _node_failed,
    "Preempted": _preempted,
    "CancelledByScheduler": _cancelled,
    "JobLost": _lost,
    "Rejected": _rejected,
    "Cancelled": _cancelled_by_us,
}
#: What says nothing of use, and leaves no output.
_NEVER_RAN = ("Rejected", "Cancelled")
