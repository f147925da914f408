"""Flow runs, task runs and log records as they are printed, wherever they come from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.terminal import (
    duration,
    harmless,
    moment,
    print_fields,
    print_rows,
    state_text,
)
from hpc_flows.runs import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hpc_flows.cli.run_source import Row

#: Levels of log records by their names, as Python numbers them.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

#: What a list of flow runs tells of each.
LISTED = (
    *("id", "run", "name", "flow", "state_type", "state_name", "message"),
    *("created", "started", "ended", "host", "parent_flow_run", "driver"),
)

_FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_NAMES = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"), (0, "DEBUG"))
_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}

#: What is said of drivers that are not known to live.
_DRIVERS = {"gone": ", driver gone", "silent": ", driver silent"}


def listed(row: Row) -> Row:
    """Return what a list tells of a flow run."""
    return {name: row.get(name) for name in LISTED}


def print_flow_runs(rows: Sequence[Row]) -> None:
    """Print a line for each flow run."""
    now = time.time()
    print_rows(
        ("run", "id", "flow", "state", "started", "took"),
        [
            (
                row["name"],
                short(row["id"]),
                row["flow"],
                state_of(row),
                moment(row["started"] or row["created"]),
                duration(_took(row, now)),
            )
            for row in rows
        ],
        right=("took",),
    )


def state_of(row: Row) -> Any:
    """Return a run's state in its colour, with what is wrong with its driver."""
    text = state_text(row["state_name"] or "-", row["state_type"] or "")
    text.append(_DRIVERS.get(str(row.get("driver")), ""), "red")
    return text


def _took(row: Row, now: float) -> float | None:
    if row["started"] is None:
        return None
    if row["ended"] is not None:
        return float(row["ended"] - row["started"])
    ends = row["state_type"] in _FINAL or row.get("driver") == "gone"
    return None if ends else now - row["started"]


def print_flow_run(row: Row) -> None:
    """Print what is known of a flow run."""
    fields = {
        "name": row["name"],
        "flow": row["flow"],
        "id": row["id"],
        "state": _state_words(row),
        "created": moment(row["created"]),
        "started": moment(row["started"]),
        "ended": moment(row["ended"]),
        "took": duration(_took(row, time.time())),
        "attempt": row["attempt"] if row["attempt"] > 1 else None,
        "parameters": ", ".join(f"{k}={v}" for k, v in (row["parameters"] or {}).items()),
        "tags": ", ".join(row["tags"]),
        "part of": row["parent_flow_run"],
        "entrypoint": row["entrypoint"],
        "clusters": ", ".join(row["clusters"]),
        "host": row["host"],
        "owner": row["owner"],
        "driver": _driver_words(row),
        "task runs": _counts(row["tasks"]),
    }
    print_fields({name: value for name, value in fields.items() if value not in (None, "")})
    _print_history(row["history"])


def _state_words(row: Row) -> str:
    return f"{row['state_name']}" + (f": {row['message']}" if row["message"] else "")


def _driver_words(row: Row) -> str | None:
    word = row.get("driver")
    heard = row.get("heard")
    if word != "silent":
        return word
    return "never heard" if heard is None else f"not heard for {duration(time.time() - heard)}"


def _counts(tasks: dict[str, int] | None) -> str:
    return ", ".join(f"{n} {type_.lower()}" for type_, n in (tasks or {}).items()) or "none"


def _print_history(history: Iterable[Sequence[Any]]) -> None:
    entries = list(history)
    if not entries:
        return
    click.echo("\n" + click.style("States", bold=True))
    for wall, type_, name in entries:
        click.echo(f"  {moment(wall)}  {name or type_}")


def print_task_runs(rows: Sequence[Row]) -> None:
    """Print a line for each task run."""
    now = time.time()
    columns = [name for name in ("job", "node") if any(row[name] for row in rows)]
    print_rows(
        ("task run", "id", "state", *columns, "started", "took"),
        [
            (
                row["name"],
                short(row["id"]),
                state_text(_with_reason(row), row["state_type"] or ""),
                *(row[name] for name in columns),
                moment(row["started"]),
                duration(_took(row, now)),
            )
            for row in rows
        ],
        right=("took",),
    )


def _with_reason(row: Row) -> str:
    reason = row["reason_words"] or row["reason"]
    return f"{row['state_name'] or '-'}" + (f" ({reason})" if reason else "")


def print_task_run(row: Row) -> None:
    """Print what is known of a task run."""
    asked = row["resources"] or {}
    fields = {
        "name": row["name"],
        "task": row["task"],
        "id": row["id"],
        "flow run": row["flow_run"],
        "state": _state_words(row),
        "created": moment(row["created"]),
        "queued": moment(row["queued"]) if row["queued"] else None,
        "started": moment(row["started"]),
        "ended": moment(row["ended"]),
        "took": duration(_took(row, time.time())),
        "attempt": row["attempt"] if row["attempt"] > 1 else None,
        "job": row["job"],
        "cluster": row["cluster"],
        "partition": row["partition"],
        "node": row["node"],
        "waits for": row["reason_words"] or row["reason"],
        "asks for": ", ".join(f"{name}={value}" for name, value in asked.items() if value),
        "tags": ", ".join(row["tags"]),
        "upstream": ", ".join(map(short, row["upstream"])),
    }
    print_fields({name: value for name, value in fields.items() if value not in (None, "")})
    _print_history(row["history"])


def print_records(records: Iterable[Row]) -> None:
    """Print log records as the console showed them."""
    for record in records:
        line = record_line(record)
        colour = _COLOURS.get(level_name(record["level"]))
        click.echo(click.style(line, fg=colour) if colour else line)


def record_line(record: Row) -> str:
    """Return a log record as a line."""
    clock = time.strftime("%H:%M:%S", time.localtime(record["t"]))
    task = record.get("task_run_name") or record["task_run"]
    whose = f"Task run '{task}' - " if task else ""
    parts = (f"{clock}.{int(record['t'] % 1 * 1000):03d}", f"{level_name(record['level']):<7}")
    return " | ".join((*parts, harmless(f"{whose}{record['message']}", colours=True)))


def level_name(level: int) -> str:
    """Return the name of a level's number."""
    return next(name for number, name in _NAMES if level >= number)
