"""`sbatch`: from a script and options to a queued job."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import admission, scheduling
from hpc_flows.mock_cluster.admission import RefusedError
from hpc_flows.mock_cluster.client.unreachable import TIMED_OUT
from hpc_flows.mock_cluster.dialects.slurm import requests, words
from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, UsageError
from hpc_flows.mock_cluster.dialects.slurm.preliminaries import answered_at_once, user_name
from hpc_flows.mock_cluster.hostlist import compress_hosts, parse_elements
from hpc_flows.mock_cluster.job import Job, Request, clean_status
from hpc_flows.mock_cluster.placement import candidates, place

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.service import Service

_BEGINNINGS = {
    "sbatch": "sbatch: error: Batch job submission failed: ",
    "srun": "srun: error: Unable to allocate resources: ",
    "salloc": "salloc: error: Job submit/allocate failed: ",
}
_NO_SHEBANG = (
    "This does not look like a batch script.  The first",
    "line must start with #! followed by the path to an interpreter.",
    "For instance: #!/bin/sh",
)
_DOS = (
    "Batch script contains DOS line breaks (\\r\\n)",
    "instead of expected UNIX line breaks (\\n).",
)
_SLEEPING = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
_GIVE_UP_SECONDS = 120.0


def sbatch(service: Service, call: Call) -> None:
    """Answer one sbatch."""
    given = requests.PARSERS["sbatch"].parse(call.argv, stop_at_operand=True)
    if answered_at_once(service, call, given):
        return
    if given.has("wrap"):
        if given.operands:
            _complain("Script arguments not permitted with --wrap option")
        _submit(
            service,
            call,
            given,
            f"#!/bin/sh\n# This script was created by sbatch by --wrap.\n\n{given.get('wrap')}\n",
        )
    elif given.operands:
        path, script = _read_script(call, given.operands[0])
        _submit(service, call, given, script, path)
    else:
        call.ask_stdin(lambda data: service.guard(call, lambda: _from_stdin(service, call, data)))


def _from_stdin(service: Service, call: Call, data: bytes) -> None:
    given = requests.PARSERS["sbatch"].parse(call.argv, stop_at_operand=True)
    script = data.decode("utf-8", "surrogateescape")
    _check_script(script)
    _submit(service, call, given, script)


def _complain(*lines: str) -> None:
    raise UsageError("".join(f"sbatch: error: {line}\n" for line in lines))


def _read_script(call: Call, name: str) -> tuple[str, str]:
    path = name if name.startswith("/") else os.path.join(call.cwd, name)
    if not os.path.exists(path) and "/" not in name:
        path = shutil.which(name, path=call.env.get("PATH", "")) or path
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            script = file.read()
    except OSError:
        _complain(f"Unable to open file {name}")
        raise
    _check_script(script)
    return path, script


def _check_script(script: str) -> None:
    if not script:
        _complain("Batch script is empty!")
    if not script.startswith("#!"):
        _complain(*_NO_SHEBANG)
    if "\r\n" in script:
        _complain(*_DOS)


def directives(script: str) -> Parsed:
    """Return the options of a script's #SBATCH lines, which end at the first command."""
    argv: list[str] = []
    for line in script.split("\n"):
        if line.startswith("#SBATCH"):
            argv += shlex.split(line[len("#SBATCH") :], comments=True)
        elif line.strip() and not line.startswith("#"):
            break
    parsed = requests.PARSERS["sbatch"].parse(argv)
    if "hetjob" in parsed.operands or "packjob" in parsed.operands:
        _complain("heterogeneous jobs are not played by the mock cluster")
    parsed.operands = []
    return parsed


def _submit(service: Service, call: Call, given: Parsed, script: str, path: str = "") -> None:
    """Join the three sources of options, check, and queue."""
    options = requests.overlay(directives(script), requests.variables(call.env, "SBATCH_"), given)
    request = requests.build(call, "sbatch", options, user_name(call.uid), service.now())
    fallback = os.path.basename(path) or ("wrap" if given.has("wrap") else "sbatch")
    name = options.get("job-name")
    request.name = fallback if name is None else name
    request.script, request.argv = script, tuple(given.operands[1:])
    request.command = " ".join([path, *request.argv]) if path else None
    request.environment = dict(call.env)
    request.submit_line = " ".join(["sbatch", *call.argv])
    request.requeue = options.has("requeue") or (
        service.site.requeue and not options.has("no-requeue")
    )
    if options.has("test-only"):
        try_only(service, call, request)
        return
    _queue(service, call, request, options)


