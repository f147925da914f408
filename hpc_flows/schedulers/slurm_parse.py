"""What Slurm answers, read into the words of all schedulers. Pure functions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from hpc_flows.schedulers.base import Ending, JobStatus, Phase
from hpc_flows.schedulers.slurm_commands import (
    HISTORY_FIELDS,
    QUEUE_FIELDS,
    SEPARATOR,
    array_of,
    is_element,
)
from hpc_flows.schedulers.slurm_states import long_name, meaning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

_PARSABLE = re.compile(r"^(\d+)(?:;[\w.-]+)?$", re.MULTILINE)
_SUBMITTED = re.compile(r"Submitted batch job (\d+)")
_BY = re.compile(r"\bby (\d+)")
_BRACKETS = re.compile(r"(?P<array>\d+)_\[(?P<list>[^\]]*)\]")
_RECORD = re.compile(r"\d[\d_+]*(?:_\[[^\]]*\])?(?:\.[\w-]+)?" + SEPARATOR)
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[KMGTP]?)", re.IGNORECASE)

_UNITS = {unit: 1024**power for power, unit in enumerate(["", "K", "M", "G", "T", "P"])}

#: Largest number of a signal on Linux. Slurm puts marks of its own beyond it: 125 is "out of
#: memory". (53, "could not open the output file or enter the folder", is passed on.)
_LAST_SIGNAL = 64

#: What a shell says of a command that SIGTERM ended.
_TOLD_TO_END = 128 + 15

#: A wait status holds the exit status in its second byte.
_BYTE = 256
_SIGNAL_BITS = 127


def job_id(output: str) -> str | None:
    """Return the id in what `sbatch --parsable` printed, or None.

    Sites print banners before and after it, wrap sbatch, or drop the option: the last line that is
    an id (with `;cluster` behind it on a federation) counts, else "Submitted batch job N".
    """
    lines = "\n".join(line.strip() for line in output.splitlines())
    found = _PARSABLE.findall(lines) or _SUBMITTED.findall(lines)
    return str(found[-1]) if found else None


def queue(output: str) -> dict[str, JobStatus]:
    """Read an answer to `poll_argv` or `find_argv`; keys as in `Scheduler.poll`."""
    found: dict[str, JobStatus] = {}
    for record in _records(output, QUEUE_FIELDS):
        status = _queued(record)
        for job in elements(status.job):
            found[job] = _renamed(status, job)
    return found


def _queued(record: dict[str, str]) -> JobStatus:
    raw = long_name(record["State"])
    phase, ending = meaning(raw)
    exit_code, signal = _script_end(ending, wait_status(record["exit_code"]))
    nodes = _word(record["NodeList"])
    # Slurm prints the expected start of what waits, and a start for what never had a node.
    started = epoch(record["StartTime"]) if nodes and phase is not Phase.QUEUED else None
    ended = epoch(record["EndTime"]) if phase in (Phase.ENDING, Phase.ENDED) else None
    return JobStatus(
        job=record["JobArrayID"],
        name=record["Name"],
        phase=phase,
        raw=raw,
        ending=ending,
        exit_code=exit_code,
        signal=signal,
        reason=_word(record["Reason"]),
        nodes=nodes,
        partition=record["Partition"],
        submitted=epoch(record["SubmitTime"]),
        started=started,
        ended=ended,
        restarts=_number(record["RestartCnt"]),
        elapsed=ended - started if ended is not None and started is not None else None,
        source="queue",
    )


def history(output: str, names: Collection[str] = ()) -> dict[str, JobStatus]:
    """Read an answer to `history_argv`: jobs, with the memory of their steps folded in.

    Where a job has several records (a requeue, or an id that is used again) the one that was
    submitted last counts, and before others one whose name is among `names`.
    """
    records: dict[str, list[JobStatus]] = {}
    for record in _records(output, HISTORY_FIELDS):
        job, _, step = record["JobID"].partition(".")
        used = size(record["MaxRSS"])
        of_job = records.setdefault(job, [])
        if not step:
            of_job.append(_recorded(record))
        if used is not None and of_job:  # the steps of a record follow it
            of_job[-1] = replace(of_job[-1], max_rss=max(used, of_job[-1].max_rss or 0))
    return {
        name: _renamed(_that_counts(of_job, names), name)
        for job, of_job in records.items()
        if of_job
        for name in elements(job)
    }


def _that_counts(records: list[JobStatus], names: Collection[str]) -> JobStatus:
    """Return the last of a job's records, which Slurm prints in the order of their submission."""
    # The later one where two were submitted in the same second.
    return max(
        reversed(records), key=lambda record: (record.name in names, record.submitted or 0.0)
    )


