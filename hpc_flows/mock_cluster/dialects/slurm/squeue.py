"""`squeue`: the queue as a table."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm import words
from hpc_flows.mock_cluster.dialects.slurm.fields import CODES, FIELDS, LETTERS, View
from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, Parser, UsageError, options_of
from hpc_flows.mock_cluster.dialects.slurm.preliminaries import answered_at_once, user_name
from hpc_flows.mock_cluster.hostlist import expand_hosts, split_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.job import Job
    from hpc_flows.mock_cluster.service import Service

_PARSER = Parser(
    "squeue",
    options_of("""
account A value
all a flag
array r flag
array-unique - flag
clusters M value
federation - flag refused
format o value
Format O value
help - flag
hide - flag
iterate i value refused
job j maybe
jobs - maybe
json - maybe
licenses L value refused
local - flag
long l flag
me - flag
name n value
noconvert - flag
noheader h flag
node w value
nodelist - value
partition p value
priority P flag
qos q value
reservation R value refused
sibling - flag refused
sort S value
start - flag
state t value
states - value
steps s maybe refused
usage - flag
user u value
users - value
verbose v flag
version V flag
yaml - maybe refused
"""),
)
DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
LONG_FORMAT = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
START_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
_PIECE = re.compile(r"%(\.?)(\d*)([A-Za-z])")
_JOB_ID = re.compile(r"^(\d+)(?:_(\d+|\[.*\]))?(?:\+(\d+))?$")
#: Spellings of options that mean the same.
_ALIASES = {"jobs": "job", "states": "state", "users": "user", "nodelist": "node"}


def squeue(service: Service, call: Call) -> None:
    """Answer one squeue."""
    given = _PARSER.parse(_joined_job_option(call.argv))
    for alias, name in _ALIASES.items():
        if given.has(alias):
            given.values[name] = given.values.pop(alias)
    if answered_at_once(service, call, given):
        return
    if given.has("long") and given.has("format"):
        text = "Options -o(--format) and -l(--long) are mutually exclusive. "
        raise UsageError(f"squeue: fatal: {text}Please remove one and retry.\n")
    if given.has("json"):
        from hpc_flows.mock_cluster.dialects.slurm import json_forms  # noqa: PLC0415 - seldom

        if json_forms.is_new(service):
            jobs = select(service, call, given)
        else:
            jobs = list(service.cluster.jobs.values())  # 22.05 ignores every filter here
        call.out(json_forms.squeue_document(service, jobs))
        call.finish()
        return
    jobs = select(service, call, given)
    with words.zone_of(call.env):
        call.out(_table(service, call, given, jobs))
    call.finish()


def _joined_job_option(argv: list[str]) -> list[str]:
    """Join `-j 5` and `--jobs 5` to one word: the value is optional, but may stand apart."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in {"-j", "--job", "--jobs"} and not word.startswith("-"):
            joined[-1] = f"--jobs={word}"
        else:
            joined.append(word)
    return joined


# -- which jobs


def select(service: Service, call: Call, given: Parsed) -> list[Job]:
    """Return the jobs that a call's filters let through.

    Raises:
        UsageError: a filter's value is wrong, or the only id asked for is unknown.
    """
    jobs = list(service.cluster.jobs.values())
    if given.get("job"):
        jobs = _by_ids(service, given.listed("job"))
    states = wanted_states(given.get("state"))
    tests: list[Callable[[Job], bool]] = [lambda job: _in_states(job, states)]
    users = given.listed("user")
    if given.has("me"):
        users = [user_name(call.uid)]
    if users:
        tests.append(lambda job: job.request.user in users or str(job.request.uid) in users)
    for option, attribute in (("name", "name"), ("account", "account"), ("qos", "qos")):
        if given.has(option):
            wanted = given.listed(option)
            tests.append(_equals(attribute, wanted))
    if given.has("partition"):
        tests.append(_equals("partition", given.listed("partition")))
    if given.has("node"):
        nodes = set(expand_hosts(given.get("node") or ""))
        tests.append(lambda job: bool(nodes & set(job.nodes)))
    return _sorted([job for job in jobs if all(test(job) for test in tests)], given.get("sort"))


def _equals(attribute: str, wanted: list[str]) -> Callable[[Job], bool]:
    return lambda job: getattr(job.request, attribute) in wanted


def wanted_states(text: str | None) -> set[str] | None:
    """Return the states of `-t`, an empty set for all, None where it was not given.

    Raises:
        UsageError: a state is unknown.
    """
    if text is None:
        return None
    names = {code: name for name, code in CODES.items()}
    states = set()
    for word in text.split(","):
        upper = word.upper()
        if upper == "ALL":
            return set()
        state = names.get(upper, upper)
        if state not in CODES:
            known = ",".join(CODES)
            lines = [f"Invalid job state specified: {word}", f"Valid job states include: {known}"]
            raise UsageError("".join(f"squeue: error: {line}\n" for line in lines) + "\n")
        states.add(state)
    return states


def _in_states(job: Job, states: set[str] | None) -> bool:
    if states is None:
        return job.active
    if not states:
        return True
    return ("COMPLETING" if job.completing else job.state) in states


def _by_ids(service: Service, texts: list[str]) -> list[Job]:
    """Return the records of ids; only a single unknown id is an error."""
    chosen: list[Job] = []
    unknown = 0
    for text in split_list(",".join(texts)):
        match = _JOB_ID.match(text)
        if match is None:
            raise UsageError(f"squeue: error: Invalid job id: {text}\n")
        records = service.cluster.records(int(match[1]))
        unknown += not records
        if match[2] is not None and match[2].isdecimal():
            records = _element_records(records, int(match[2]))
        elif match[2] is not None:
            records = []
        chosen += [job for job in records if job not in chosen]
    if unknown and unknown == len(texts) == 1:
        raise UsageError("slurm_load_jobs error: Invalid job id specified\n")
    return chosen


