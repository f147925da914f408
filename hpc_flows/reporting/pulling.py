"""Reporting to whoever can only dial in: the relay talks over its standard input and output.

The side that dials in (a laptop, a server) holds the cursors and calls its own sink; the side that
has the journals does all the rest, as every relay does. Here are both: `StdioSink` and
`PulledCursors` on the side of the journals, `Puller` on the other.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from hpc_flows._version import __version__
from hpc_flows.exceptions import JournalError
from hpc_flows.journal.folder import check_name
from hpc_flows.reporting.cursors import Cursor
from hpc_flows.reporting.frames import (
    Frame,
    FrameError,
    attachment_of,
    batch_of,
    read_frame,
    run_of,
    run_to_head,
    spans_of,
    write_frame,
)
from hpc_flows.reporting.sink import (
    Answer,
    Attachment,
    Batch,
    BatchRefused,
    Comparison,
    Order,
    Pulse,
    Receipt,
    RunAbout,
    RunGone,
    RunRefused,
    RunUnknown,
    Sink,
    SinkRefusal,
    SinkTrouble,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpc_flows.reporting.cursors import CursorStore

#: The first thing that the side of the journals writes: shells may print things before it.
MAGIC = b"\nhpc-flows relay 1\n"
_LONGEST_PRELUDE = 256 * 1024

_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (BatchRefused, RunGone, RunUnknown, RunRefused, SinkRefusal, SinkTrouble)
}


class PullerLeft(Exception):
    """The side that pulls has hung up: the relay ends."""


class Line:
    """Calls and answers over two streams.

    Args:
        reader, writer: binary streams.
    """

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader, self._writer = reader, writer

    def call(self, name: str, body: bytes = b"", **head: Any) -> Any:
        """Call the other side and return what it answers.

        Raises:
            PullerLeft: it has hung up.
            SinkTrouble, SinkRefusal, BatchRefused, RunGone, RunUnknown, RunRefused: its sink's.
        """
        try:
            write_frame(self._writer, {"call": name, **head}, body)
            self._writer.flush()
            frame = read_frame(self._reader)
        except (OSError, FrameError) as error:
            raise PullerLeft(str(error)) from error
        if frame is None:
            raise PullerLeft("hung up")
        if "error" in frame.head:
            raise _error_of(frame.head)
        return frame.head.get("answer")


def _error_of(head: Mapping[str, Any]) -> Exception:
    kind = _ERRORS.get(str(head["error"]), SinkTrouble)
    message = str(head.get("message", ""))
    if kind is not SinkTrouble:
        return kind(message)
    asked = head.get("retry_after")
    return SinkTrouble(
        message,
        float(asked) if isinstance(asked, (int, float)) else None,
        answered=bool(head.get("answered")),
    )


class StdioSink(Sink):
    """The sink of whoever pulls, called over a line."""

    name = "whoever pulls"

    def __init__(self, line: Line) -> None:
        self._line = line

    def open(self) -> str:
        """Have the other side open its sink; see `Sink`."""
        found = self._line.call("open", version=__version__)
        self.store = str(found["store"])
        self.takes_attachments = bool(found["takes_attachments"])
        self.takes_pulses = bool(found["takes_pulses"])
        return str(found["epoch"])

    def register(self, run: RunAbout) -> str:
        """Pass it on; see `Sink`."""
        return str(self._line.call("register", run=run_to_head(run)))

    def send(self, batch: Batch) -> Receipt:
        """Pass it on; see `Sink`."""
        found = self._line.call(
            "send", batch.body, run=run_to_head(batch.run), spans=spans_of(batch.lines)
        )
        told = (found["held"], found["epoch"], found["repeated"], found["refused"])
        # An older version on the other side does not tell these.
        return Receipt(*told, found.get("version", 0), found.get("changed", False))

    def attach(self, run: RunAbout, attachment: Attachment) -> int:
        """Pass it on; see `Sink`."""
        found = self._line.call(
            "attach",
            attachment.content,
            run=run_to_head(run),
            kind=attachment.kind,
            key=attachment.key,
        )
        return found or 0

    def beat(self, pulse: Pulse) -> Answer:
        """Pass it on; see `Sink`."""
        found = self._line.call("beat", relay=pulse.relay, facts=dict(pulse.facts))
        return Answer(found["epoch"], [Order(**each) for each in found["orders"]])

    def carried_out(self, order: Order, status: str, message: str) -> None:
        """Pass it on; see `Sink`."""
        self._line.call("carried-out", order=asdict(order), status=status, message=message)

    def compare(
        self, held: Mapping[str, Mapping[str, int]], versions: Mapping[str, int]
    ) -> Comparison:
        """Pass it on; see `Sink`."""
        counts = {run: dict(each) for run, each in held.items()}
        found = self._line.call("compare", held=counts, versions=dict(versions))
        return Comparison(found["behind"], found["unknown"], found["gone"])

    def finish(self, run: RunAbout) -> None:
        """Pass it on; see `Sink`."""
        self._line.call("finish", run=run_to_head(run))


class PulledCursors:
    """Cursors that the other side keeps, so that this side leaves nothing behind."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def load(self, run: str) -> Cursor:
        """Return the cursor of a run; a new one where none can be read."""
        return Cursor.from_dict(run, self._line.call("load", id=run))

    def save(self, cursor: Cursor) -> None:
        """Keep a cursor.

        Raises:
            OSError: it cannot be kept now.
        """
        trouble = self._line.call("save", cursor=cursor.to_dict())
        if trouble:
            raise OSError(str(trouble))

    def runs(self) -> list[str]:
        """Return the runs that have a cursor."""
        return [str(run) for run in self._line.call("runs")]

    def forget(self, run: str) -> None:
        """Remove the cursor of a run that is no more."""
        self._line.call("forget", id=run)


