"""Events of the user's own: something happened, to what, and what else it concerns.

An event that is emitted in a run is a line of the run's journal, in order with the run's states.
One that is emitted outside of any run is kept in a journal of the user's, below
`$HPC_FLOWS_HOME/outside/`. State changes of runs are in the journal anyway and need no events.
"""

from __future__ import annotations

import atexit
import datetime as dt
import os
import uuid
from typing import TYPE_CHECKING, Any, Self

from hpc_flows.context import current
from hpc_flows.exceptions import EventError, EventTooLarge, JournalError
from hpc_flows.journal.event import encode
from hpc_flows.journal.writer import JournalWriter
from hpc_flows.logging import adopt_journal
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Event", "RelatedResource", "Resource", "emit_event"]

#: Limits of Prefect's, so that what is kept here can be sent there: characters of a name, labels
#: of a resource, related resources, bytes of an event.
LONGEST_NAME, MOST_LABELS, MOST_RELATED, MOST_BYTES = 1024, 500, 100, 1_500_000

#: Labels that every resource, and every related one, must have.
RESOURCE_ID, ROLE = "prefect.resource.id", "prefect.resource.role"

#: Of two events that lie further apart than this, none is said to follow the other.
_TIGHT = dt.timedelta(minutes=5)

#: Folder of the journal of what happens outside of runs, in the home.
OUTSIDE = "outside"


