"""Why a job waits, in words, and whether it will ever start.

The reasons are Slurm's (reference: `job_reason_codes` of its documentation, and those seen on
22.05.8). A reason that is not listed counts as ordinary waiting: resources, priority, a limit that
other jobs of the user fill for now.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Outlook(Enum):
    """What a reason says of the future."""

    WAITS = "waits"
    HELD = "held"
    NEVER = "never"


class Reason(NamedTuple):
    """A pending reason in words.

    Attributes:
        kind: whether the job waits its turn, waits for a person, or can never start.
        words: a sentence about "the job", with what to do.
    """

    kind: Outlook
    words: str


#: Reasons that only a person or a repair ends. The job keeps waiting, and the user is told.
_HELD = {
    "JobHeldUser": "the job is held. Let it go with `scontrol release ID`",
    "JobHeldAdmin": "the job is held by an administrator. Ask the site's support why",
    "JobHoldMaxRequeue": "the job was requeued too often and is held. Ask the site's support why",
    "PartitionDown": "the partition is down. It starts when the partition is back",
    "PartitionInactive": "the partition takes no jobs now. It starts when it does again",
    "AssocGrpCPUMinutesLimit": (
        "the account has used up its allocation. It starts when the account is refilled; or cancel "
        "it and name another account"
    ),
    "AssocGrpBillingMinutes": (
        "the account has used up its allocation. It starts when the account is refilled; or cancel "
        "it and name another account"
    ),
    "ReqNodeNotAvail": (
        "nodes that it needs are not available, often because of a maintenance that would begin "
        "before its walltime ends. A shorter walltime may start sooner"
    ),
    # Slurm says so of a request that was valid until a node of the partition was drained, too.
    "PartitionNodeLimit": (
        "the partition has too few nodes for it now, because of a limit or because nodes are down "
        "or drained. It starts when there are enough"
    ),
    "Reservation": "it waits for its reservation to begin",
    "BadConstraints": "no node that is up has the features that it asks for",
}

#: Reasons that waiting cannot end: the job itself asks for more than a limit allows.
_NEVER = {
    "DependencyNeverSatisfied": "a job that it depends on did not end well",
    "PartitionTimeLimit": "its walltime is above the partition's limit",
    "InvalidAccount": "its account is not valid (any more)",
    "InvalidQOS": "its QOS is not valid (any more)",
    "AccountNotAllowed": "its account may not use the partition",
    "QOSNotAllowed": "its QOS may not be used there",
}

#: Beginnings of whole sentences that Slurm prints instead of a word.
_SENTENCES = {
    "Nodes required for job are DOWN": (
        "the nodes that it needs are down, drained or reserved. It starts when they are back"
    ),
    "launch failed requeued held": (
        "its launch failed on a node and it is held. Let it go with `scontrol release ID`, or ask "
        "the site's support"
    ),
    "job requeued in held state": "it was requeued and is held. `scontrol release ID` lets it go",
}


def outlook(reason: str) -> Reason:
    """Return what a pending reason means.

    Args:
        reason: as the scheduler prints it, such as `QOSMaxWallDurationPerJobLimit`.
    """
    word = reason.strip().strip("()")
    if word in _NEVER:
        return Reason(Outlook.NEVER, f"{_NEVER[word]} ({word})")
    if _exceeds_per_job_limit(word):
        return Reason(Outlook.NEVER, f"it asks for more than a limit for single jobs ({word})")
    name = word.partition(",")[0]
    if name in _HELD:
        return Reason(Outlook.HELD, f"{_HELD[name]} ({word})")
    for beginning, words in _SENTENCES.items():
        if word.startswith(beginning):
            return Reason(Outlook.HELD, f"{words} ({word})")
    return Reason(Outlook.WAITS, f"it waits its turn ({word})" if word else "it waits its turn")


def _exceeds_per_job_limit(word: str) -> bool:
    """Tell limits on one job (`QOSMaxCpuPerJobLimit`) from those that other jobs fill."""
    return word.startswith(("QOSMax", "AssocMax")) and (
        "PerJob" in word or word.endswith("MaxWallDurationPerJobLimit")
    )
