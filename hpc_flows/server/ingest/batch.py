"""What the parts of ingest share while they take one batch of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc_flows.server.db.models import first_key

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: How the events' handlers say that an event is nonsense. OverflowError: `1e999` is valid JSON.
NONSENSE = (AttributeError, KeyError, TypeError, ValueError, OverflowError)


@dataclass(slots=True)
class Batch:
    """A batch of events of one run, on its way into the database.

    Attributes:
        connection: in the transaction.
        run: id of the run.
        run_pk: key of its row.
        counter: the last number that was given to something in the run.
        refused: how many events said nonsense.
        dropped: how many log records the run says that it could not keep.
        root: what the run's row takes over from the root flow run.
    """

    connection: Connection
    run: str
    run_pk: int
    counter: int
    refused: int = 0
    dropped: int = 0
    root: dict[str, Any] = field(default_factory=dict)

    def new_key(self) -> int:
        """Return the key of something new in the run."""
        self.counter += 1
        return first_key(self.run_pk) + self.counter
