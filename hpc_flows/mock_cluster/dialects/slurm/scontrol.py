"""`scontrol`: show, hold, release, requeue, update, ping."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import actions, outages
from hpc_flows.mock_cluster.admission import BAD_PARTITION
from hpc_flows.mock_cluster.dialects.slurm import show, words
from hpc_flows.mock_cluster.dialects.slurm.fields import View
from hpc_flows.mock_cluster.dialects.slurm.options import Parser, UsageError, options_of
from hpc_flows.mock_cluster.dialects.slurm.preliminaries import answered_at_once
from hpc_flows.mock_cluster.dialects.slurm.squeue import as_element
from hpc_flows.mock_cluster.hostlist import compress_hosts, expand_hosts, split_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.job import Job
    from hpc_flows.mock_cluster.service import Service

_PARSER = Parser(
    "scontrol",
    options_of("""
all a flag
clusters M value
details d flag
future F flag
help h flag
hide - flag
json - maybe refused
local - flag
oneliner o flag
quiet Q flag
uid u value refused
verbose v flag
version V flag
yaml - maybe refused
"""),
)
_JOB_ID = re.compile(r"^(\d+)(?:_(\d+|\[[\d,-]+\]|\*))?$")
BAD_JOB = "Invalid job id specified"


def scontrol(service: Service, call: Call) -> None:
    """Answer one scontrol."""
    given = _PARSER.parse(call.argv)
    if answered_at_once(service, call, given):
        return
    if not given.operands:
        raise UsageError("scontrol: error: the interactive mode is not played by the mock\n")
    verb, *rest = given.operands
    handler = _VERBS.get(verb.lower())
    if handler is None:
        raise UsageError(f"invalid keyword: {verb}\n")
    with words.zone_of(call.env):
        call.finish(handler(service, call, rest, given.has("oneliner")))


def _ping(_service: Service, call: Call, _rest: list[str], _one: bool) -> int:  # noqa: FBT001 - one signature for all verbs
    call.out("Slurmctld(primary) at login is UP\n")
    return 0


# -- show


def _show(service: Service, call: Call, rest: list[str], one_line: bool) -> int:  # noqa: FBT001 - as above
    if not rest:
        raise UsageError("too few arguments for keyword:show\n")
    what, *names = rest
    what, equals, value = what.partition("=")
    names = [value, *names] if equals else names
    if what.lower() in {"hostnames", "hostname"}:
        hosts = expand_hosts(",".join(names) or call.env.get("SLURM_JOB_NODELIST", ""))
        call.out("".join(f"{host}\n" for host in hosts))
        return 0
    if what.lower() in {"hostlist", "hostlistsorted"}:
        call.out(compress_hosts(expand_hosts(",".join(names))) + "\n")
        return 0
    shower = _SHOWN.get(what.lower().rstrip("s"))
    if shower is None:
        raise UsageError(f"invalid entity:{what} for keyword:show \n")
    return shower(service, call, names, one_line)


def _show_job(service: Service, call: Call, names: list[str], one_line: bool) -> int:  # noqa: FBT001 - as above
    if not names:
        jobs = sorted(service.cluster.jobs.values(), key=lambda job: job.id)
        if not jobs:
            call.out("No jobs in the system\n")
        for job in jobs:
            call.out(show.job_text(View(service.cluster, job, call.env), one_line=one_line))
        return 0
    jobs = [job for name in split_list(",".join(names)) for job in _find(service, name)]
    number = names[0].partition("_")[0]
    if not jobs and "_" in names[0] and number.isdecimal() and service.cluster.knows(int(number)):
        call.out(f"Job {names[0]} not found\n")
        return 1
    if not jobs:
        call.err(f"slurm_load_jobs error: {BAD_JOB}\n")
        return 1
    for job in jobs:
        call.out(show.job_text(View(service.cluster, job, call.env), one_line=one_line))
    return 0


def _find(service: Service, name: str) -> list[Job]:
    """Return the records of `351`, `351_3` or `351_[3-4]`; the array's own record first."""
    match = _JOB_ID.match(name)
    if match is None:
        return []
    records = service.cluster.records(int(match[1]))
    if match[2] is None or match[2] == "*":
        return records
    from hpc_flows.mock_cluster.hostlist import parse_elements  # noqa: PLC0415 - elements only

    wanted = parse_elements(match[2].strip("[]"))
    found = [job for job in records if job.task in wanted]
    for common in (job for job in records if job.is_common):
        found += [as_element(common, element) for element in wanted if element in common.waiting]
    return found