def _element_records(records: list[Job], element: int) -> list[Job]:
    """Return the record of one element, cut out of the common one where it still waits."""
    for job in records:
        if job.task == element:
            return [job]
        if job.is_common and element in job.waiting:
            return [as_element(job, element)]
    return []


def as_element(job: Job, element: int) -> Job:
    """Return a waiting element as a record of its own, for printing only."""
    single = copy.copy(job)
    single.task, single.waiting = element, []
    return single


def _sorted(jobs: list[Job], keys: str | None) -> list[Job]:
    order = {"PENDING": 0, "RUNNING": 1}
    if not keys:
        return sorted(jobs, key=lambda job: (order.get(job.state, 2), job.id))
    for key in reversed(keys.split(",")):
        letter = key.lstrip("+-")
        jobs = sorted(jobs, key=_sort_key(letter), reverse=key.startswith("-"))
    return jobs


def _sort_key(letter: str) -> Callable[[Job], tuple[float, str]]:
    numbers: dict[str, Callable[[Job], float]] = {
        "i": lambda job: job.id,
        "A": lambda job: job.id,
        "p": lambda job: job.priority,
        "Q": lambda job: job.priority,
        "S": lambda job: job.start or 0.0,
        "V": lambda job: job.submit,
        "e": lambda job: job.end or 0.0,
        "C": lambda job: sum(held.cpus for held in job.nodes.values()),
        "D": lambda job: len(job.nodes),
        "F": lambda job: job.array_id or job.id,
        "l": lambda job: job.time_limit or 0,
        "U": lambda job: job.request.uid,
    }
    texts: dict[str, Callable[[Job], str]] = {
        "P": lambda job: job.request.partition,
        "j": lambda job: job.request.name,
        "u": lambda job: job.request.user,
        "t": lambda job: job.state,
        "T": lambda job: job.state,
    }
    number, text = numbers.get(letter), texts.get(letter)
    if number is None and text is None:
        raise UsageError(f"squeue: error: Invalid sort specification: {letter}\n")
    return lambda job: (number(job) if number else 0.0, text(job) if text else "")


# -- how they are printed


def _table(service: Service, call: Call, given: Parsed, jobs: list[Job]) -> str:
    long_form = given.get("Format")
    if long_form is None and not given.has("format"):
        long_form = call.env.get("SQUEUE_FORMAT2")
    columns = _long_columns(long_form) if long_form else _columns(_format(call, given))
    if given.has("array") or call.env.get("SQUEUE_ARRAY"):
        jobs = [single for job in jobs for single in _elements(job)]
    lines = []
    if given.has("long") and not given.has("noheader"):
        lines.append(words.show_date(service.now()))
    if not given.has("noheader"):
        lines.append("".join(column(None) for column in columns))
    for job in jobs:
        view = View(service.cluster, job, call.env)
        lines.append("".join(column(view) for column in columns))
    return "".join(f"{line}\n" for line in lines)


def _elements(job: Job) -> list[Job]:
    if not job.is_common or job.collapsed:
        return [job]
    return [as_element(job, element) for element in job.waiting]


def _format(call: Call, given: Parsed) -> str:
    if given.has("format"):
        return given.get("format") or ""
    if given.has("start"):
        return START_FORMAT
    if given.has("long"):
        return LONG_FORMAT
    return call.env.get("SQUEUE_FORMAT", DEFAULT_FORMAT)


def _columns(text: str) -> list[Callable[[View | None], str]]:
    """Turn a `-o` format into functions that print a job, or the header for None."""
    columns: list[Callable[[View | None], str]] = []
    end = 0
    for match in _PIECE.finditer(text):
        if match.start() > end:
            columns.append(_literal(text[end : match.start()]))
        end = match.end()
        name = LETTERS.get(match[3])
        if name is None:
            message = f"squeue: error: Invalid job format specification: {match[3]}\n"
            raise UsageError(message)
        width = int(match[2]) if match[2] else 0
        columns.append(_cell(name, width, right=bool(match[1])))
    if end < len(text):
        columns.append(_literal(text[end:]))
    return columns


def _long_columns(text: str) -> list[Callable[[View | None], str]]:
    """Turn a `-O` list such as `JobID,Name:30` into printing functions."""
    columns: list[Callable[[View | None], str]] = []
    for part in text.split(","):
        name, colon, size = part.partition(":")
        right = size.startswith(".")
        digits = re.match(r"\.?(\d*)(.*)$", size)
        # `Name` is 20 wide, `Name:30` is 30, and `Name:SUFFIX` is as wide as its value.
        width = int(digits[1]) if digits and digits[1] else 0 if colon else 20
        if name.lower() not in FIELDS:
            message = f"squeue: error: Invalid job format specification: {name}\n"
            raise UsageError(message)
        suffix = digits[2] if colon and digits else ""
        columns.append(_cell(name.lower(), width, right=right))
        if suffix:
            columns.append(_literal(suffix))
    return columns


def _literal(text: str) -> Callable[[View | None], str]:
    return lambda _view: text


def _cell(name: str, width: int, *, right: bool) -> Callable[[View | None], str]:
    header, value = FIELDS[name]

    def cell(view: View | None) -> str:
        text = header if view is None else value(view)
        if not width:
            return text
        return text[:width].rjust(width) if right else text[:width].ljust(width)

    return cell
