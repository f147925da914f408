"""The protocol of sinks: where a relay sends the events of runs.

A relay calls a sink from one thread. It registers a run before it sends lines of it, sends lines of
one run at a time, and sends again whatever it does not know to have arrived. So a sink must take
the same lines twice, in any order between writers, without harm.

A sink says how things went by what it returns and by what it raises:

* a `Receipt`: the lines are kept for good, or known to be of no use to it (`refused`);
* `SinkTrouble`: not now. The relay waits and sends the same again;
* `BatchRefused`: never like this. The relay sends it in smaller parts, and passes over a single
  line that is refused by itself;
* `RunGone`: never again for this run; `RunUnknown`: it does not know the run, which is to be
  registered and sent anew; `RunRefused`: it does not take this run from us for now;
* `SinkRefusal`: it does not take anything from us (credentials, version). The relay tells, and
  asks again after a while, since a person may mend it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.journal.reader import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hpc_flows.journal.event import Event

#: Most events of a batch, and most bytes of it before compression.
MOST_EVENTS, MOST_BYTES = 500, 1024 * 1024


class SinkTrouble(HpcFlowsError):
    """A sink cannot be reached, or asks to be left alone for now.

    Attributes:
        retry_after: seconds for which it wants to be left alone; None when it does not say.
        answered: whether the sink itself answered (an error of its own), and not the way to it.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, *, answered: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.answered = answered


class SinkRefusal(HpcFlowsError):
    """A sink takes nothing from us until a person has changed something."""


class BatchRefused(HpcFlowsError):
    """A sink will never take this batch, or this attachment, as it is."""


class RunGone(HpcFlowsError):
    """A sink does not want to hear of this run any more: it was deleted there."""


class RunUnknown(HpcFlowsError):
    """A sink does not know a run that was registered with it."""


class RunRefused(HpcFlowsError):
    """A sink does not take this run from us, but may take others."""


class Line(NamedTuple):
    """A line of a journal, without its newline; its checksum is right."""

    writer: str
    text: bytes


