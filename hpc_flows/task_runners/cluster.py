"""Runs each call as a job of a batch system, or as an element of a job array."""

from __future__ import annotations

import shlex
import threading
import time
from typing import TYPE_CHECKING, Any

from hpc_flows.clusters import Cluster
from hpc_flows.exceptions import (
    JournalError,
    ParameterError,
    SchedulerError,
    SettingsError,
    close_match,
)
from hpc_flows.jobs.access import check_place
from hpc_flows.jobs.submit import Desk
from hpc_flows.jobs.tracker import Tracker
from hpc_flows.resources import Resources
from hpc_flows.schedulers.base import Phase
from hpc_flows.schedulers.slurm_commands import cancel_argv
from hpc_flows.settings import get_settings
from hpc_flows.states import Cancelled
from hpc_flows.task_runners.base import TaskRunner

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import Self

    from hpc_flows.context import RunContext
    from hpc_flows.jobs.submission import Element
    from hpc_flows.schedulers.base import Scheduler
    from hpc_flows.task_runners.base import TaskCall

MODES = ("auto", "job", "array")
#: How often jobs are told to end before the user is told that they do not.
TRIES = 3
#: Seconds after the first of them before the queue is looked at; after the next ones it is longer.
PAUSE = 0.3


class ClusterTaskRunner(TaskRunner):
    """Submits calls to a cluster, follows their jobs, and brings back their results.

    Every task of the flow that uses it runs on the cluster, also those without resources.

    Args:
        cluster: a `Cluster`, its name, or the path of a profile; None takes the setting `cluster`.
        mode: `job` submits a job for each call; `array` submits arrays, even of one; `auto` submits
            an array where several calls that are ready at the same time ask for the same.
        resources: what lies under the resources of each task.

    Raises:
        ParameterError: the mode is not known.
        SettingsError: no cluster is named and none is active.
        UnknownCluster: there is no such cluster.
        ResourceError: the resources are wrong.
    """

    name = "cluster"
    places_resources = True
    outlives_driver = True

    def __init__(
        self,
        cluster: Cluster | str | os.PathLike[str] | None = None,
        *,
        mode: str = "auto",
        resources: Resources | Mapping[str, Any] | None = None,
    ) -> None:
        if mode not in MODES:
            hint = close_match(mode, MODES)
            raise ParameterError(f"mode must be one of {', '.join(MODES)}, not {mode!r}.{hint}")
        self.cluster = _cluster(cluster)
        self.mode = mode
        self.resources = Resources.of(resources) or Resources()
        self._lock = threading.Lock()
        self._tracker: Tracker | None = None
        self._desk: Desk | None = None
        self._elements: dict[str, Element] = {}

    def duplicate(self) -> Self:
        """Return a runner of the same options that shares nothing with this one."""
        return type(self)(self.cluster, mode=self.mode, resources=self.resources)

    def start(self, context: RunContext) -> None:
        """Get ready to submit for the run that `context` belongs to.

        Raises:
            ClusterError: this process is part of a job, and the site forbids to submit from jobs.
        """
        check_place(self.cluster)
        root = context.root
        if root is None:
            raise ParameterError("A cluster's runner needs a run; call the flow.")
        for warning in self.cluster.warnings():
            _warn(context, warning)
        self._tracker = Tracker(context)
        window = root.settings.array_window_seconds
        self._desk = Desk(self.cluster, self._tracker, self.mode, window)

    def check(self, task: Any) -> None:
        """Raise ResourceError when no partition can hold what the task asks for."""
        self.cluster.place(self._request(task))

    def submit(self, calls: Sequence[TaskCall]) -> None:
        """Submit calls; like ones go together."""
        groups: dict[tuple[int, Resources], list[TaskCall]] = {}
        for call in calls:
            groups.setdefault((id(call.task), self._request(call.task)), []).append(call)
        for (_, resources), group in groups.items():
            self._desk_of().take(group, resources)

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        """Cancel calls and their jobs, in one batched command, and see that it worked."""
        wanted = None if calls is None else {call.run.id for call in calls}
        tracker, desk = self._tracker, self._desk
        if tracker is None or desk is None:
            return
        elements = [
            element
            for element in (*desk.elements(), *tracker.elements())
            if wanted is None or element.call.run.id in wanted
        ]
        cancel_elements(tracker, desk, list(dict.fromkeys(elements)), reason)
        for call in calls or ():
            call.end(Cancelled(reason))

    def close(self) -> None:
        """Stop submitting and following; jobs that have not ended live on."""
        with self._lock:
            desk, tracker = self._desk, self._tracker
            self._desk = self._tracker = None
        if desk is not None:
            desk.close()
        if tracker is not None:
            tracker.close()

    def _request(self, task: Any) -> Resources:
        return self.resources.merged(task.resources or Resources())

    def _desk_of(self) -> Desk:
        if self._desk is None:
            raise ParameterError("This runner was not started, or was closed; call the flow.")
        return self._desk


