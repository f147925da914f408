"""`sacct`: what accounting knows."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.client.unreachable import SACCT_DOWN
from hpc_flows.mock_cluster.dialects.slurm import words
from hpc_flows.mock_cluster.dialects.slurm.fields import CODES
from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, Parser, UsageError, options_of
from hpc_flows.mock_cluster.dialects.slurm.preliminaries import answered_at_once, user_name
from hpc_flows.mock_cluster.dialects.slurm.sacct_fields import (
    ALL_FIELDS,
    DEFAULT_FIELDS,
    FIELDS,
    lines_of,
)
from hpc_flows.mock_cluster.hostlist import expand_hosts, split_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.accounting import Row
    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.service import Service

_PARSER = Parser(
    "sacct",
    options_of("""
accounts A value
allclusters L flag refused
allocations X flag
allusers a flag
array - flag
brief b flag
clusters M value
completion c flag refused
constraints C value refused
delimiter - value
duplicates D flag
endtime E value
env-vars - flag refused
federation - flag refused
fields - value
file f value refused
flags F value refused
format o value
gid g value refused
group - value refused
help h flag
helpformat e flag
jobs j value
json - maybe
local - flag
long l flag
name - value
ncpus I value refused
nnodes i value refused
nodelist N value
noconvert - flag
noheader n flag
parsable p flag
parsable2 P flag
partition r value
qos q value
reason R value refused
starttime S value
state s value
timelimit-max K value refused
timelimit-min k value refused
truncate T flag
uid u value
units - value refused
usage U flag
use-local-uid - flag
user - value
verbose v flag
version V flag
wckeys W value refused
whole-hetjob - maybe
yaml - maybe refused
"""),
)
DISABLED = "Slurm accounting storage is disabled\n"
_JOB_ID = re.compile(r"^(\d+)(?:_(\d+|\[[\d,-]+\]))?(?:\.(\w+))?$")
_BRIEF = "JobID,State,ExitCode"


def sacct(service: Service, call: Call) -> None:
    """Answer one sacct."""
    given = _PARSER.parse(call.argv)
    if answered_at_once(service, call, given):
        return
    if given.has("helpformat"):
        call.out(_help_format())
        call.finish()
        return
    if not service.site.accounting or service.faults.fire("accounting_absent"):
        raise UsageError(DISABLED)
    if service.faults.fire("slurmdbd_down"):
        raise UsageError(SACCT_DOWN)
    rows = _select(service, call, given)
    if given.has("json"):
        from hpc_flows.mock_cluster.dialects.slurm import json_forms  # noqa: PLC0415 - seldom

        call.out(json_forms.sacct_document(service, rows))
    else:
        with words.zone_of(call.env):
            call.out(_table(service, call, given, rows))
    call.finish()


def _help_format() -> str:
    rows = [ALL_FIELDS[start : start + 4] for start in range(0, len(ALL_FIELDS), 4)]
    return "".join(" ".join(name.ljust(19) for name in row) + "\n" for row in rows)


# -- which rows


def _select(service: Service, call: Call, given: Parsed) -> list[Row]:
    accounting = service.cluster.accounting
    rows = list(accounting.rows.values()) if given.has("duplicates") else accounting.last_rows()
    for row in rows:
        common = service.cluster.jobs.get(row.job)
        if row.array_id is not None and row.task is None and common is not None:
            row.waiting = common.element_text if common.is_common else ""
    tests = _filters(service, call, given)
    return [row for row in sorted(rows, key=_order) if all(test(row) for test in tests)]


def _order(row: Row) -> tuple[int, int, int]:
    element = row.task if row.task is not None else 1 << 31
    return (row.array_id or row.job, element if row.array_id else 0, row.run)


def _filters(service: Service, call: Call, given: Parsed) -> list[Callable[[Row], bool]]:
    tests: list[Callable[[Row], bool]] = []
    if given.has("jobs"):
        tests.append(_by_ids(given.get("jobs") or ""))
    tests += _by_user(call, given)
    for option, attribute in (
        ("name", "name"),
        ("partition", "partition"),
        ("accounts", "account"),
        ("qos", "qos"),
    ):
        if given.has(option):
            tests.append(_equals(attribute, given.listed(option)))
    if given.has("nodelist"):
        nodes = set(expand_hosts(given.get("nodelist") or ""))
        tests.append(lambda row: bool(nodes & set(row.nodes)))
    if given.has("state"):
        tests.append(_by_state(given.listed("state")))
    with words.zone_of(call.env):
        tests += _by_time(service, given)
    return tests


def _equals(attribute: str, wanted: list[str]) -> Callable[[Row], bool]:
    return lambda row: getattr(row.request, attribute) in wanted


def _by_user(call: Call, given: Parsed) -> list[Callable[[Row], bool]]:
    """Return the filter by user: without options everyone's own, root's all with `-j` or `-a`."""
    users = given.listed("user") + given.listed("uid")
    if users:
        return [lambda row: row.request.user in users or str(row.request.uid) in users]
    if given.has("allusers") or call.uid == 0 or given.has("jobs"):
        return []
    mine = user_name(call.uid)
    return [lambda row: row.request.user == mine]


def _by_ids(text: str) -> Callable[[Row], bool]:
    wanted: set[tuple[int, int | None]] = set()
    for part in split_list(text):
        match = _JOB_ID.match(part)
        if match is None:
            message = f"sacct: fatal: Bad job/step specified: {part}\n"
            raise UsageError(message)
        number = int(match[1])
        if match[2] is None:
            wanted.add((number, None))
        else:
            tasks = match[2].strip("[]")
            wanted |= {(number, task) for task in words_elements(tasks)}

    def test(row: Row) -> bool:
        if (row.job, None) in wanted:
            return True
        if row.array_id is None:
            return False
        if (row.array_id, None) in wanted:
            return True
        return row.task is not None and (row.array_id, row.task) in wanted

    return test


def words_elements(text: str) -> list[int]:
    """Return the elements of `3`, `3-5` or `1,4`."""
    from hpc_flows.mock_cluster.hostlist import parse_elements  # noqa: PLC0415 - ids with elements

    return parse_elements(text)


def _by_state(names: list[str]) -> Callable[[Row], bool]:
    codes = {code: name for name, code in CODES.items()}
    wanted = {codes.get(name.upper(), name.upper()) for name in names}
    for name in names:
        if codes.get(name.upper(), name.upper()) not in CODES:
            message = f"sacct: fatal: unrecognized job state value '{name}'\n"
            raise UsageError(message)
    return lambda row: row.state in wanted


def _by_time(service: Service, given: Parsed) -> list[Callable[[Row], bool]]:
    """Return the filters by time; without `-S` a listing begins at midnight, `-j` has no bounds."""
    now = service.now()
    start, end = _when(given, "starttime", now), _when(given, "endtime", now)
    if start is None and not given.has("jobs"):
        today = time.localtime(now)
        start = time.mktime((today.tm_year, today.tm_mon, today.tm_mday, 0, 0, 0, 0, 0, -1))
    tests: list[Callable[[Row], bool]] = []
    if start is not None:
        since = start
        tests.append(lambda row: row.end is None or row.end >= since)
    if end is not None:
        until = end
        tests.append(lambda row: (row.eligible or row.submit) <= until)
    return tests


def _when(given: Parsed, option: str, now: float) -> float | None:
    text = given.get(option)
    if text is None:
        return None
    when = words.parse_time(text, now)
    if when is None:
        message = f"Invalid time specification (pos=0): {text}\n"
        raise UsageError(message)
    if words.is_time_of_day(text) and when > now:
        when -= 86400  # accounting looks back: 08:00 is the last one
    return when


# -- how they are printed


def _table(service: Service, call: Call, given: Parsed, rows: list[Row]) -> str:
    columns = _columns(call, given)
    lines = [
        line
        for row in rows
        for line in lines_of(service.site, row, service.now(), call.env)
        if not (line.step and given.has("allocations"))
    ]
    body = [[FIELDS[name](line) for name, _ in columns] for line in lines]
    if given.has("parsable") or given.has("parsable2"):
        return _delimited(given, [name for name, _ in columns], body)
    return _padded(given, columns, body)


def _columns(call: Call, given: Parsed) -> list[tuple[str, int | None]]:
    """Return the chosen fields with their widths (negative: to the left).

    Raises:
        UsageError: a field is unknown.
    """
    text = given.get("format") or given.get("fields") or call.env.get("SACCT_FORMAT")
    if given.has("brief"):
        text = _BRIEF
    known = {name.lower(): name for name in FIELDS}
    columns: list[tuple[str, int | None]] = []
    for part in (text or DEFAULT_FIELDS).split(","):
        field, percent, width = part.partition("%")
        if field.lower() == "all":
            columns += [(name, None) for name in ALL_FIELDS]
            continue
        name = known.get(field.lower())
        if name is None:
            message = f'sacct: error: Invalid field requested: "{field}"\n'
            raise UsageError(message)
        columns.append((name, int(width) if percent else None))
    return columns


def _delimited(given: Parsed, header: list[str], body: list[list[str]]) -> str:
    between = given.get("delimiter") or "|"
    end = "" if given.has("parsable2") else between
    rows = body if given.has("noheader") else [header, *body]
    return "".join(between.join(cells) + end + "\n" for cells in rows)


_WIDTHS = {
    "Account": 10,
    "AllocCPUS": 10,
    "Comment": 14,
    "Elapsed": 10,
    "End": 19,
    "ExitCode": 8,
    "DerivedExitCode": 15,
    "JobID": -12,
    "JobIDRaw": -12,
    "JobName": 10,
    "NodeList": 15,
    "Partition": 10,
    "Start": 19,
    "State": 10,
    "Submit": 19,
    "Timelimit": 10,
    "User": 9,
}


def _padded(given: Parsed, columns: list[tuple[str, int | None]], body: list[list[str]]) -> str:
    widths = [width or _WIDTHS.get(name, 10) for name, width in columns]
    lines = []
    if not given.has("noheader"):
        lines.append(
            [_fit(name, width, name) for (name, _), width in zip(columns, widths, strict=True)]
        )
        lines.append(["-" * abs(width) for width in widths])
    for cells in body:
        names = [name for name, _ in columns]
        lines.append([_fit(c, w, n) for c, w, n in zip(cells, widths, names, strict=True)])
    return "".join(" ".join(cells) + " \n" for cells in lines)


def _fit(text: str, width: int, name: str) -> str:
    size = abs(width)
    if len(text) > size:
        keep_end = name in {"JobID", "JobIDRaw", "JobName"} and text != name
        text = text[: size - 1] + "+" if keep_end or name == "State" else text[:size]
    return text.ljust(size) if width < 0 else text.rjust(size)
