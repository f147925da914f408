"""The keys of a cluster profile, and how each value is read; docs/reference/cluster-profiles.md."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import ClusterError, close_match
from hpc_flows.resources import Resources, parse_memory, parse_walltime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reader = Callable[[Any], Any]
    Complaint = Callable[[tuple[str, ...], str], ClusterError]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        msg = "it must be a text that is not empty"
        raise ValueError(msg)
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        msg = 'it must be a list of texts, such as ["one", "two"]'
        raise ValueError(msg)
    return tuple(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        msg = "it must be true or false"
        raise ValueError(msg)  # noqa: TRY004 - read as a wrong value of a file, like the others
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = "it must be a whole number of 1 or more"
        raise ValueError(msg)
    return value


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        msg = "it must be a number above zero"
        raise ValueError(msg)
    return float(value)


def _seconds(value: Any) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else _amount(value)


def _day(value: Any) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        msg = "it must be a date without quotes, such as 2026-11-21"
        raise ValueError(msg)  # noqa: TRY004 - read as a wrong value of a file, like the others
    return value


def _gpus(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        msg = "it must be a table of GPU types and numbers, such as { a100 = 8 }"
        raise ValueError(msg)  # noqa: TRY004 - read as a wrong value of a file, like the others
    return {kind: _count(number) for kind, number in value.items()}


def _one_of(*known: str) -> Reader:
    def read(value: Any) -> str:
        if value not in known:
            words = ", ".join(repr(word) for word in known)
            msg = f"it must be one of {words}.{close_match(value, known)}"
            raise ValueError(msg)
        return str(value)

    return read


def _scheduler(value: Any) -> str:
    if value != "slurm" and not (isinstance(value, str) and all(value.partition(":"))):
        msg = "it must be 'slurm', or the class of an adapter as 'package.module:Class'"
        raise ValueError(msg)
    return str(value)


def _required(value: Any) -> tuple[str, ...]:
    for name in _texts(value):
        _one_of("partition", "account", "walltime", "qos")(name)
    return tuple(value)


def _defaults(value: Any) -> dict[str, Any]:
    found = Resources.of(value)
    return found.to_dict() if found else {}


def _nodes(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(node, dict) for node in value):
        msg = "it must be a list of tables, such as [{ name = 'c[1-2]', cpus = 8 }]"
        raise ValueError(msg)
    for node in value:
        for key in node:
            if key not in _NODE:
                msg = f"a node has no key {key!r}.{close_match(key, _NODE)}"
                raise ValueError(msg)
            _NODE[key](node[key])
        if missing := [key for key in ("name", "cpus", "memory", "partitions") if key not in node]:
            msg = f"a node lacks {', '.join(missing)}"
            raise ValueError(msg)
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        msg = "it must be a text"
        raise ValueError(msg)  # noqa: TRY004 - read as a wrong value of a file, like the others
    return value


_NODE: dict[str, Reader] = {
    "name": _text,
    "cpus": _count,
    "memory": parse_memory,
    "gpus": _any_text,
    "features": _texts,
    "partitions": _texts,
    "weight": _count,
}

_PARTITION: dict[str, Reader] = {
    "purpose": _text,
    "max_walltime": parse_walltime,
    "default_walltime": parse_walltime,
    "min_nodes": _count,
    "max_nodes": _count,
    "min_cpus": _count,
    "max_cpus": _count,
    "max_gpus": _count,
    "cpus_per_node": _count,
    "memory_per_node": parse_memory,
    "default_memory_per_cpu": parse_memory,
    "max_memory_per_cpu": parse_memory,
    "gpus": _gpus,
    "gpus_required": _flag,
    "automatic": _flag,
    "preemptible": _flag,
    "default_qos": _text,
}

#: Readers by key; a dict below a key is a table of its own, and `"*"` stands for any name.
PROFILE: dict[str, Any] = {
    "name": _text,
    "title": _text,
    "extends": _text,
    "status": _one_of("maintained", "stale", "retired"),
    "contact": _text,
    "verified_on": _day,
    "scheduler": _scheduler,
    "transport": _one_of("local"),
    "path": _texts,
    "start": _texts,
    "default_partition": _text,
    "account": _text,
    "required": _required,
    "memory": _one_of("per_node", "per_cpu", "omit"),
    "submit_from_jobs": _flag,
    "requeue": _flag,
    "export": _one_of("CLEAN", "NONE", "ALL"),
    "setup": _texts,
    "modules": _text,
    "container": _texts,
    "python": _text,
    "quirks": {"*": _text},
    "login": {
        "hosts": _texts,
        "retired_hosts": _texts,
        "network": _text,
        "keepalive": _amount,
    },
    "ask": {"account": _text, "partition": _text, "qos": _text, "quota": _text},
    "defaults": _defaults,
    "limits": {
        "max_array_size": _count,
        "max_submitted": _count,
        "submit_burst": _count,
        "submit_per_minute": _amount,
    },
    "poll": {"first": _amount, "interval": _amount, "slowest": _amount, "history": _amount},
    "grace": {"file_system": _amount, "accounting": _amount, "lost": _amount},
    "storage": {
        "home": _text,
        "scratch": _text,
        "project": _text,
        "purged": _texts,
        "purge_days": _count,
    },
    "policies": {
        "gpu_idle_hours": _amount,
        "login_minutes": _amount,
        "login_processes": _count,
        "short_job_minutes": _amount,
        "memory_charged_as_cpus": _flag,
    },
    "partitions": {"*": _PARTITION},
    "sources": {"*": {"title": _text, "url": _text, "date": _day}},
    "provenance": {"*": _text},
    "mock": {
        "version": _text,
        "accounts": _texts,
        "default_account": _text,
        "spent_accounts": _texts,
        "accounting": _flag,
        "requeue": _flag,
        "max_jobs": _count,
        "licenses": _texts,
        "qos": {"*": dict.fromkeys(("priority", "max_wall", "max_jobs", "max_submit"), _count)},
        "timings": {"*": _seconds},
        "nodes": _nodes,
    },
}


def read_table(
    table: Mapping[str, Any],
    readers: Mapping[str, Any],
    complain: Complaint,
    at: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return a table with its values read.

    Args:
        table: what the file says.
        readers: the keys that may stand there.
        complain: makes the error for a place in the file and a reason.
        at: where the table stands in the file.

    Raises:
        ClusterError: a key is unknown or a value wrong.
    """
    return {
        key: _read_value(value, _reader(key, readers, complain, at), complain, (*at, key))
        for key, value in table.items()
    }


def _reader(key: str, readers: Mapping[str, Any], complain: Complaint, at: tuple[str, ...]) -> Any:
    found = readers.get(key, readers.get("*"))
    if found is None:
        where = f"[{'.'.join(at)}]" if at else "the top level"
        match = close_match(key, readers)
        raise complain((*at, key), f"there is no key {key!r} in {where} of a profile.{match}")
    return found


def _read_value(value: Any, reader: Any, complain: Complaint, at: tuple[str, ...]) -> Any:
    name = ".".join(at)
    if isinstance(reader, dict):
        if not isinstance(value, dict):
            raise complain(at, f"{name} = {value!r} must be a table, [{name}]")
        return read_table(value, reader, complain, at)
    try:
        return reader(value)
    except ValueError as error:
        raise complain(at, f"{name} = {value!r} cannot be used: {error}") from None
