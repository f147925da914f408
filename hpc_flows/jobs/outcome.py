"""What a job's journal says of its run, and the final state that a verdict amounts to."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import JournalError, PayloadError, SubmissionRejected
from hpc_flows.jobs import causes
from hpc_flows.journal.event import told_request
from hpc_flows.logging import ERROR, run_log
from hpc_flows.states import FINAL_TYPES, State, StateType, crashed_by

if TYPE_CHECKING:
    from hpc_flows.jobs.evidence import Verdict
    from hpc_flows.jobs.submission import Element
    from hpc_flows.journal.event import Event
    from hpc_flows.results.kept import RunResults

#: Different outputs of crashed jobs of one submission that are shown on the console; the message
#: of each state has its own.
OUTPUTS = 3
_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))


def take_state(element: Element, event: Event) -> None:
    """Note a state that the job has written; a final one waits for its verdict."""
    data = event.data
    details = data.get("details") or {}
    element.attempt = max(element.attempt, int(data.get("attempt") or 0))
    element.node = str(details.get("node") or element.node)
    element.job_seen = str(details.get("job") or element.job_seen)
    type_ = StateType(data["type"])
    state = State(type_, data["name"], data.get("message"), details=details, epoch=event.wall)
    if type_ in FINAL_TYPES:
        element.final = (state, data, time.time())
    else:
        element.call.future.update(state)


def take_refusal(element: Element, event: Event) -> None:
    """Note that the job could not even read which task run it is for."""
    details = {"job": element.job, "error": "PayloadError"}
    message = str(event.data.get("reason"))
    state = State(StateType.CRASHED, None, message, details=details, epoch=event.wall)
    element.final = (state, {"details": details}, time.time())
    element.marked.add(element.restart)


def result_problem(run_dir: str, data: dict[str, Any]) -> str | None:
    """Return what is wrong with a result file, as far as can be seen without reading it.

    Args:
        run_dir: the run's folder.
        data: of the final state event.
    """
    reference = data.get("result")
    if reference is not None and "record" in reference:
        from hpc_flows.results.record import problem_of  # noqa: PLC0415 - few results are

        return problem_of(str(reference["record"]))
    if reference is None or "file" not in reference:
        return None
    path = os.path.join(run_dir, reference["file"])
    try:
        # Listing the folder makes a network file system look at the server's newest one.
        if os.path.basename(path) not in os.listdir(os.path.dirname(path)):
            return f"{path} is not there"
        size = os.stat(path).st_size
    except OSError as error:
        return f"{path}: {error.strerror}"
    wanted = reference["size"]
    return None if size == wanted else f"{path} has {size} of {wanted} bytes"


def believed(state: State, data: dict[str, Any], results: RunResults, element: Element) -> State:
    """Return the state that a job has recorded, with what loads its value or exception."""
    reference = data.get("result")
    value: Any = None
    message, details = state.message, state.details
    if reference is not None:
        value = results.stored(reference)
    elif _is_refused(state):
        said, subject = message or "The payload was refused.", element.subject()
        message = causes.refusal(said, subject, details)
        details = {
            **details,
            "requested": told_request(subject.requested),
            "output": subject.output,
        }
        value = PayloadError(message)
    return State(
        state.type,
        state.name,
        message,
        data=value,
        details=details,
        epoch=state.epoch,
    )


def _is_refused(state: State) -> bool:
    return state.type is StateType.CRASHED and state.details.get("error") == "PayloadError"


def decided(verdict: Verdict, element: Element) -> State:
    """Return the state of a run that its own record did not decide."""
    subject = element.subject()
    message = causes.message(verdict, subject)
    details = causes.details(verdict, subject)
    if verdict.type is StateType.CRASHED:
        return crashed_by(verdict.cause, message, details)
    if verdict.type is StateType.CANCELLED:
        return State(StateType.CANCELLED, None, message, details=details)
    error = SubmissionRejected(message)
    return State(StateType.FAILED, verdict.cause, message, data=error, details=details)


def resolve(element: Element, state: State, *, believed: bool) -> None:
    """Resolve a future, whatever happens: nobody else will.

    Args:
        element: whose.
        state: the final state.
        believed: whether the job has journalled and logged it.
    """
    call = element.call
    call.run.run_count = max(call.run.run_count, element.attempt)
    state.belongs_to("task", call.run.id, call.run.flow_run_id)  # a flow may return it
    try:
        if not believed:
            _show_output(element, state)
            call.end(state)
        elif _is_refused(state) and not call.future.done():
            # Its code was not begun, so nothing there has logged the end.
            inner = call.context.for_task(call.task, call.run)
            run_log(inner, ERROR, f"Finished in state {state!r}")
    except JournalError as error:
        # The thread that follows all jobs must not end by it: their runs would wait for ever.
        text = f"The end of task run {call.run.name!r}, {state!r}, is not in the journal: {error}"
        run_log(call.context, ERROR, text)
    finally:
        call.future.resolve(state)


def _show_output(element: Element, state: State) -> None:
    """Log the end of a crashed job's output; of many that crash alike, that of the first few."""
    _, _, output = str(state.message or "").partition("\n")
    _, _, lines = output.partition("\n")
    # Job numbers and times differ where nothing else does.
    alike = lines.translate(_NO_DIGITS)
    told, call = element.submission.outputs, element.call
    new = alike and alike not in told and len(told) < OUTPUTS
    if state.type is StateType.CRASHED and new and not call.future.done():
        told.add(alike)
        run_log(call.context.for_task(call.task, call.run), ERROR, output)