@dataclass(frozen=True, slots=True)
class RunAbout:
    """A run that is reported.

    Attributes:
        id: id of the root flow run.
        folder: the run's folder; empty where it is not on this machine (pull).
        facts: what `run.json` says.
    """

    id: str
    folder: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of one run, at most `MOST_EVENTS` and about `MOST_BYTES`.

    Attributes:
        run: which run.
        lines: in the order of each writer's journal.
    """

    run: RunAbout
    lines: Sequence[Line]

    @property
    def body(self) -> bytes:
        """The lines as they stand in journals, a newline after each."""
        return b"".join(line.text + b"\n" for line in self.lines)

    def events(self) -> Iterator[Event]:
        """Give the events of the lines; what is none, or of a newer version, is left out."""
        for line in self.lines:
            try:
                yield decode(line.text)
            except ValueError:
                continue

    def halves(self) -> tuple[Batch, Batch]:
        """Return its two halves."""
        middle = len(self.lines) // 2
        return Batch(self.run, self.lines[:middle]), Batch(self.run, self.lines[middle:])


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a sink did with a batch.

    Attributes:
        held: for each writer of the batch, how many different events of it the sink holds now; a
            relay that finds too few sends the whole writer again. None: this sink does not count.
        epoch: changes when the sink may have lost something, as after a restart.
        repeated: lines of the batch that it had before.
        refused: lines of the batch that it will never take.
        version: of the run as the sink has it now, which rises with each change; 0: not told.
        changed: whether the batch changed anything.
    """

    held: Mapping[str, int] | None = None
    epoch: str = ""
    repeated: int = 0
    refused: int = 0
    version: int = 0
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that belongs to a run and does not stand in its journal.

    Attributes:
        kind: `script` (key: token), `output` (key: task run) or `artifact` (key: artifact).
        key: which one.
        content: text in UTF-8, or JSON for artifacts.
    """

    kind: str
    key: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a relay says of itself from time to time.

    Attributes:
        relay: its id.
        facts: the body of the heartbeat (mode, host, pid, version, clock, runs, clusters).
    """

    relay: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked of a run, to be handed to its driver.

    Attributes:
        id: of the command.
        run: id of the root flow run.
        action: `cancel`, `pause` or `resume`.
        reason, by: what the person wrote, and who it was.
        flow_run: id of the subflow that is meant; empty for the whole run.
    """

    id: str
    run: str
    action: str
    reason: str = ""
    by: str = ""
    flow_run: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sink answers to a pulse."""

    epoch: str = ""
    orders: Sequence[Order] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a sink lacks of what it was said to hold.

    Attributes:
        behind: by run, the writers of which it holds fewer events; none where it lacks something
            else, such as an attachment.
        unknown: runs that it does not know.
        gone: runs that were deleted there.
    """

    behind: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unknown: Sequence[str] = ()
    gone: Sequence[str] = ()


class Sink(ABC):
    """Where events go. See the module for the rules.

    Attributes:
        name: for people: in messages, in `hpc-flows relay status`.
        store: names the place that is filled, in letters, digits, `.`, `_` and `-`; known after
            `open`. Cursors are kept under it: another database at the same address gets
            everything.
        takes_attachments, takes_pulses: whether `attach`, and whether `beat` and `compare`, do
            anything.
        state_folder: a folder of its own for what it must remember, set before `open` and made by
            whoever needs it.
    """

    name: str = "sink"
    store: str = ""
    takes_attachments: bool = False
    takes_pulses: bool = False
    state_folder: str = ""

    @abstractmethod
    def open(self) -> str:
        """Reach the far side, set `store`, and return the epoch; called again after trouble.

        Raises:
            SinkTrouble, SinkRefusal: as the module says.
        """

    @abstractmethod
    def register(self, run: RunAbout) -> str:
        """Make a run known and return the epoch; a second time is no error.

        Raises:
            SinkTrouble, SinkRefusal, RunGone: as the module says.
        """

    @abstractmethod
    def send(self, batch: Batch) -> Receipt:
        """Keep a batch for good.

        Raises:
            SinkTrouble, SinkRefusal, BatchRefused, RunGone: as the module says.
        """

    def attach(self, run: RunAbout, attachment: Attachment) -> int:  # noqa: ARG002 - many sinks have no use for it
        """Keep a file that belongs to a run; return the run's version as in `Receipt`.

        Raises:
            SinkTrouble, SinkRefusal, BatchRefused, RunGone: as the module says.
        """
        return 0

    def beat(self, pulse: Pulse) -> Answer:  # noqa: ARG002 - for those that take pulses
        """Say that the relay lives; return what people want of its runs.

        Raises:
            SinkTrouble, SinkRefusal: as the module says.
        """
        return Answer()

    def carried_out(self, order: Order, status: str, message: str) -> None:  # noqa: B027 - many sinks have no use for it
        """Tell what became of an order: `delivered`, `refused` or `failed`.

        Raises:
            SinkTrouble, SinkRefusal: as the module says.
        """

    def compare(
        self,
        held: Mapping[str, Mapping[str, int]],  # noqa: ARG002 - for those that count
        versions: Mapping[str, int],  # noqa: ARG002 - as above
    ) -> Comparison:
        """Compare what was sent, by run and writer, with what is there.

        Args:
            held: how many events the sink has said to hold.
            versions: the last version of each run that it has told.

        Raises:
            SinkTrouble, SinkRefusal: as the module says.
        """
        return Comparison()

    def way(self) -> str:
        """Return how the far side is reached, in one line for people; empty where that is plain."""
        return ""

    def finish(self, run: RunAbout) -> None:  # noqa: B027 - many sinks have no use for it
        """Do what may be done when all is sent that a run has for now, such as writing out."""

    def close(self) -> None:  # noqa: B027 - many sinks have no use for it
        """Let go of connections."""
