"""`scancel`: silent about almost everything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import actions
from hpc_flows.mock_cluster.dialects.slurm.fields import CODES
from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, Parser, UsageError, options_of
from hpc_flows.mock_cluster.dialects.slurm.preliminaries import answered_at_once, user_name
from hpc_flows.mock_cluster.dialects.slurm.requests import signal_number
from hpc_flows.mock_cluster.hostlist import parse_elements

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.job import Job
    from hpc_flows.mock_cluster.service import Service

_PARSER = Parser(
    "scancel",
    options_of("""
account A value
batch b flag
clusters M value
ctld - flag
cron - flag refused
full f flag
help - flag
hurry H flag
interactive i flag refused
jobname n value
me - flag
name - value
nodelist w value refused
partition p value
qos q value
quiet Q flag
reservation R value refused
sibling - value refused
signal s value
state t value
usage - flag
user u value
verbose v flag
version V flag
wckey - value refused
"""),
)
_TARGET = re.compile(r"^(\d+)(?:_(\d+|\[[\d,-]+\]))?(?:\.\d+)?$")
_PLUGINS = (
    "scancel: select/cons_tres: common_init: select/cons_tres loaded\n"
    "scancel: select/cray_aries: init: Cray/Aries node selection plugin loaded\n"
    "scancel: select/linear: init: Linear node selection plugin loaded with argument 20\n"
    "scancel: select/cons_res: common_init: select/cons_res loaded\n"
)
#: The exit status of "Access/permission denied": the low byte of Slurm's error number.
_DENIED_STATUS = 210


def scancel(service: Service, call: Call) -> None:
    """Answer one scancel."""
    given = _PARSER.parse(call.argv)
    if answered_at_once(service, call, given):
        return
    if given.has("jobname"):
        given.values["name"] = given.values.pop("jobname")
    for target in given.operands:
        if _TARGET.match(target) is None:
            raise UsageError(f"scancel: error: Invalid job id {target}\n")
    tests = _filters(call, given)
    if not given.operands and not tests:
        raise UsageError("scancel: error: No job identification provided\n")
    action = _action(service, call, given)
    if given.has("verbose"):
        call.err(_PLUGINS)
    if given.operands and not tests:
        status = _by_targets(service, call, given, action)
    else:
        status = _by_filters(service, call, given, (tests, action))
    call.finish(status)


def _action(service: Service, call: Call, given: Parsed) -> Callable[[Job], None]:
    """Return what is done to each job: cancel it, or send a signal.

    Raises:
        UsageError: the signal is none.
    """
    text = given.get("signal")
    if text is None:
        if given.has("name"):
            return lambda job: actions.collapse(service.cluster, job, call.uid)
        return lambda job: actions.cancel(service.cluster, job, call.uid)
    number = signal_number(text)
    if number is None:
        raise UsageError(f"Unknown job signal: {text}\n")
    batch, full = given.has("batch"), given.has("full")
    if number == signal_number("KILL") and not batch:
        return lambda job: actions.cancel(service.cluster, job, call.uid)
    return lambda job: actions.signal(service.cluster, job, number, batch=batch, everything=full)


def _filters(call: Call, given: Parsed) -> list[Callable[[Job], bool]]:
    tests: list[Callable[[Job], bool]] = []
    if given.has("me"):
        given.values["user"] = user_name(call.uid)
    for option, attribute in (
        ("name", "name"),
        ("partition", "partition"),
        ("account", "account"),
        ("qos", "qos"),
        ("user", "user"),
    ):
        if given.has(option):
            tests.append(_equals(attribute, given.listed(option)))
    if given.has("state"):
        names = {code: name for name, code in CODES.items()}
        wanted = {names.get(s.upper(), s.upper()) for s in given.listed("state")}
        tests.append(lambda job: job.state in wanted)
    return tests


def _equals(attribute: str, wanted: list[str]) -> Callable[[Job], bool]:
    return lambda job: getattr(job.request, attribute) in wanted


def _by_targets(service: Service, call: Call, given: Parsed, action: Callable[[Job], None]) -> int:
    status = 0
    for target in given.operands:
        match = _TARGET.match(target)
        if match is None:
            continue
        number = int(match[1])
        records = service.cluster.records(number)
        if any(not actions.may_touch(job, call.uid) for job in records):
            text = f"scancel: error: Kill job error on job id {target}: {actions.NOT_PERMITTED}\n"
            call.err("" if given.has("quiet") else text)
            status = _DENIED_STATUS
        elif match[2] is not None:
            for element in parse_elements(match[2].strip("[]")):
                _one_element(service, call, (number, element), action)
        else:
            for job in records:
                if given.has("verbose"):
                    call.err(f"scancel: Terminating job {target}\n")
                if given.has("verbose") and job.ended:
                    text = f"Kill job error on job id {target}: {actions.ALREADY_ENDED}"
                    call.err(f"scancel: error: {text}\n")
                action(job)
    return status


def _one_element(
    service: Service, call: Call, target: tuple[int, int], action: Callable[[Job], None]
) -> None:
    array, element = target
    for job in service.cluster.records(array):
        if job.task == element:
            action(job)
            return
    actions.cancel_element(service.cluster, array, element, call.uid)


def _by_filters(
    service: Service,
    call: Call,
    given: Parsed,
    what: tuple[list[Callable[[Job], bool]], Callable[[Job], None]],
) -> int:
    tests, action = what
    jobs = [job for job in list(service.cluster.jobs.values()) if job.active]
    if given.operands:
        wanted = [job for text in given.operands for job in _records_of(service, text)]
        jobs = [job for job in jobs if job in wanted]
    chosen = [job for job in jobs if all(test(job) for test in tests)]
    if not chosen and given.has("verbose"):
        names = f"job_name={given.get('name')} " if given.has("name") else ""
        call.err(f"scancel: error: No active jobs match ALL job filters, including: {names}\n")
    for job in chosen:
        if not actions.may_touch(job, call.uid):
            text = f"Kill job error on job id {job.display_id}: {actions.NOT_PERMITTED}"
            call.err(f"scancel: error: {text}\n")
            return _DENIED_STATUS
        if given.has("verbose"):
            call.err(f"scancel: Terminating job {job.display_id}\n")
        action(job)
    return 0


def _records_of(service: Service, text: str) -> list[Job]:
    match = _TARGET.match(text)
    if match is None:
        return []
    records = service.cluster.records(int(match[1]))
    if match[2] is None:
        return records
    wanted = set(parse_elements(match[2].strip("[]")))
    # With a filter, one waiting element stands for the whole waiting record (seen on 22.05).
    return [job for job in records if job.task in wanted or wanted & set(job.waiting)]