def _recorded(record: dict[str, str]) -> JobStatus:
    raw = long_name(record["State"])
    phase, ending = meaning(raw)
    exit_code, signal = _script_end(ending, exit_pair(record["ExitCode"]))
    by = _BY.search(record["State"])
    nodes = _word(record["NodeList"])
    over = ending is not None
    return JobStatus(
        job=record["JobID"],
        # What sacct prints for a job of which it has heard the end but not yet the beginning.
        name="" if record["JobName"] == "allocation" else record["JobName"],
        phase=phase,
        raw=raw,
        ending=ending,
        exit_code=exit_code,
        signal=signal,
        reason=_word(record["Reason"]),
        nodes=nodes,
        partition=record["Partition"],
        submitted=epoch(record["Submit"]),
        started=epoch(record["Start"]) if nodes else None,
        ended=epoch(record["End"]) if over else None,
        cancelled_by=int(by[1]) if by and ending is Ending.CANCELLED else None,
        elapsed=_seconds(record["ElapsedRaw"]),
        source="history",
    )


def _script_end(
    ending: Ending | None, said: tuple[int | None, int | None]
) -> tuple[int | None, int | None]:
    """Return what is known of the script's own end.

    Slurm prints 0 as the exit status of a job that it cancelled, cut at its walltime or lost; or
    143, where the script's shell hears that its command was told to end before it is told itself.
    """
    code, signal = said
    if ending is None or ending is Ending.REQUEUED:
        return None, None
    own = ending in (Ending.COMPLETED, Ending.FAILED) and signal is None
    return (code if own or code not in (0, _TOLD_TO_END) else None), signal


def _records(output: str, fields: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield each record by field name; a newline in the last field goes back where it was."""
    whole: list[str] = []
    for line in output.splitlines():
        if _RECORD.match(line):
            whole.append(line)
        elif whole and line.strip():
            whole[-1] += f"\n{line}"
    for line in whole:
        values = line.split(SEPARATOR, len(fields) - 1)
        if len(values) == len(fields):
            values[-1] = values[-1].removesuffix(SEPARATOR)
            yield dict(zip(fields, (value.strip() for value in values), strict=True))


def asked(ids: Iterable[str], found: dict[str, JobStatus]) -> dict[str, JobStatus]:
    """Return the part of an answer that was asked for.

    Whole arrays are asked about even where one element is wanted: the elements that never started
    share a record under the array's id, which an element's own id does not find.
    """
    by_array: dict[str, dict[str, JobStatus]] = {}
    for job, status in found.items():
        by_array.setdefault(array_of(job), {})[job] = status
    answer: dict[str, JobStatus] = {}
    for job in ids:
        family = by_array.get(array_of(job), {})
        if not is_element(job):
            answer.update(family)
        elif job in family:
            answer[job] = family[job]
        elif array_of(job) in family:
            answer[job] = _renamed(family[array_of(job)], job)
    return answer


def elements(job: str) -> list[str]:
    """Return the ids that a printed id stands for: `3_[0-2,7%2]` is `3_0`, `3_1`, `3_2`, `3_7`.

    A list that was cut short (`...`) stands for the rest of the array, as the array's own id does.
    """
    found = _BRACKETS.fullmatch(job)
    if found is None:
        return [job]
    text = found["list"].partition("%")[0]
    indexes = [index for part in text.split(",") for index in _run(part)]
    rest = [found["array"]] if "..." in text else []
    return [f"{found['array']}_{index}" for index in indexes] + rest


def _run(part: str) -> range:
    """Return the indexes of `7`, `0-9` or `1-9:2`; none for what is not such a part."""
    found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip())
    if found is None:
        return range(0)
    first, last, step = (int(number) if number else None for number in found.groups())
    first = first or 0
    return range(first, (first if last is None else last) + 1, step or 1)


def wait_status(text: str) -> tuple[int | None, int | None]:
    """Return exit status and signal of what squeue prints: a raw wait status, or `7:0`."""
    if ":" in text:
        return exit_pair(text)
    status = _number(text)
    if status is None:
        return None, None
    return _pair(status // _BYTE, status & _SIGNAL_BITS)


def exit_pair(text: str) -> tuple[int | None, int | None]:
    """Return exit status and signal of what sacct prints, such as `7:0` or `0:9`."""
    code, _, signal = text.partition(":")
    number = _number(code)
    return (None, None) if number is None else _pair(number, _number(signal) or 0)


def _pair(code: int, signal: int) -> tuple[int, int | None]:
    return code, signal if 0 < signal <= _LAST_SIGNAL else None


def epoch(text: str) -> float | None:
    """Return a time that was asked for as epoch seconds; None for `N/A`, `Unknown`, `None`."""
    number = _number(text)
    return float(number) if number else None


def size(text: str) -> int | None:
    """Return bytes for `3288K`, `1.50G` or a bare number of bytes; None for nothing."""
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    return int(float(found["number"]) * _UNITS[found["unit"].upper()])


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _seconds(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


def _word(text: str) -> str:
    return "" if text in ("None", "(null)", "None assigned", "N/A", "n/a", "Unknown") else text


def _renamed(status: JobStatus, job: str) -> JobStatus:
    return status if status.job == job else replace(status, job=job)
