"""Submitting: saying what will be done, doing it once, and holding back where the site wants that.

The order is what makes a submission safe: payload and script on the disk, the intent with its
token in the journal, durably, and only then sbatch. Whatever sbatch answers, or fails to answer,
the token finds the job. Limits of the site hold submissions back; they do not fail them.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpc_flows.engine.pausing import is_held
from hpc_flows.exceptions import (
    HpcFlowsError,
    JournalError,
    PayloadError,
    SchedulerError,
    SchedulerUnavailable,
    SubmissionInDoubt,
    SubmissionThrottled,
)
from hpc_flows.jobs import script
from hpc_flows.jobs.access import reach
from hpc_flows.jobs.asking import Asker
from hpc_flows.jobs.collect import Collector
from hpc_flows.jobs.limits import Bucket, backoff
from hpc_flows.jobs.submission import Stage
from hpc_flows.journal.event import told_request
from hpc_flows.logging import ERROR
from hpc_flows.schedulers.slurm_commands import cancel_argv
from hpc_flows.states import Cancelled, Failed, InfrastructurePending, StateType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpc_flows.clusters import Cluster
    from hpc_flows.jobs.submission import Element, Submission
    from hpc_flows.jobs.tracker import Tracker
    from hpc_flows.resources import Resources
    from hpc_flows.schedulers.base import JobSpec, Scheduler
    from hpc_flows.task_runners.base import TaskCall

#: Seconds for which a submission is held back at most, by limits or because the scheduler cannot
#: be reached or gives no clear answer, before its runs fail: a maintenance of a day is survived.
LONGEST_HOLD = 2 * 86400.0
#: The same while the scheduler has never answered: then it is more likely a mistake.
LONGEST_FIRST = 120.0
#: Least seconds between two looks for a submission that may have happened, and how many looks in
#: vain, each answered, it takes to believe that it has not.
LOOK_EVERY = 4.0
LOOKS = 3
#: Characters of a message that many runs share, where it is said of each of them.
SHORT_MESSAGE = 160
#: Seconds between two looks whether a paused flow run goes on.
PAUSE_LOOK = 0.5
#: Seconds between two messages about what is held back.
SAY_EVERY = 300.0


class Desk:
    """Submits the runs of one root run to one cluster, one submission after the other.

    Args:
        cluster: where to.
        tracker: follows what is submitted.
        mode: `job`, `array` or `auto`.
        window: seconds for which runs are collected.
    """

    def __init__(self, cluster: Cluster, tracker: Tracker, mode: str, window: float) -> None:
        self.cluster = cluster
        self.asker: Asker | None = None
        self._scheduler: Scheduler | None = None
        self._tracker = tracker
        self._root = tracker.root
        self._mode = mode
        self._collector = Collector(self._root, cluster, mode, window, self._start)
        self._wake = threading.Condition()
        self._queue: list[Submission] = []
        limits = cluster.limits
        self._bucket = Bucket(limits.submit_burst, limits.submit_per_minute / 60.0)
        self._said_at = self._doubted_at = float("-inf")
        self._closed = self._stirred = False
        self._thread: threading.Thread | None = None

    def take(self, calls: Sequence[TaskCall], resources: Resources) -> None:
        """Take runs of one task that ask for the same; they are submitted within moments.

        Args:
            calls: the runs.
            resources: what each asks for, before placing.
        """
        self._collector.take(calls, resources)

    def elements(self) -> list[Element]:
        """Return the runs that wait here to be submitted."""
        with self._wake:
            waiting = list(self._queue)
        return [
            element for group in (*waiting, *self._collector.groups()) for element in group.alive()
        ]

    def doubtful(self) -> list[str]:
        """Return the tokens of submissions that may have happened, and may not."""
        with self._wake:
            return [head.token for head in self._queue if head.sent and not head.job]

    def close(self) -> None:
        """Submit nothing any more."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        self._collector.discard()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    # The thread ----------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._wake:
            if self._thread is None and not self._closed:
                name = f"hpc-flows-submit-{self.cluster.name}"
                self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._thread.start()
            self._stirred = True
            self._wake.notify()

    def _serve(self) -> None:
        while True:
            ready, next_due = self._collector.due()
            with self._wake:
                if self._closed:
                    return
                self._queue.extend(ready)
                if self._stirred:  # since we looked, there may be more
                    self._stirred = False
                    continue
                head = self._queue[0] if self._queue else None
                now = time.monotonic()
                if head is None or head.not_before > now:
                    waits = [next_due] if next_due is not None else []
                    waits += [head.not_before - now] if head is not None else []
                    self._wake.wait(max(0.0, min(waits)) if waits else None)
                    continue
            self._advance(head)
            if head.stage in (Stage.SUBMITTED, Stage.OVER):
                with self._wake:
                    self._queue.remove(head)

    def _advance(self, head: Submission) -> None:
        self._note_ended(head)
        try:
            if head.stage is Stage.IN_DOUBT:
                self._look(head)
            elif not head.left:
                self._give_up(head)
            elif self._reached(head) and self._prepared(head) and self._may_send(head):
                self._send(head)
        except SchedulerUnavailable as error:
            self._hold(head, str(error))
        except SubmissionThrottled as error:
            self._hold(head, str(error))
        except SubmissionInDoubt as error:
            self._doubt(head, error)
        except HpcFlowsError as error:
            self._refuse(head, error)
        except Exception as error:  # noqa: BLE001 - a thread has no caller: its runs must not hang
            self._refuse(head, error)

    def _note_ended(self, head: Submission) -> None:
        """Count runs as over whose calls were ended behind our back.

        A flow that is interrupted cancels what it finds here; a submission that is just then on
        its way from one list to the next is not found, but its calls are ended all the same.
        """
        for element in head.alive():
            if element.call.future.done():
                self._tracker.drop(element)

    # Before sbatch -------------------------------------------------------------------------------

    def _reached(self, head: Submission) -> bool:
        """Get hold of the scheduler, the first time."""
        if self._scheduler is None:
            self.cluster, self._scheduler = reach(self.cluster, self._tracker.warn)
            self._collector.cluster = self.cluster
            self.asker = Asker(self.cluster, self._scheduler, self._tracker, self._tracker.warn)
            self._tracker.add_asker(self.asker)
            self.asker.start()
        head.cluster = self.cluster
        return True

    def _prepared(self, head: Submission) -> bool:
        """Place the request, write the files and the intent, once."""
        if head.prepared:
            return True
        head.resources = self.cluster.place(head.request)
        self._cut(head)
        with _told_how_to_mend():
            head.payload.finish(self._root.key, self._root.run_id, head.token)
        self._write_script(head)
        self._announce(head)
        head.prepared = True
        return True

    def _cut(self, head: Submission) -> None:
        """Leave for the next submission what the scheduler's limit, now known, does not allow."""
        rest = self._collector.cut(head)
        if rest is None:
            return
        moved = head.elements[-len(rest.elements) :]
        for element in moved:
            self._tracker.drop(element)  # so that nobody ends it here any more
        del head.elements[-len(moved) :]
        head.ended -= len(moved)
        with self._wake:
            self._queue.insert(self._queue.index(head) + 1, rest)

    def _write_script(self, head: Submission) -> None:
        """Write the script, for the runs that are not over, and what lies beside it."""
        scheduler: Scheduler = self._scheduler  # type: ignore[assignment]
        head.asked = frozenset(element.index for element in head.alive())
        title = script.title_for(head.task, len(head.elements))
        text = script.render(self.cluster, scheduler, self._spec(head), head.folders, title)
        with _told_how_to_mend():
            _write_files(head, text)

    def _spec(self, head: Submission) -> JobSpec:
        indexes = sorted(head.asked)
        return script.spec_for(
            self.cluster, head.folders, head.resources, indexes, array=head.array
        )

    def _announce(self, head: Submission) -> None:
        head.began = time.time()
        self._root.journal.write(
            "job-intent",
            {
                "token": head.token,
                "cluster": self.cluster.name,
                "scheduler": self.cluster.scheduler,
                "task_runs": [element.call.run.id for element in head.elements],
                "array": self._spec(head).array,
                "script": head.folders.script,
                "resources": told_request(head.resources),
            },
            durable=True,
        )
        self._tracker.watch(head)

    def _may_send(self, head: Submission) -> bool:
        """Hold back while the flow run is paused, and where a limit of the site would be passed."""
        if self._root.pauses and is_held(self._root, head.alive()[0].call.context.flow_run):
            self._step_aside(head)
            return False
        most = self.cluster.limits.max_submitted
        alive = self._tracker.alive(self.cluster.name)
        if most is not None and alive and alive + len(head.alive()) > most:
            head.not_before = time.monotonic() + 1.0
            return False
        wait = self._bucket.wait()
        if wait:
            head.not_before = time.monotonic() + wait
        return not wait

    def _step_aside(self, head: Submission) -> None:
        """Let those behind it pass: they may be of flow runs that are not paused.

        When the whole run is being cancelled its runs end here: the flow may wait for them in a way
        that nothing else ends.
        """
        if self._root.cancel_reason is not None:
            self._give_up(head)
            for element in head.alive():
                self._tracker.end(element, Cancelled(self._root.cancel_reason))
            return
        head.not_before = time.monotonic() + PAUSE_LOOK
        with self._wake:
            self._queue.remove(head)
            self._queue.append(head)

    # sbatch and its answers ----------------------------------------------------------------------

    def _send(self, head: Submission) -> None:
        scheduler: Scheduler = self._scheduler  # type: ignore[assignment]
        if len(head.asked) != head.left:
            # Runs were ended while it was held back, and sbatch goes by the script alone.
            self._write_script(head)
        if not head.asked:
            self._give_up(head)
            return
        began = time.monotonic()
        head.sent = head.asked
        job = scheduler.submit(self._spec(head), head.folders.script)
        self._accepted(head, job, time.monotonic() - began)

    def _accepted(self, head: Submission, job: str, seconds: float) -> None:
        head.job = job
        head.stage = Stage.SUBMITTED
        try:
            self._journal_accepted(head, seconds)
        finally:
            self._tracker.submitted(head)
        self._tracker.tell(_sent_message(head, self._mode), head.elements[0])
        self._cancel_late(head)

    def _journal_accepted(self, head: Submission, seconds: float) -> None:
        data = {"token": head.token, "job": head.job, "seconds": round(seconds, 3)}
        self._root.journal.write("job-submitted", data)
        for element in head.alive():
            run = element.call.run
            if run.state is None or run.state.type is StateType.PENDING:
                details = {"job": element.job, "cluster": self.cluster.name}
                self._root.record("task", run, InfrastructurePending(details=details))

    def _cancel_late(self, head: Submission) -> None:
        """Cancel what was cancelled while sbatch was at work."""
        self._note_ended(head)
        late = [e.job for e in head.elements if e.over and e.index in head.sent]
        if not late:
            return
        jobs = late if head.left else [head.job]
        scheduler: Scheduler = self._scheduler  # type: ignore[assignment]
        try:
            scheduler.cancel(jobs, token=head.token)
        except SchedulerError as error:
            command = shlex.join(cancel_argv(jobs))
            self._tracker.warn(
                "Runs were cancelled while sbatch was at work, and their jobs live on, since they "
                f"could not be cancelled: {error} Do it by hand: {command}"
            )

    def _refuse(self, head: Submission, error: Exception) -> None:
        """Fail the runs of a submission that cannot be made."""
        message = str(error)
        if head.stage is Stage.SUBMITTED:
            # It was made; its jobs are followed whatever went wrong after that.
            text = f"Job {head.job} was submitted to {self.cluster.name}, but then: {message}"
            self._tracker.log(ERROR, text, head.elements[0])
            return
        try:
            self._root.journal.write("job-refused", {"token": head.token, "message": message})
        except JournalError as full:  # its runs end all the same, and others are still to be sent
            self._tracker.log(ERROR, str(full), head.elements[0])
        self._give_up(head)
        alive = head.alive()
        if len(alive) > 1:
            # Once in full; `result()` of each run raises the whole error all the same.
            what = f"{len(alive)} runs of task {head.task!r} were not submitted"
            text = f"{what} to {self.cluster.name}: {message}"
            self._tracker.log(ERROR, text, alive[0])
            message = shortened(message)
        for element in alive:
            name = element.call.run.name
            text = f"Task run {name!r} was not submitted to {self.cluster.name}: {message}"
            self._tracker.end(element, Failed(text, data=error))

    def _give_up(self, head: Submission) -> None:
        head.stage = Stage.OVER
        if not head.prepared:
            head.payload.discard()

    def _hold(self, head: Submission, why: str) -> None:
        """Try again later; fail once it has taken too long."""
        now = time.monotonic()
        head.held_since = head.held_since or now
        head.tries += 1
        if not head.doubts:  # it was certainly not accepted
            head.sent = frozenset()
        longest = LONGEST_HOLD if self._scheduler is not None else LONGEST_FIRST
        if now - head.held_since > longest:
            perhaps = f" {_may_live(head)}" if head.doubts else ""
            message = f"held back for {longest:.0f} s. {why}{perhaps}"
            self._refuse(head, SchedulerUnavailable(message))
            return
        pause = backoff(head.tries)
        head.not_before = now + pause
        if now - self._said_at >= SAY_EVERY:
            self._said_at = now
            self._tracker.warn(
                f"Submissions to {self.cluster.name} are held back, and tried again from time to "
                f"time. {why}"
            )

    # In doubt ------------------------------------------------------------------------------------

    def _doubt(self, head: Submission, error: Exception) -> None:
        """Note that a submission may have happened; nothing is sent until that is known."""
        now = time.monotonic()
        head.stage = Stage.IN_DOUBT
        head.looks = 0
        head.doubts += 1
        head.doubt = str(error)
        head.held_since = head.held_since or now
        head.not_before = now + _look_pause(head)
        if head.doubts > 1 and now - self._doubted_at < SAY_EVERY:
            return
        self._doubted_at = now
        self._tracker.warn(
            f"{self.cluster.name} gave no clear answer to a submission, which may have been "
            f"accepted; its job is looked for by its name, {head.token}. {error}"
        )

    def _look(self, head: Submission) -> None:
        scheduler: Scheduler = self._scheduler  # type: ignore[assignment]
        # Looked for even when all its runs were cancelled meanwhile: a job must not run on.
        job = self._tracker.job_in_journal(head)
        if not job:
            found = scheduler.find(head.token, since=head.began - 300.0)
            job = found[0].job.partition("_")[0] if found else ""
        if job:
            self._accepted(head, job, time.time() - head.began)
            return
        head.looks += 1
        now = time.monotonic()
        if head.looks < LOOKS:
            head.not_before = now + _look_pause(head)
        elif head.held_since is not None and now - head.held_since > LONGEST_HOLD:
            self._refuse(head, _never_clear(head))
        else:
            # It answers, and has not heard of the name: the lease of the job side makes even a
            # request that still comes through harmless.
            head.stage = Stage.WAITING