class SlurmTaskRunner(ClusterTaskRunner):
    """Submits every task of a flow to a Slurm cluster: `@flow(task_runner=SlurmTaskRunner())`.

    Args:
        cluster: a `Cluster`, its name, or the path of a profile; None takes the setting `cluster`,
            and without that the shipped profile `generic_slurm`.
        mode: `job`, `array` or `auto`.
        resources: what lies under the resources of each task.

    Raises:
        ParameterError: the mode is not known, or the cluster is no Slurm cluster.
    """

    name = "slurm"

    def __init__(
        self,
        cluster: Cluster | str | os.PathLike[str] | None = None,
        *,
        mode: str = "auto",
        resources: Resources | Mapping[str, Any] | None = None,
    ) -> None:
        if cluster is None:
            cluster = get_settings().cluster or "generic_slurm"
        super().__init__(cluster, mode=mode, resources=resources)
        if self.cluster.scheduler != "slurm":
            raise ParameterError(
                f"{self.cluster.name} is run by {self.cluster.scheduler}, not by Slurm; use "
                "ClusterTaskRunner."
            )


def cancel_elements(tracker: Tracker, desk: Desk, elements: list[Element], reason: str) -> None:
    """Cancel runs: those that wait here at once, those with jobs through the scheduler."""
    for element in elements:
        # First: who follows the jobs may see them end before scancel has returned.
        element.cancelled = reason
    sent = [element for element in elements if element.submission.job]
    whole = _whole(sent)  # before they count as over
    alive = _cancel_jobs(tracker, desk, sent, reason) if sent else ""
    for element in elements:
        tracker.end(element, Cancelled(reason))
    if alive:
        commands = _commands(sent, whole)
        tracker.warn(f"Not all jobs were cancelled for certain: {alive} By hand: {commands}")
    kept = {element.submission.token for element in desk.elements()}
    doubtful = [token for token in desk.doubtful() if token not in kept]
    if doubtful:
        tracker.warn(
            "Submissions that have no clear answer yet may turn up as jobs all the same. Cancel "
            f"them by hand: scancel --name={','.join(doubtful)}"
        )


def _whole(elements: list[Element]) -> set[str]:
    """Return the tokens of the submissions of which no run is left out."""
    meant = set(elements)
    submissions = {element.submission.token: element.submission for element in elements}
    return {token for token, each in submissions.items() if meant.issuperset(each.alive())}


def _commands(elements: list[Element], whole: set[str]) -> str:
    """Return what cancels the jobs of runs by hand: by name where a whole submission is meant."""
    others = [element.job for element in elements if element.submission.token not in whole]
    commands = [f"scancel --name={','.join(sorted(whole))}"] if whole else []
    if others:
        commands.append(shlex.join(cancel_argv(others)))
    return "; ".join(commands)


def _cancel_jobs(tracker: Tracker, desk: Desk, elements: list[Element], reason: str) -> str:
    """Cancel the jobs of runs, checking their names before and their end after.

    Returns:
        Why some may live on; empty when the queue says that none does.
    """
    asker = desk.asker
    if asker is None:
        return "the scheduler was never reached."
    questions = _questions(elements)
    try:
        tracker.root.journal.write("job-cancel", {"jobs": questions, "reason": reason})
    except JournalError as error:  # a full disk is no reason to let jobs live on
        tracker.warn(str(error))
    try:
        for attempt in range(TRIES):
            mine = _living(asker.scheduler, questions, elements)
            if not mine:
                return ""
            asker.scheduler.cancel(mine)
            time.sleep(PAUSE * (attempt + 1))
        mine = _living(asker.scheduler, questions, elements)
    except SchedulerError as error:
        return str(error)
    told = shlex.join(cancel_argv(mine)[1:])
    return f"after {TRIES} commands still in the queue: {told}." if mine else ""


def _living(scheduler: Scheduler, questions: list[str], elements: list[Element]) -> list[str]:
    """Return which jobs of the runs have not ended, and are not about to."""
    tokens = {element.submission.token for element in elements}
    alive = [
        status.job
        for status in scheduler.poll(questions).values()
        if status.name in tokens and status.phase not in (Phase.ENDED, Phase.ENDING)
    ]
    return _chosen(alive, elements)


def _questions(elements: list[Element]) -> list[str]:
    """Return ids that cover the runs: whole arrays where all of one are meant."""
    ids = []
    for element in elements:
        submission = element.submission
        whole = submission.array and len(submission.alive()) > 1
        ids.append(submission.job if whole else element.job)
    return list(dict.fromkeys(ids))


def _chosen(alive: list[str], elements: list[Element]) -> list[str]:
    """Return the living jobs that belong to the runs; whole arrays where nothing else is left."""
    wanted = {element.job for element in elements} | {e.submission.job for e in elements}
    mine = [job for job in alive if job in wanted]
    arrays = {
        element.submission.job: element.submission
        for element in elements
        if element.submission.array
    }
    for job, submission in arrays.items():
        if {e.job for e in submission.alive()} <= {e.job for e in elements}:
            mine = [each for each in mine if not each.startswith(f"{job}_")]
            mine.append(job) if any(a.startswith(f"{job}_") for a in alive) else None
    return list(dict.fromkeys(mine))


def _cluster(cluster: Cluster | str | os.PathLike[str] | None) -> Cluster:
    if isinstance(cluster, Cluster):
        return cluster
    name = cluster or get_settings().cluster
    if name is None:
        raise SettingsError(
            "No cluster is named and none is active. Name one, as in ClusterTaskRunner('mock'), or "
            "set HPC_FLOWS_CLUSTER; `hpc-flows cluster ls` lists them."
        )
    return Cluster.load(name)


def _warn(context: RunContext, message: str) -> None:
    from hpc_flows.logging import WARNING, run_log  # noqa: PLC0415 - seldom said

    run_log(context, WARNING, message)
