"""Slurm through its commands, over any transport.

`slurm_commands` builds what is said, `slurm_parse` and `slurm_site` read what is answered,
`slurm_errors` tells the kinds of refusal apart, `slurm_states` knows the states. This file only
joins them; it holds no state, so that its methods may be called from several threads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hpc_flows.exceptions import (
    AccountingUnavailable,
    ClusterError,
    CommandTimedOut,
    SchedulerUnavailable,
    SubmissionInDoubt,
    SubmissionThrottled,
    TransportError,
    close_match,
)
from hpc_flows.schedulers import slurm_commands as say
from hpc_flows.schedulers import slurm_errors as errors
from hpc_flows.schedulers import slurm_parse as read
from hpc_flows.schedulers import slurm_site as site
from hpc_flows.schedulers.base import JobSpec, JobStatus, Phase, Scheduler, SchedulerInfo
from hpc_flows.transports.base import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hpc_flows.transports.base import Completed, Transport

#: Arrays and jobs in one question: 1,000 ids in one squeue took 96 ms, in one sacct 81 ms.
BATCH = 1000


class Slurm(Scheduler):
    """The adapter to Slurm's commands.

    Args:
        transport: the way to a machine that has the commands.
        path: folders to put in front of `PATH` for them.
        memory: how the site wants memory asked for: `per_node`, `per_cpu` or `omit`.
        export: what jobs inherit: `CLEAN` for what `slurm_commands.job_environment` keeps, else
            the value of sbatch's `--export` in scripts, such as `NONE`; None leaves it out.
        timeout: seconds until a command is cut.

    Raises:
        ClusterError: `memory` is none of the three.
    """

    kind = "slurm"

    def __init__(
        self,
        transport: Transport,
        *,
        path: Sequence[str] = (),
        memory: str = "per_node",
        export: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        if memory not in say.MEMORY_RULES:
            msg = (
                f"memory={memory!r} is not a rule for memory; it is one of "
                f"{', '.join(say.MEMORY_RULES)}.{close_match(memory, say.MEMORY_RULES)}"
            )
            raise ClusterError(msg)
        self.transport = transport
        self.path = tuple(path)
        self.memory = memory
        self.export = export
        self.timeout = timeout

    def directives(self, spec: JobSpec) -> list[str]:
        """Return the `#SBATCH` lines of a spec; see `Scheduler.directives`."""
        export = None if self.export == "CLEAN" else self.export
        return say.directives(spec, self.memory, export)

    def submit(self, spec: JobSpec, script: str) -> str:
        """Submit a script; see `Scheduler.submit`.

        Raises:
            CommandNotFound: there is no sbatch.
        """
        try:
            done = self._run(say.submit_argv(script), submits=True)
        except CommandTimedOut as error:
            return self._after_time_out(spec.token, error)
        found = read.job_id(done.stdout)
        if done.returncode != 0 and found is None:
            raise errors.refused_submission(done)
        if found is None or done.returncode != 0:
            msg = (
                f"sbatch ended with status {done.returncode} and printed no clear id, so the job "
                f"may have been accepted: {done.stdout!r} {done.stderr!r}"
            )
            raise SubmissionInDoubt(msg)
        return found

    def _after_time_out(self, token: str, error: CommandTimedOut) -> str:
        if errors.WAITS_FOR_ROOM not in str(error).lower():
            raise SubmissionInDoubt(str(error)) from error
        # The controller answers, and sbatch was waiting for MaxJobCount when it was cut; the
        # last of its attempts may have gone through all the same.
        try:
            found = self.find(token)
        except SchedulerUnavailable as unknown:
            msg = f"{error} Whether it was accepted cannot be asked now: {unknown}"
            raise SubmissionInDoubt(msg) from error
        if found:
            return say.array_of(found[0].job)
        msg = f"Slurm holds as many jobs as it may (MaxJobCount), and takes no more now. {error}"
        raise SubmissionThrottled(msg) from error

    def poll(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        """Ask squeue; see `Scheduler.poll`."""
        found: dict[str, JobStatus] = {}
        for batch in say.batches(ids, BATCH):
            found.update(self._queue(say.poll_argv(batch)))
        return read.asked(ids, found)

    def _queue(self, argv: list[str]) -> dict[str, JobStatus]:
        done = self._ask(argv)
        if done.returncode == 0:
            return read.queue(done.stdout)
        if errors.UNKNOWN_IDS in done.stderr.lower():
            return {}
        raise errors.unavailable(done)

    def history(self, ids: Sequence[str], names: Collection[str] = ()) -> dict[str, JobStatus]:
        """Ask sacct; see `Scheduler.history`.

        Nothing is said of jobs that are held or wait for another job, nor of a job's first
        moments: sacct does not show them, with exit status 0.
        """
        found: dict[str, JobStatus] = {}
        for batch in say.batches(ids, BATCH):
            found.update(read.history(self._accounts(say.history_argv(batch)), names))
        return read.asked(ids, found)

    def _accounts(self, argv: list[str]) -> str:
        try:
            done = self._run(argv)
        except TransportError as error:
            msg = f"Slurm's accounting cannot be asked: {error}"
            raise AccountingUnavailable(msg) from error
        failed = done.returncode != 0
        if failed or (not done.stdout.strip() and "error" in done.stderr.lower()):
            msg = f"Slurm's accounting gave no answer: {errors.complaint(done)}"
            raise AccountingUnavailable(msg)
        return done.stdout

    def find(self, token: str | Sequence[str], since: float | None = None) -> list[JobStatus]:
        """Look for jobs by name, first in squeue, then in sacct; see `Scheduler.find`."""
        tokens = [token] if isinstance(token, str) else list(dict.fromkeys(token))
        found: list[JobStatus] = []
        for start in range(0, len(tokens), BATCH):
            found += self._named(tokens[start : start + BATCH], since)
        return found

    def _named(self, tokens: list[str], since: float | None) -> list[JobStatus]:
        found = self._queue(say.find_argv(tokens))
        ago = None if since is None else max(0.0, time.time() - since)
        try:
            past = read.history(self._accounts(say.history_find_argv(tokens, ago)))
        except AccountingUnavailable:
            past = {}
        # What the queue says is newer: accounting shows endings that were taken back.
        both = {**past, **found}
        return [status for status in both.values() if _is_it(status, tokens, since)]

    def cancel(self, ids: Sequence[str], *, token: str | None = None) -> None:
        """Cancel with one scancel; see `Scheduler.cancel`.

        With a token, squeue is asked first what is ours. `scancel --name=TOKEN` would be one
        command less, but with it 22.05 cancels all waiting elements of an array where one was
        meant, and leaves one record for them all.
        """
        chosen = list(dict.fromkeys(ids))
        if token is not None and chosen:
            chosen = _living(chosen, self.poll(chosen), token)
        if not chosen:
            return
        done = self._ask(say.cancel_argv(chosen))
        error = errors.refused_cancel(done) if done.returncode != 0 else None
        if error is not None:
            raise error

    def describe(self) -> SchedulerInfo:
        """Ask scontrol, and sacct whether it answers; see `Scheduler.describe`."""
        argvs = (say.CONFIG_ARGV, say.PARTITIONS_ARGV, say.NODES_ARGV)
        config, partitions, nodes = (self._answer(argv) for argv in argvs)
        accounting = site.keeps_accounts(config) and self._accounting_answers()
        return site.describe(config, partitions, nodes, accounting=accounting)

    def _accounting_answers(self) -> bool:
        try:
            self._accounts(say.PROBE_ARGV)
        except AccountingUnavailable:
            return False
        return True

    def _answer(self, argv: list[str]) -> str:
        done = self._ask(argv)
        if done.returncode != 0:
            raise errors.unavailable(done)
        return done.stdout

    def _ask(self, argv: list[str]) -> Completed:
        """Run a command whose failing says nothing about any job."""
        try:
            return self._run(argv)
        except TransportError as error:
            msg = f"Slurm cannot be asked: {error}"
            raise SchedulerUnavailable(msg) from error

    def _run(self, argv: list[str], *, submits: bool = False) -> Completed:
        inherited = self.transport.environment()
        environment = say.command_environment(inherited, self.path, times=not submits)
        if submits and self.export == "CLEAN":
            environment = say.job_environment(environment)
        return self.transport.run(argv, env=environment, timeout=self.timeout)


def _living(ids: list[str], queued: dict[str, JobStatus], token: str) -> list[str]:
    """Return the ids that have not ended and whose name is the token."""
    ours = {
        job
        for job, status in queued.items()
        if status.name == token and status.phase is not Phase.ENDED
    }
    arrays = {say.array_of(job) for job in ours}
    return [job for job in ids if job in ours or (not say.is_element(job) and job in arrays)]


def _is_it(status: JobStatus, tokens: list[str], since: float | None) -> bool:
    if status.name not in tokens:
        return False
    # A second of grace: Slurm keeps whole seconds.
    return since is None or status.submitted is None or status.submitted >= since - 1