def _look_pause(head: Submission) -> float:
    """Return the seconds until the next look; they grow with each sending that came to nothing.

    The pause lies before the looks, so that what is sent again has just been looked for.
    """
    return max(LOOK_EVERY, backoff(head.doubts))


def _never_clear(head: Submission) -> SubmissionInDoubt:
    times = "once" if head.doubts == 1 else f"{head.doubts} times"
    return SubmissionInDoubt(
        f"It was sent {times} within {LONGEST_HOLD:.0f} s and never got a clear answer, while the "
        f"queue answers and knows no such job. The last time: {head.doubt} Try sbatch by hand, "
        f"tell the site's support, and run it again once sbatch works. {_may_live(head)}"
    )


def _may_live(head: Submission) -> str:
    return (
        f"Its job may turn up all the same: `squeue --me --name={head.token}` shows it, "
        f"`scancel --name={head.token}` cancels it."
    )


@contextmanager
def _told_how_to_mend() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PayloadError(
            f"The files of the job cannot be written: {error}. Free space there, or set "
            "HPC_FLOWS_HOME to a folder on another file system."
        ) from error


def _write_files(head: Submission, text: str) -> None:
    os.makedirs(head.folders.job, mode=0o700, exist_ok=True)
    environment = script.environment_text(head.resources)
    if environment:
        _write_file(head.folders.environment, environment)
    _write_file(head.folders.script, text)


def _write_file(path: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def shortened(message: str) -> str:
    """Return the first line of a message, cut to 160 characters."""
    first = message.partition("\n")[0]
    return first if len(first) <= SHORT_MESSAGE else first[: SHORT_MESSAGE - 3] + "..."


def _sent_message(head: Submission, mode: str) -> str:
    asked = head.resources.describe()
    where = f"{head.cluster.name} ({asked})" if asked else head.cluster.name
    count = len(head.elements)
    runs = "1 run" if count == 1 else f"{count} runs"
    if not head.array:
        run = head.elements[0].call.run.name
        return f"Submitted task run {run!r} to {where} as job {head.job}"
    why = "" if mode == "array" else ": they ask for the same, and one submission serves all"
    return f"Submitted {runs} of task {head.task!r} to {where} as array {head.job}{why}"
