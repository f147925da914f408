"""Ids and time stamps at a Prefect server, made of ours so that a replay makes the same again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from uuid import UUID, uuid5

#: Made once, for this purpose.
_SPACE = UUID("5f0e7d0a-4c1e-4f0b-9f1d-1d6f3c0f2b7e")

_START = datetime(1970, 1, 1, tzinfo=UTC)

_ATTEMPT_BITS, _STAGE_BITS, _TIME_BITS = 12, 3, 42
_CHECK_BITS = 31
_RANK_BITS = 60


def event_id(run: str, writer: str, seq: int) -> str:
    """Return the id of the Prefect event, and so of the state, that a journal's event becomes."""
    return str(uuid5(_SPACE, f"event/{run}/{writer}/{seq}"))


def task_run_id(ours: str) -> str:
    """Return a task run's id there: our own, unless that is no UUID."""
    try:
        return str(UUID(ours))
    except ValueError:
        return str(uuid5(_SPACE, f"task-run/{ours}"))


def placeholder_id(flow_run: str) -> str:
    """Return the id of the task run that stands for a subflow in its parent."""
    return str(uuid5(_SPACE, f"subflow/{flow_run}"))


def group_id(flow_run: str, task: str) -> str:
    """Return the id of the task run that stands for many runs of one task."""
    return str(uuid5(_SPACE, f"group/{flow_run}/{task}"))


def made_id(*words: object) -> str:
    """Return the id of something else that is made here, by words that say what it is."""
    return str(uuid5(_SPACE, "/".join(map(str, words))))


class Rank:
    """Where a state of a flow run stands in the order in which its states count.

    It is carried in the state's `transition_id`, which the server keeps: so a reporter that has
    forgotten everything learns from the server how far it had come. A flow run cannot be told of
    states of the past, and one that came twice would bring it back to life.
    """

    __slots__ = ("attempt", "moment", "stage")

    def __init__(self, attempt: int, stage: int, moment: int) -> None:
        """Make a rank.

        Args:
            attempt: of the flow run.
            stage: as `hpc_flows.journal.views` counts it.
            moment: milliseconds since 1970.
        """
        self.attempt = min(attempt, (1 << _ATTEMPT_BITS) - 1)
        self.stage = stage
        self.moment = moment & ((1 << _TIME_BITS) - 1)

    def __int__(self) -> int:
        return ((self.attempt << _STAGE_BITS | self.stage) << _TIME_BITS) | self.moment


def transition_id(rank: Rank, flow_run: str, event: str) -> str:
    """Return the id of a transition: a UUID of version 8, with the rank in its front.

    Args:
        rank: of the state.
        flow_run: our id of the flow run.
        event: the journal's id of the event.
    """
    front = int(rank) << (_RANK_BITS - _ATTEMPT_BITS - _STAGE_BITS - _TIME_BITS)
    high, low = front >> 12, front & 0xFFF
    back = _digest(flow_run) << _CHECK_BITS | _digest(event)
    return str(UUID(int=high << 80 | 8 << 76 | low << 64 | 0b10 << 62 | back))


def rank_in(transition: str, flow_run: str) -> int | None:
    """Return the rank that a transition's id carries, or None if it is none of ours."""
    try:
        number = UUID(transition).int
    except (ValueError, AttributeError, TypeError):
        return None
    if number >> 76 & 0xF != 8 or number >> _CHECK_BITS & _mask() != _digest(flow_run):  # noqa: PLR2004 - the version
        return None
    front = (number >> 80) << 12 | (number >> 64 & 0xFFF)
    return front >> (_RANK_BITS - _ATTEMPT_BITS - _STAGE_BITS - _TIME_BITS)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest()) & _mask()


def _mask() -> int:
    return (1 << _CHECK_BITS) - 1


def microseconds(wall: float) -> int:
    """Return seconds since 1970 as whole microseconds."""
    return round(wall * 1e6)


def stamp_text(stamp: int) -> str:
    """Return microseconds since 1970 in ISO 8601, always with six digits."""
    moment = _START + timedelta(microseconds=stamp)
    return moment.isoformat(timespec="microseconds")
