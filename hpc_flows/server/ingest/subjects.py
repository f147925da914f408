"""A flow run or task run that a batch tells of: its view, and what its row keeps.

A row keeps, of each event that made the run or changed its state, what counts. Whenever another
one comes, the view is built anew from all of them, so that the row is what `replay` would show,
in whatever order and how often events came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from hpc_flows.journal.views import Change
from hpc_flows.server.db.kept import Told, View, opened, pressed, restore, told
from hpc_flows.server.db.texts import dumps, loads
from hpc_flows.server.ingest.batch import NONSENSE

if TYPE_CHECKING:
    from hpc_flows.journal.event import Event

#: Most states of one run that are kept; only a writer gone wild has more.
MOST_CHANGES = 5000


class Subject(Generic[View]):
    """A flow run or task run that a batch tells of.

    Attributes:
        view: what it looks like after all its events.
        pk: key of its row, or 0 if it has none yet.
        made: the event that made it, pressed, or None.
        has_begun: whether that event came with this batch.
        changes: the states, in the order in which they came.
    """

    __slots__ = ("_facts", "changes", "has_begun", "made", "pk", "view")

    def __init__(self, view: View, facts: tuple[str, ...]) -> None:
        self._facts = facts
        self.view = view
        self.pk = 0
        self.has_begun = False
        self.made: str | None = None
        self.changes: list[Told] = []

    def load(self, pk: int, made: str | None, changes: str) -> None:
        """Take what the row has kept."""
        self.pk = pk
        self.made = made
        self.changes = loads(changes)
        restore(self.view, self.made, self.changes)

    def take(self, event: Event) -> bool:
        """Take an event; tell whether it makes sense."""
        try:
            if event.kind == "state":
                self._change(event)
            else:
                self._begin(event)
        except NONSENSE:
            return False
        return True

    def changes_as_text(self) -> str:
        """Return the states for the row."""
        return dumps(self.changes)

    def _change(self, event: Event) -> None:
        if len(self.changes) >= MOST_CHANGES:
            raise ValueError(len(self.changes))
        self.view.change(event)
        self.changes.append(told(event))

    def _begin(self, event: Event) -> None:
        if self.made is not None and event.order >= opened(self.made)[0]:
            return
        try:
            self.view.begin(event)
        except NONSENSE:
            # It may have taken half of the event.
            empty = type(self.view)(self.view.id)
            self.view = restore(empty, self.made, self.changes)
            raise
        self.made = pressed(event, self._facts)
        self.has_begun = True


def checked_state(event: Event) -> tuple[str, str]:
    """Return of what kind of subject, and of which, an event of kind `state` tells.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it says nonsense.
    """
    Change.of(event)
    subject = event.data["subject"]
    if subject not in ("task", "flow"):
        raise ValueError(subject)
    return subject, event.data["id"]