def _show_partition(service: Service, call: Call, names: list[str], one_line: bool) -> int:  # noqa: FBT001 - as above
    for name in names:
        if name not in service.site.partitions:
            call.out(f"Partition {name} not found\n")
            return 1
    for spec in service.site.partitions.values():
        if not names or spec.name in names:
            call.out(show.join(show.partition_lines(service, spec), one_line=one_line))
    return 0


def _show_node(service: Service, call: Call, names: list[str], one_line: bool) -> int:  # noqa: FBT001 - as above
    wanted = expand_hosts(",".join(names))
    for name in wanted:
        if name not in service.cluster.nodes:
            call.out(f"Node {name} not found\n")
            return 1
    for name, node in service.cluster.nodes.items():
        if not wanted or name in wanted:
            call.out(show.join(show.node_lines(service, node), one_line=one_line))
    return 0


def _show_config(service: Service, call: Call, _names: list[str], _one: bool) -> int:  # noqa: FBT001 - as above
    call.out(show.config_text(service))
    return 0


# -- changing


def _each_job(service: Service, call: Call, names: list[str], act: Callable[[Job], None]) -> int:
    """Do something to every named job; print what the controller will not do."""
    if not names:
        raise UsageError(f"too few arguments for keyword:{call.argv[0]}\n")
    status = 0
    for name in split_list(",".join(names)):
        jobs = _find(service, name.removeprefix("jobid=").removeprefix("job="))
        if not jobs:
            call.err(f"{BAD_JOB} for job {name}\n")
            status = 1
        for job in jobs:
            try:
                act(_own(service, job))
            except actions.ActionError as error:
                shown = name if not job.is_common else f"{job.array_id}_{job.element_text}"
                call.err(f"{error} for job {shown}\n")
                status = 1
    return status


def _own(service: Service, job: Job) -> Job:
    """Return the record itself for an element that was cut out for printing."""
    if job.task is None or job.id not in service.cluster.jobs:
        return job
    common = service.cluster.jobs[job.id]
    if common is job or common.task is not None:
        return job
    return service.cluster.split(common, job.task)


def _hold(service: Service, call: Call, rest: list[str], _one: bool) -> int:  # noqa: FBT001 - as above
    status = _each_job(
        service, call, rest, lambda job: actions.hold(service.cluster, job, call.uid)
    )
    return _suspend_error(service, call, rest, status)


def _suspend_error(service: Service, call: Call, names: list[str], status: int) -> int:
    """Print the second line that hold and release have for an error."""
    if status:
        known = any(_find(service, name) for name in split_list(",".join(names)))
        text = actions.NOT_PERMITTED if known else BAD_JOB
        call.err(f"slurm_suspend error: {text}\n")
    return status


def _release(service: Service, call: Call, rest: list[str], _one: bool) -> int:  # noqa: FBT001 - as above
    status = _each_job(
        service, call, rest, lambda job: actions.release(service.cluster, job, call.uid)
    )
    return _suspend_error(service, call, rest, status)


def _requeue(service: Service, call: Call, rest: list[str], _one: bool) -> int:  # noqa: FBT001 - as above
    return _each_job(
        service, call, rest, lambda job: actions.requeue(service.cluster, job, call.uid)
    )


def _requeuehold(service: Service, call: Call, rest: list[str], _one: bool) -> int:  # noqa: FBT001 - as above
    return _each_job(
        service,
        call,
        rest,
        lambda job: actions.requeue(service.cluster, job, call.uid, hold_it=True),
    )


