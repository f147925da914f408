"""The 24 state codes of Slurm, long and compact, and what each of them means to us.

Source: the list in squeue(1), "JOB STATE CODES", and Slurm's own job_states enumeration. A state
says where a job stands; whether a task succeeded is decided by its outcome record, not here.
"""

from __future__ import annotations

from typing import NamedTuple

from hpc_flows.schedulers.base import Ending, Phase


class Meaning(NamedTuple):
    """What a state says in the words of all schedulers."""

    phase: Phase
    ending: Ending | None = None


_QUEUED = Meaning(Phase.QUEUED)
_RUNNING = Meaning(Phase.RUNNING)

_TABLE: tuple[tuple[str, str, Meaning], ...] = (
    ("BF", "BOOT_FAIL", Meaning(Phase.ENDED, Ending.NODE)),
    ("CA", "CANCELLED", Meaning(Phase.ENDED, Ending.CANCELLED)),
    ("CD", "COMPLETED", Meaning(Phase.ENDED, Ending.COMPLETED)),
    ("CF", "CONFIGURING", Meaning(Phase.STARTING)),
    ("CG", "COMPLETING", Meaning(Phase.ENDING)),
    # `--deadline` passed: the job could not end in time, or never started.
    ("DL", "DEADLINE", Meaning(Phase.ENDED, Ending.OTHER)),
    ("F", "FAILED", Meaning(Phase.ENDED, Ending.FAILED)),
    ("NF", "NODE_FAIL", Meaning(Phase.ENDED, Ending.NODE)),
    ("OOM", "OUT_OF_MEMORY", Meaning(Phase.ENDED, Ending.MEMORY)),
    ("PD", "PENDING", _QUEUED),
    ("PR", "PREEMPTED", Meaning(Phase.ENDED, Ending.PREEMPTED)),
    ("R", "RUNNING", _RUNNING),
    # Held, because its reservation was deleted.
    ("RD", "RESV_DEL_HOLD", _QUEUED),
    # Queued again, in a federation or after `scontrol requeue`; it will run once more.
    ("RF", "REQUEUE_FED", Meaning(Phase.QUEUED, Ending.REQUEUED)),
    ("RH", "REQUEUE_HOLD", Meaning(Phase.QUEUED, Ending.REQUEUED)),
    ("RQ", "REQUEUED", Meaning(Phase.QUEUED, Ending.REQUEUED)),
    # A node was lost or given back; accounting ends this record and begins another.
    ("RS", "RESIZING", _RUNNING),
    # Another cluster of the federation started its copy of the job.
    ("RV", "REVOKED", Meaning(Phase.ENDED, Ending.OTHER)),
    ("SI", "SIGNALING", _RUNNING),
    # Queued again and held, because it ended with a status that the site treats so.
    ("SE", "SPECIAL_EXIT", Meaning(Phase.QUEUED, Ending.REQUEUED)),
    ("SO", "STAGE_OUT", Meaning(Phase.ENDING)),
    ("ST", "STOPPED", Meaning(Phase.SUSPENDED)),
    ("S", "SUSPENDED", Meaning(Phase.SUSPENDED)),
    ("TO", "TIMEOUT", Meaning(Phase.ENDED, Ending.WALLTIME)),
)

#: Long name of each compact code.
LONG_NAMES: dict[str, str] = {compact: name for compact, name, _ in _TABLE}

#: Meaning of each long name.
MEANINGS: dict[str, Meaning] = {name: meaning for _, name, meaning in _TABLE}


def long_name(word: str) -> str:
    """Return the long name of a state as squeue and sacct print it.

    `CANCELLED by 1001`, `CA`, and a name cut to a column's width (`CANCELLED+`) are all read. A
    word that is not known is returned as it is.
    """
    first = word.split(maxsplit=1)[0].rstrip("+").upper() if word.strip() else ""
    if first in MEANINGS:
        return first
    if first in LONG_NAMES:
        return LONG_NAMES[first]
    cut = [name for name in MEANINGS if name.startswith(first)]
    return cut[0] if len(cut) == 1 else first


def meaning(name: str) -> Meaning:
    """Return what a long name means; a state of a later Slurm counts as "has not ended".

    An ending that we do not know must not end a task: the job side's outcome record, or the job's
    disappearance, will.
    """
    return MEANINGS.get(name, _RUNNING)
