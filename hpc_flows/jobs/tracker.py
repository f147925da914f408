"""Following all jobs of a driver: one thread that joins what the jobs and the schedulers say.

The journals of the jobs come first: the folder is listed, and what is new is read. What schedulers
say comes from one `Asker` per cluster. `evidence.judge` joins the two; this module keeps the facts,
carries out the verdicts, and resolves each future once.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import JournalError
from hpc_flows.jobs import outcome
from hpc_flows.jobs.evidence import Decision, Verdict, judge, ours
from hpc_flows.jobs.tail import MARK, DirectoryWatch, Entry, read_new
from hpc_flows.jobs.withdrawals import Withdrawals
from hpc_flows.logging import ERROR, INFO, WARNING, print_line, run_log
from hpc_flows.schedulers.base import Phase
from hpc_flows.states import InfrastructurePending, State, StateType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpc_flows.context import RunContext
    from hpc_flows.jobs.asking import Asker
    from hpc_flows.jobs.submission import Element, Submission
    from hpc_flows.journal.event import Event
    from hpc_flows.schedulers.base import JobStatus

#: Journals of running jobs that are read in one round, for their logs.
READS_PER_ROUND = 200
#: Most seconds between two readings of one running job's journal.
SLOWEST_READ = 5.0
#: Seconds after which a final state without the job's mark is taken all the same: its hooks may
#: still run, or the job was killed after it.
MARK_GRACE = 2.0
#: Above this many elements of an array the queue is asked about the array as a whole.
WHOLE_ARRAY = 10


class Tracker:
    """Follows the submissions of one root run.

    Args:
        context: of the root run; messages go to its log.
    """

    def __init__(self, context: RunContext) -> None:
        root = context.root
        if root is None:
            raise ValueError("a tracker belongs to a run")
        self.root = root
        self._context = context
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._submissions: dict[str, Submission] = {}
        self._askers: dict[str, Asker] = {}
        self._suspects: set[Element] = set()
        self._running: dict[Element, None] = {}
        self._watch = DirectoryWatch(root.run_dir)
        self._withdrawals = Withdrawals()
        self._endings: list[tuple[Element, State, bool]] = []
        self._closed = False
        self._thread: threading.Thread | None = None

    # What the submitting side calls --------------------------------------------------------------

    def add_asker(self, asker: Asker) -> None:
        """Take answers of a cluster's scheduler from now on."""
        with self._lock:
            self._askers[asker.cluster.name] = asker

    def watch(self, submission: Submission) -> None:
        """Follow a submission that is about to be sent."""
        with self._lock:
            self._submissions[submission.token] = submission
            self._watch.hurry()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._serve, name="hpc-flows-tracker", daemon=True
                )
                self._thread.start()
            self._wake.notify()

    def submitted(self, submission: Submission) -> None:
        """Note that the scheduler has accepted a submission."""
        asker = self._askers.get(submission.cluster.name)
        if asker is not None:
            asker.begin()
        with self._lock:
            self._watch.hurry()
            self._wake.notify()

    def job_in_journal(self, submission: Submission) -> str:
        """Return the id of a submission as one of its jobs wrote it, or an empty text."""
        with self._lock:
            seen = next((e.job_seen for e in submission.elements if e.job_seen), "")
            return seen.partition("_")[0]

    def elements(self) -> list[Element]:
        """Return the runs that are followed."""
        with self._lock:
            return [e for submission in self._submissions.values() for e in submission.alive()]

    def alive(self, cluster: str) -> int:
        """Return how many jobs of a cluster have been submitted and have not ended."""
        with self._lock:
            return sum(
                submission.left
                for submission in self._submissions.values()
                if submission.cluster.name == cluster and submission.job
            )

    def drop(self, element: Element) -> bool:
        """Stop following an element; return whether that was news."""
        with self._lock:
            if element.over:
                return False
            element.over = True
            element.submission.ended += 1
            self._suspects.discard(element)
            self._running.pop(element, None)
            submission = element.submission
            if not submission.left:
                self._submissions.pop(submission.token, None)
            return True

    def end(self, element: Element, state: State) -> None:
        """End an element in a state that its job did not decide."""
        if self.drop(element):
            outcome.resolve(element, state, believed=False)

    def close(self) -> None:
        """Follow no more."""
        with self._lock:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        for asker in self._askers.values():
            asker.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)
        self._withdrawals.wait()

    # The thread ----------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                self._round()
                endings, self._endings = self._endings, []
            # Before the endings: with the last of them the process may end.
            self._withdrawals.start()
            # Not with the lock held: what is waiting for a future may submit more.
            for element, state, believed in endings:
                outcome.resolve(element, state, believed=believed)
            with self._lock:
                if not self._closed and not endings:
                    self._wake.wait(self._watch.pause if self._submissions else None)

    def _round(self) -> None:
        for entry in self._watch.new_entries():
            submission = self._submissions.get(entry.token)
            if submission is not None and entry.number < len(submission.elements):
                element = submission.elements[entry.number]
                self._guarded(element, partial(self._take_entry, element, entry))
        now = time.time()
        for element in list(self._running)[:READS_PER_ROUND]:
            if element.read_at <= now:
                self._guarded(element, partial(self._read_again, element, now))
        for element in [e for e in self._suspects if (e.look_at or 0.0) <= now]:
            self._guarded(element, partial(self._judge, element))

    def _guarded(self, element: Element, work: Callable[[], object]) -> None:
        """Follow one run so that trouble with it ends it, and not the following of all others."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a thread has no caller: its runs must not hang
            clue = f"untracked: {type(error).__name__}: {error}"
            verdict = Verdict(Decision.END, type=StateType.CRASHED, cause="JobLost", clue=clue)
            state = outcome.decided(verdict, element)
            if isinstance(state.data, BaseException):
                state.data.__cause__ = error
            if self.drop(element):
                self._endings.append((element, state, False))

    def _take_entry(self, element: Element, entry: Entry) -> None:
        if element.over:
            return
        if entry.kind == MARK:
            element.marked.add(entry.restart)
        element.restart = max(element.restart, entry.restart)
        self._read(element, entry.restart)
        if not element.over:
            self._running[element] = None
            element.read_at, element.read_pause = time.time() + 0.25, 0.25

    def _read_again(self, element: Element, now: float) -> None:
        # To the end of the line, so that all have their turn.
        self._running.pop(element)
        if self._read(element, element.restart):
            element.read_pause = 0.25
        else:
            element.read_pause = min(element.read_pause * 1.5, SLOWEST_READ)
        element.read_at = now + element.read_pause
        if not element.over:
            self._running[element] = None

    def _read(self, element: Element, restart: int) -> bool:
        any_new = False
        while not element.over:
            events = list(read_new(self.root.run_dir, element, restart))
            for event in events:
                self._take_event(element, event)
            if not events:
                break
            any_new = True
        if element.final is not None and not element.over:
            self._judge_outcome(element, restart)
        return any_new

    # What jobs say -------------------------------------------------------------------------------

    def _take_event(self, element: Element, event: Event) -> None:
        data = event.data
        mine = data.get("id") == element.call.run.id or data.get("task_run") == element.call.run.id
        if event.kind == "log" and mine:
            self._show(element, data, event.wall)
        elif event.kind == "state" and mine:
            outcome.take_state(element, event)
        elif event.kind == "job-status":
            self._take_word(element, event)

    def _show(self, element: Element, record: dict[str, Any], when: float) -> None:
        """Show on the console what the job has logged; its journal holds it already."""
        colour = self.root.settings.console_colour
        text = f"Task run {element.call.run.name!r} - {record.get('message')}"
        print_line(colour, str(record.get("level")), text, when)

    def _take_word(self, element: Element, event: Event) -> None:
        element.job_seen = str(event.data.get("job") or element.job_seen)
        if event.data.get("phase") == "refused":
            outcome.take_refusal(element, event)
        elif event.data.get("phase") == "ending":
            self._hurry(element)

    def _hurry(self, element: Element) -> None:
        asker = self._askers.get(element.submission.cluster.name)
        if asker is not None:
            asker.hurry()

    def _judge_outcome(self, element: Element, restart: int) -> None:
        """Judge once the job has left its mark, which it does after its last line."""
        if element.final is None:
            return
        if restart in element.marked or time.time() - element.final[2] > MARK_GRACE:
            element.problem = outcome.result_problem(self.root.run_dir, element.final[1])
            self._judge(element)
        else:
            element.look_at = element.final[2] + MARK_GRACE
            self._suspects.add(element)

    # What schedulers say, in the askers' threads -------------------------------------------------

    def queue_questions(self, cluster: str) -> list[str]:
        """Return the ids to ask a cluster's queue about."""
        with self._lock:
            ids: list[str] = []
            for submission in self._submissions.values():
                if submission.cluster.name != cluster or not submission.job:
                    continue
                alive = submission.alive()
                if submission.array and len(alive) > WHOLE_ARRAY:
                    ids.append(submission.job)
                    alive = [e for e in alive if not e.job.startswith(f"{submission.job}_")]
                ids.extend(element.job for element in alive)
            return list(dict.fromkeys(ids))

    def history_questions(self, cluster: str) -> dict[str, str]:
        """Return the ids to ask a cluster's accounting about, each with the name of its job."""
        with self._lock:
            return {
                element.job: element.submission.token
                for element in self._suspects
                if element.wants_history and element.submission.cluster.name == cluster
            }

    def queue_answered(
        self, cluster: str, asked: Sequence[str], found: Mapping[str, JobStatus]
    ) -> bool:
        """Take an answer of the queue; return whether anything has changed."""
        now = time.time()
        changed = False
        # What was submitted while the question was under way is not in the answer, and not gone.
        about = set(asked)
        with self._lock:
            for submission in list(self._submissions.values()):
                if submission.cluster.name != cluster or not submission.job:
                    continue
                for element in submission.alive():
                    if element.job not in about and submission.job not in about:
                        continue
                    word = found.get(element.job) or found.get(submission.job)
                    status = ours(word, submission.token, submission.began)
                    changed |= self._take_queue(element, status, now)
            self._wake.notify()
        return changed

    def _take_queue(self, element: Element, status: JobStatus | None, now: float) -> bool:
        before = element.queue
        element.queue, element.asked = status, now
        if status is None:
            element.gone_since = element.gone_since or now
        else:
            element.gone_since = None
            ended = status.phase is Phase.ENDED
            element.ended_since = (element.ended_since or now) if ended else None
            if not ended:  # what accounting has said, if anything, was of an earlier start
                element.history, element.history_asked = None, None
        changed = _word(before) != _word(status)
        if changed:
            try:
                self._note_change(element, before, status)
            except JournalError as error:
                # What was learned counts all the same, and who asks must go on asking.
                self.log(ERROR, str(error), element)
        element.look_at = now
        self._suspects.add(element)
        return changed

    def _note_change(
        self, element: Element, before: JobStatus | None, status: JobStatus | None
    ) -> None:
        if status is None:
            return
        if status.phase is Phase.QUEUED and element.restart >= 0:
            self._queued_again(element, status)
        key = (status.phase.value, status.reason)
        submission = element.submission
        first = key not in submission.told
        if status.phase is Phase.QUEUED and not first and before is None:
            return  # a thousand elements wait for one reason: it is journalled once
        submission.told.add(key)
        self.root.journal.write(
            "job-status",
            {
                "token": submission.token,
                "job": status.job,
                "task_run": element.call.run.id,
                "phase": status.phase.value,
                "raw": status.raw,
                "reason": status.reason,
                "nodes": status.nodes,
                "partition": status.partition,
            },
        )

    def _queued_again(self, element: Element, status: JobStatus) -> None:
        current = element.call.run.state
        if current is None or current.type is not StateType.RUNNING:
            return
        message = "The scheduler has queued the job again."
        details = {"job": element.job, "reason": status.reason, "requeued": True}
        state = InfrastructurePending(message, details=details)
        run = element.call.run
        run.run_count = max(run.run_count, element.attempt)
        self.root.record("task", run, state)
        self.log(WARNING, f"Job {element.job} of task run {run.name!r} was queued again.", element)

    def history_answered(
        self, cluster: str, asked: Sequence[str], found: Mapping[str, JobStatus]
    ) -> None:
        """Take an answer of accounting."""
        del cluster
        now = time.time()
        wanted = set(asked)
        with self._lock:
            for element in list(self._suspects):
                if element.job in wanted:
                    element.history = found.get(element.job)
                    element.history_asked = now
                    element.wants_history = False
                    if element.history is not None and element.history.phase is Phase.ENDED:
                        element.ended_since = element.ended_since or now
                    element.look_at = now
            self._wake.notify()

    # Verdicts ------------------------------------------------------------------------------------

    def _judge(self, element: Element) -> None:
        if element.over:
            return
        if element.final is not None:
            element.problem = outcome.result_problem(self.root.run_dir, element.final[1])
        asker = self._askers.get(element.submission.cluster.name)
        verdict = judge(
            element.facts(
                reachable=asker is None or asker.reachable,
                accounting=asker is not None and asker.accounting,
            )
        )
        if verdict.decision is Decision.END:
            self._carry_out(element, verdict)
            return
        self._keep_looking(element, verdict, asker)

    def _keep_looking(self, element: Element, verdict: Verdict, asker: Asker | None) -> None:
        if verdict.warning and verdict.warning not in element.submission.told:
            element.submission.told.add(verdict.warning)
            name = element.call.run.name
            text = f"Task run {name!r} (job {element.job}) waits: {verdict.warning}."
            self.log(WARNING, text, element)
        if element.ended_since is None and element.gone_since is None and element.final is None:
            self._suspects.discard(element)
            element.look_at = None
            return
        element.look_at = time.time() + verdict.seconds
        self._suspects.add(element)
        if verdict.decision is Decision.ASK_HISTORY and asker is not None:
            element.wants_history = True
            asker.look()

    def _carry_out(self, element: Element, verdict: Verdict) -> None:
        if verdict.type is None and element.final is not None:
            # The job's journal holds it already.
            state, data, _ = element.final
            final = outcome.believed(state, data, self.root.results, element)
            if self.drop(element):
                self._endings.append((element, final, True))
            return
        decided = outcome.decided(verdict, element)
        if decided.name == "Rejected":
            self._withdraw(element)
        if self.drop(element):
            self._endings.append((element, decided, False))

    def _withdraw(self, element: Element) -> None:
        submission = element.submission
        asker = self._askers[submission.cluster.name]
        self._withdrawals.add(asker, submission.token, element.job)

    def log(self, level: int, message: str, about: Element | None = None) -> None:
        """Log a message about jobs.

        Args:
            level: as of the standard library's logging.
            message: the message.
            about: whose; the flow or task run that called it says it, else the first run.
        """
        run_log(self._context if about is None else about.call.context, level, message)

    def warn(self, message: str) -> None:
        """Log a warning about a cluster."""
        self.log(WARNING, message)

    def tell(self, message: str, about: Element) -> None:
        """Log what was done."""
        self.log(INFO, message, about)


def _word(status: JobStatus | None) -> tuple[str, str, str] | None:
    return None if status is None else (status.phase.value, status.raw, status.reason)
