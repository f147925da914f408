"""Outputs of real Slurm (tests/data/slurm-*) and lines made after them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hpc_flows.schedulers.slurm_commands import HISTORY_FIELDS, QUEUE_FIELDS, SEPARATOR

REAL = Path(__file__).parent / "data" / "slurm-22.05.8"


class Told(NamedTuple):
    """One command of a transcript, and what became of it."""

    command: str
    stdout: str
    stderr: str
    status: int


_BLOCK = re.compile(
    r"^\$ (?P<command>.*?)\n--- stdout\n(?P<out>.*?)--- stderr\n(?P<err>.*?)"
    r"--- exit (?P<status>\d+), [\d.]+ s$",
    re.MULTILINE | re.DOTALL,
)


_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def transcript(name: str) -> list[Told]:
    found = _BLOCK.finditer((REAL / name).read_text())
    return [Told(b["command"], b["out"], b["err"], int(b["status"])) for b in found]


def submissions(name: str) -> list[Told]:
    """Return the single sbatch commands of a transcript."""
    return [
        told
        for told in transcript(name)
        if told.command.startswith("sbatch") and ";" not in _QUOTED.sub("", told.command)
    ]


def line(*values: str) -> str:
    return SEPARATOR.join(values) + SEPARATOR + "\n"


def queue_line(**changes: str) -> str:
    usual = {
        "JobArrayID": "351",
        "ArrayTaskID": "N/A",
        "State": "PENDING",
        "exit_code": "0",
        "RestartCnt": "0",
        "SubmitTime": "100",
        "StartTime": "N/A",
        "EndTime": "N/A",
        "Partition": "standard",
        "NodeList": "",
        "Reason": "None",
        "Name": "token",
    }
    return line(*({**usual, **changes}[field] for field in QUEUE_FIELDS))


def history_line(job: str, state: str, code: str = "0:0", **more: str) -> str:
    """Return a line of sacct; `more` are its submit time, name and rss, unless the usual ones."""
    values = {"JobID": job, "State": state, "ExitCode": code, "MaxRSS": more.get("rss", "")}
    values |= {"Submit": more.get("submit", "100"), "JobName": more.get("name", "token")}
    return SEPARATOR.join(values.get(field, "") for field in HISTORY_FIELDS) + "\n"


def nodes_and_gpus(command: str) -> str:
    return next(t.stdout for t in transcript("nodes-and-gpus.txt") if t.command.startswith(command))