def _suspend(service: Service, call: Call, rest: list[str], _one: bool) -> int:  # noqa: FBT001 - as above
    """Refuse as Slurm does: only administrators suspend."""

    def refuse(_job: Job) -> None:
        raise actions.ActionError(actions.NOT_PERMITTED)

    return _each_job(service, call, rest, refuse)


def _update(service: Service, call: Call, rest: list[str], _one: bool) -> int:  # noqa: FBT001 - as above
    pairs = {key.lower(): value for key, _, value in (word.partition("=") for word in rest)}
    if "nodename" in pairs:
        return _update_node(service, pairs)
    if "partitionname" in pairs or ("partition" in pairs and "jobid" not in pairs):
        return _update_partition(service, call, pairs)
    name = pairs.pop("jobid", None) or pairs.pop("job", None)
    if name is None:
        raise UsageError(
            "No valid entity in update command\n"
            'Input line must include "NodeName", "PartitionName", "Reservation", "JobId", or '
            '"SlurmctldDebug"\n'
        )
    return _each_job(service, call, [name], lambda job: _change(service, call, job, pairs))


def _update_node(service: Service, pairs: dict[str, str]) -> int:
    for name in expand_hosts(pairs["nodename"]):
        state = pairs.get("state", "").upper()
        if state in {"DRAIN", "DOWN"}:
            outages.drain(service.cluster, name, pairs.get("reason", ""))
        if state == "DOWN":
            outages.mark_down(service.cluster, name, pairs.get("reason", ""))
        if state in {"RESUME", "IDLE"}:
            outages.bring_back(service.cluster, name)
    return 0


def _update_partition(service: Service, call: Call, pairs: dict[str, str]) -> int:
    name = pairs.get("partitionname") or pairs["partition"]
    spec = service.site.partitions.get(name)
    if spec is None:
        call.err("slurm_update error: Invalid partition name specified\n")
        return 1
    if "state" in pairs:
        spec.state = pairs["state"].upper()
        service.cluster.request_pass()
    return 0


def _change(service: Service, call: Call, job: Job, pairs: dict[str, str]) -> None:
    """Change a job's comment, name, time limit or partition."""
    if not actions.may_touch(job, call.uid):
        raise actions.ActionError(actions.NOT_PERMITTED)
    for key, value in pairs.items():
        changer = _CHANGES.get(key)
        if changer is None:
            raise UsageError(f"Update of this parameter is not supported: {key}={value}\n")
        changer(service, call, job, value)
    service.cluster.save(job)
    service.cluster.request_pass()


def _change_limit(service: Service, call: Call, job: Job, value: str) -> None:
    limit = words.parse_limit(value)
    if limit is None:
        raise UsageError(f"Invalid TimeLimit value: {value}\n")
    if call.uid != 0 and job.time_limit is not None and not 0 < limit <= job.time_limit:
        raise actions.ActionError(actions.NOT_PERMITTED)
    job.time_limit = limit
    if job.state == "RUNNING":
        service.cluster.watch_limits(job)


def _change_partition(service: Service, _call: Call, job: Job, value: str) -> None:
    if value not in service.site.partitions:
        raise actions.ActionError(BAD_PARTITION)
    job.request.partition = value


def _change_comment(service: Service, _call: Call, job: Job, value: str) -> None:
    job.comment = value
    if job.posted:
        service.cluster.post(job)


def _change_name(_service: Service, _call: Call, job: Job, value: str) -> None:
    job.request.name = value


_CHANGES: dict[str, Callable[[Service, Call, Job, str], None]] = {
    "comment": _change_comment,
    "jobname": _change_name,
    "name": _change_name,
    "timelimit": _change_limit,
    "partition": _change_partition,
}
_SHOWN = {
    "job": _show_job,
    "partition": _show_partition,
    "node": _show_node,
    "config": _show_config,
}
_VERBS: dict[str, Callable[[Service, Call, list[str], bool], int]] = {
    "ping": _ping,
    "show": _show,
    "hold": _hold,
    "release": _release,
    "requeue": _requeue,
    "requeuehold": _requeuehold,
    "suspend": _suspend,
    "resume": _suspend,
    "update": _update,
}