class Resource(dict[str, str]):
    """What an event concerns: labels, among them `prefect.resource.id`."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__(labels)
        self._check()

    def _check(self) -> None:
        if not self.get(RESOURCE_ID):
            msg = f"A resource needs a label {RESOURCE_ID!r}, which {dict(self)!r:.200} lacks."
            raise EventError(msg)
        if len(self) > MOST_LABELS:
            msg = f"A resource has at most {MOST_LABELS} labels; {self.id!r} has {len(self)}."
            raise EventError(msg)
        for label, text in self.items():
            if not (isinstance(label, str) and isinstance(text, str)):
                raise EventError(f"Labels of resources are texts; {label!r}: {text!r} is not.")

    @property
    def id(self) -> str:
        """Its `prefect.resource.id`."""
        return self[RESOURCE_ID]

    @property
    def name(self) -> str | None:
        """Its `prefect.resource.name`, if it has one."""
        return self.get("prefect.resource.name")


class RelatedResource(Resource):
    """What else an event concerns: a resource with a label `prefect.resource.role`."""

    def _check(self) -> None:
        super()._check()
        if not self.get(ROLE):
            raise EventError(f"A related resource needs a label {ROLE!r}; {self.id!r} has none.")

    @property
    def role(self) -> str:
        """Its part in the event."""
        return self[ROLE]


class Event:
    """One event.

    Attributes:
        event: its name, such as `mylab.sample.measured`.
        resource: what it concerns.
        occurred: when it happened; a time with its zone.
        related: what else it concerns.
        payload: facts, as JSON.
        id: its UUID.
        follows: the id of the event that it is known to come after, or None.
    """

    __slots__ = ("event", "follows", "id", "occurred", "payload", "related", "resource")

    def __init__(
        self,
        event: str,
        resource: Mapping[str, str],
        *,
        occurred: dt.datetime | None = None,
        related: Sequence[Mapping[str, str]] = (),
        payload: Mapping[str, Any] | None = None,
        id: uuid.UUID | str | None = None,  # noqa: A002 - Prefect's name
        follows: uuid.UUID | None = None,
    ) -> None:
        self.event = _checked_name(event)
        self.resource = Resource(resource)
        self.occurred = _aware(occurred)
        self.related = _checked_related(related)
        self.payload = dict(payload or {})
        self.id = id if isinstance(id, uuid.UUID) else uuid.UUID(id) if id else uuid.uuid4()
        self.follows = follows

    def __repr__(self) -> str:
        return f"Event({self.event!r}, {self.resource.id!r}, id={str(self.id)!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as the journal has it."""
        data = {
            "id": str(self.id),
            "name": self.event,
            "occurred": self.occurred.isoformat(),
            "resource": dict(self.resource),
            "related": [dict(each) for each in self.related],
            "payload": self.payload,
        }
        return data if self.follows is None else {**data, "follows": str(self.follows)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the event that a journal's data say."""
        follows = data.get("follows")
        return cls(
            data["name"],
            data["resource"],
            occurred=dt.datetime.fromisoformat(data["occurred"]),
            related=data["related"],
            payload=data["payload"],
            id=data["id"],
            follows=uuid.UUID(follows) if follows else None,
        )

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes as JSON."""
        return len(encode(self.to_dict()))


def emit_event(
    event: str,
    resource: Mapping[str, str],
    occurred: dt.datetime | None = None,
    related: Sequence[Mapping[str, str]] | None = None,
    payload: Mapping[str, Any] | None = None,
    id: uuid.UUID | str | None = None,  # noqa: A002 - Prefect's name
    follows: Event | None = None,
) -> Event:
    """Keep an event and return it.

    Args:
        event: its name, at most 1,024 characters.
        resource: what it concerns: labels, among them `prefect.resource.id`; at most 500.
        occurred: when it happened; now, unless given. One without a zone is local time.
        related: what else it concerns, at most 100, each with a `prefect.resource.role`. The run
            that emits it is noted anyway.
        payload: facts, as JSON.
        id: a UUID to know it by.
        follows: the event before it, if that was at most five minutes earlier.

    Raises:
        EventError: something breaks a limit.
        EventTooLarge: it has more than 1,500,000 bytes.
        JournalError: it cannot be written.
    """
    made = Event(event, resource, occurred=occurred, related=related or (), payload=payload, id=id)
    if follows is not None and abs(made.occurred - follows.occurred) < _TIGHT:
        made.follows = follows.id
    size = made.size_bytes
    if size > MOST_BYTES:
        msg = (
            f"Event {event!r:.200} has {size} bytes; at most {MOST_BYTES} are kept. Write large "
            f"data to a file, and its path into the payload."
        )
        raise EventTooLarge(msg)
    record("event", made.to_dict())
    return made


def record(kind: str, data: dict[str, Any]) -> None:
    """Write to the journal of the run that calls this, or to that of what is outside of runs.

    The run, and the tags in force, are added.
    """
    context = current()
    if context is None:
        _outside(get_settings().home).write(kind, data)
        return
    if context.tags:
        data = {**data, "tags": sorted({*data.get("tags", ()), *context.tags})}
    if context.flow_run is not None:
        data = {**data, "flow_run": context.flow_run.id}
    if context.task_run is not None:
        data = {**data, "task_run": context.task_run.id}
    if context.root is None:
        _outside(get_settings().home).write(kind, data)
        return
    if context.root.journal.disowned:  # a forked child, as of multiprocessing
        adopt_journal(context.root)
    context.root.journal.write(kind, data)


_outside_writers: dict[tuple[str, int], JournalWriter] = {}


def _outside(home: str) -> JournalWriter:
    """Return this process's writer of the journal of what is outside of runs."""
    key = (home, os.getpid())  # a forked child needs one of its own
    if key not in _outside_writers:
        folder = os.path.join(home, OUTSIDE)
        try:
            os.makedirs(os.path.join(folder, "journal"), mode=0o700, exist_ok=True)
        except OSError as error:
            msg = (
                f"What happens outside of runs cannot be kept: {folder}: {error.strerror}. Set "
                f"HPC_FLOWS_HOME to a folder that you may write."
            )
            raise JournalError(msg) from error
        name = f"{os.uname().nodename[:100]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        writer = JournalWriter(folder, OUTSIDE, name, background=False)
        _outside_writers[key] = writer
        atexit.register(writer.close)
    return _outside_writers[key]


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        msg = (
            f"The name of an event is a text of 1 to {LONGEST_NAME} characters, not {name!r:.200}."
        )
        raise EventError(msg)
    return name


def _checked_related(related: Sequence[Mapping[str, str]]) -> list[RelatedResource]:
    if len(related) > MOST_RELATED:
        msg = f"An event has at most {MOST_RELATED} related resources, not {len(related)}."
        raise EventError(msg)
    return [RelatedResource(each) for each in related]


def _aware(when: dt.datetime | None) -> dt.datetime:
    if when is None:
        return dt.datetime.now(dt.UTC)
    return when if when.tzinfo is not None else when.astimezone()