class Puller:
    """Answers a relay that talks over a line: calls a sink, keeps cursors.

    Args:
        sink: where events go.
        stores: gives the place for cursors, once the sink was opened.

    Attributes:
        lines: how many lines were taken.
        live: the runs that are alive on the other side.
    """

    def __init__(self, sink: Sink, stores: Any) -> None:
        self._sink, self._stores = sink, stores
        self._cursors: CursorStore | None = None
        self.lines = 0
        self.live: list[str] = []

    def serve(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        """Answer until the other side ends.

        Raises:
            FrameError: what comes is not what a relay says.
            OSError: the line is cut.
        """
        skip_prelude(reader)
        while (frame := read_frame(reader)) is not None:
            write_frame(writer, self._answered(frame))
            writer.flush()

    def _answered(self, frame: Frame) -> dict[str, Any]:
        try:
            return {"answer": self._carried_out(frame)}
        except tuple(_ERRORS.values()) as error:
            return {
                "error": type(error).__name__,
                "message": str(error),
                "retry_after": getattr(error, "retry_after", None),
                "answered": getattr(error, "answered", False),
            }

    def _carried_out(self, frame: Frame) -> Any:
        call = getattr(self, "_on_" + str(frame.head.get("call")).replace("-", "_"), None)
        if call is None:
            raise FrameError(f"The relay asks for {frame.head.get('call')!r}, which is unknown.")
        try:
            return call(frame)
        except (KeyError, TypeError, ValueError, AttributeError, JournalError) as error:
            raise FrameError(f"A call of the relay cannot be read: {error!r}.") from error

    def _store(self) -> CursorStore:
        if self._cursors is None:
            raise FrameError("The relay asks for cursors before it has opened the sink.")
        return self._cursors

    def _on_open(self, _: Frame) -> dict[str, Any]:
        epoch = self._sink.open()
        self._cursors = self._stores(self._sink.store)
        return {
            "store": self._sink.store,
            "epoch": epoch,
            "takes_attachments": self._sink.takes_attachments,
            "takes_pulses": self._sink.takes_pulses,
        }

    def _on_register(self, frame: Frame) -> str:
        run = run_of(frame.head)
        check_name(run.id)
        return self._sink.register(run)

    def _on_send(self, frame: Frame) -> dict[str, Any]:
        batch = batch_of(frame)
        check_name(batch.run.id)
        found = self._sink.send(batch)
        self.lines += len(batch.lines)
        held = None if found.held is None else dict(found.held)
        return {
            "held": held,
            "epoch": found.epoch,
            "repeated": found.repeated,
            "refused": found.refused,
            "version": found.version,
            "changed": found.changed,
        }

    def _on_attach(self, frame: Frame) -> int:
        return self._sink.attach(run_of(frame.head), attachment_of(frame))

    def _on_beat(self, frame: Frame) -> dict[str, Any]:
        facts = dict(frame.head["facts"])
        self.live = [str(run) for run in facts.get("runs", ())]
        found = self._sink.beat(Pulse(str(frame.head["relay"]), facts))
        return {"epoch": found.epoch, "orders": [asdict(order) for order in found.orders]}

    def _on_carried_out(self, frame: Frame) -> None:
        order = Order(**frame.head["order"])
        self._sink.carried_out(order, str(frame.head["status"]), str(frame.head["message"]))

    def _on_compare(self, frame: Frame) -> dict[str, Any]:
        return asdict(self._sink.compare(frame.head["held"], frame.head.get("versions") or {}))

    def _on_finish(self, frame: Frame) -> None:
        self._sink.finish(run_of(frame.head))

    def _on_load(self, frame: Frame) -> dict[str, Any]:
        return self._store().load(str(frame.head["id"])).to_dict()

    def _on_save(self, frame: Frame) -> str:
        found = frame.head["cursor"]
        check_name(str(found["run"]))
        try:
            self._store().save(Cursor.from_dict(str(found["run"]), found))
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return ""

    def _on_runs(self, _: Frame) -> list[str]:
        return self._store().runs()

    def _on_forget(self, frame: Frame) -> None:
        self._store().forget(str(frame.head["id"]))


def skip_prelude(reader: IO[bytes]) -> None:
    """Pass over what a login shell prints before the relay begins.

    Raises:
        FrameError: there is no relay behind it.
    """
    seen = b"\n"
    while not seen.endswith(MAGIC):
        byte = reader.read(1)
        if not byte or len(seen) > _LONGEST_PRELUDE:
            text = seen[-500:].decode("utf-8", "replace").strip()
            raise FrameError(
                "The command on the other side is no relay"
                + (f"; it said: {text}" if text else ", and said nothing.")
            )
        seen += byte