def element_count(request: Request) -> int:
    """Return how many jobs a checked request makes."""
    return len(parse_elements(request.array.partition("%")[0])) if request.array else 1


def _queue(service: Service, call: Call, request: Request, options: Parsed) -> None:
    try:
        admission.check(service.site, request, inside_job=is_inside(service, call))
        if service.cluster.is_full(element_count(request)) or service.faults.fire(
            "max_job_count", job=request.name
        ):
            call.err(_SLEEPING)
            _wait_for_room(service, call, request, options)
            return
        job = service.cluster.submit(request)
    except RefusedError as refusal:
        refuse(service, call, "sbatch", refusal)
        return
    _answer(service, call, job, options)


def _wait_for_room(service: Service, call: Call, request: Request, options: Parsed) -> None:
    """Try again every second, as sbatch does, until there is room or patience ends."""
    give_up = service.now() + _GIVE_UP_SECONDS

    def again() -> None:
        if call.fileno() < 0:
            return
        room = not service.cluster.is_full(element_count(request))
        if room and not service.faults.active("max_job_count"):
            service.guard(
                call, lambda: _answer(service, call, service.cluster.submit(request), options)
            )
        elif service.now() > give_up:
            call.err(f"{_BEGINNINGS['sbatch']}Resource temporarily unavailable\n")
            call.finish(1)
        else:
            service.clock.call_in(1.0, again)

    service.clock.call_in(1.0, again)


def _answer(service: Service, call: Call, job: Job, options: Parsed) -> None:
    """Print the id, or what a fault makes of it, and wait for the end where that was asked."""
    fault = service.faults.fire("sbatch_times_out", job=job.request.name)
    if fault is not None:
        service.clock.call_in(fault.number("delay", 0.0), lambda: _time_out(call))
        return
    if service.faults.fire("controller_dies", job=job.request.name):
        service.die()
    banner = service.faults.fire("banner", job=job.request.name)
    if banner is not None:
        write = call.err if banner.text("stream", "stdout") == "stderr" else call.out
        write(banner.text("text", "*** Welcome to the cluster ***") + "\n")
    if options.has("parsable"):
        call.out(f"{job.id}\n")
    elif not options.has("quiet"):
        call.out(f"Submitted batch job {job.id}\n")
    if options.has("wait"):
        service.cluster.when_ended(job, lambda _last: call.finish(_worst(service, job)))
    else:
        call.finish()


def _time_out(call: Call) -> None:
    call.err(f"{_BEGINNINGS['sbatch']}{TIMED_OUT}\n")
    call.finish(1)


def _worst(service: Service, job: Job) -> int:
    """Return the exit status of `sbatch -W`: the job's own, the greatest of an array's."""
    statuses = []
    for record in service.cluster.records(job.array_id or job.id):
        code, number = clean_status(record.status)
        ended_well = record.state in {"COMPLETED", "FAILED", "OUT_OF_MEMORY"}
        statuses.append((code or (128 + number if number else 0)) if ended_well else 1)
    return max(statuses, default=0)


def is_inside(service: Service, call: Call) -> bool:
    """Return whether a command runs inside a job of this cluster."""
    text = call.env.get("SLURM_JOB_ID", "")
    job = service.cluster.jobs.get(int(text)) if text.isdecimal() else None
    return job is not None and job.active


def refuse(service: Service, call: Call, command: str, refusal: RefusedError) -> None:
    """Print a refusal as a command does, and end it."""
    if refusal.uses_id:
        service.cluster.take_id()
    for note in refusal.notes:
        call.err(f"{command}: error: {note}\n")
    call.err(f"{_BEGINNINGS[command]}{refusal.text}\n")
    call.finish(1)


def try_only(service: Service, call: Call, request: Request) -> None:
    """Say when a job could start (`--test-only`); that uses up an id."""
    cluster = service.cluster
    try:
        admission.check(service.site, request, inside_job=False)
    except RefusedError as refusal:
        for note in refusal.notes:
            call.err(f"{call.command}: error: {note}\n")
        call.err(f"allocation failure: {refusal.text}\n")
        call.finish(1)
        return
    job = Job(cluster.take_id(), 0, request, service.now(), time_limit=request.time_limit)
    partition = cluster.partition_of(job)
    share = place(request, partition, candidates(request, partition, cluster.nodes))
    start = service.now()
    if share is None:
        start, share = scheduling.expected_start(cluster, job)
    with words.zone_of(call.env):
        when = words.show_time(start, call.env)
    call.err(
        f"{call.command}: Job {job.id} to start at {when} using {request.cpus} processors on nodes "
        f"{compress_hosts(share)} in partition {request.partition}\n"
    )
    call.finish()
