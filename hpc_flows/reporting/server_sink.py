"""The sink that is a hpc_flows server: journal lines go there as they are."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hpc_flows.client.errors import (
    FORBIDDEN,
    GONE,
    NOT_FOUND,
    UNAUTHORIZED,
    ClientError,
    ForeignServer,
    ServerBusy,
    ServerRefusal,
    ServerUnreachable,
)
from hpc_flows.exceptions import TransportError
from hpc_flows.reporting.failpoints import reach
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
    from collections.abc import Callable, Iterator, Mapping

    from hpc_flows.client.requests import Client, Response
    from hpc_flows.reporting.ways import Way

#: What journal lines are called in requests.
JOURNAL_TYPE = "application/vnd.hpc-flows.journal"
#: Bytes of a part of a large artifact, as the server takes them.
PART = 1024 * 1024
#: Bytes below which a batch is sent as it is.
_WORTH_PACKING = 512
#: zlib's way to say gzip, and a quick level: lines of journals shrink to a tenth all the same.
_GZIP, _LEVEL = 31, 3
#: What of `run.json` the server is told.
_FACTS = ("v", "id", "created", "host", "pid", "cwd", "python", "hpc_flows", "name", "flow")
_STRANGE = 500
#: Characters of such a fact that the server takes.
_LONGEST_FACT = 4096
#: Fields of a command, in the order of `Order`.
_ORDER = ("id", "run", "action", "reason", "by", "flow_run")


class ServerSink(Sink):
    """A server that is asked through a client.

    Args:
        find: returns a client of it, anew each time the sink is opened, since a server may have
            moved; without patience of its own, as the relay has that.
        name: of the server, for people.
        way: how it is reached, if through a tunnel.
    """

    takes_attachments = True
    takes_pulses = True

    def __init__(self, find: Callable[[], Client], name: str, way: Way | None = None) -> None:
        self.name = name
        self._find, self._way = find, way
        self._client = find()

    def open(self) -> str:
        """Greet the server; see `Sink`."""
        try:
            self._client.close()
            self._client = self._find()
            if self._way is not None:
                self._way.wait()
            found = self._client.identity(fresh=True)
        except (ClientError, TransportError) as error:
            raise self._translated(error) from error
        self.store = f"server-{_plain(found.instance)}"
        return found.epoch

    def register(self, run: RunAbout) -> str:
        """Tell what `run.json` says; see `Sink`."""
        about = {name: _sendable(run.facts[name]) for name in _FACTS if name in run.facts}
        about["user"] = _user()
        try:
            found = self._ask("PUT", f"/runs/{_path(run.id)}", {"id": run.id, **about}).json()
        except RunUnknown as error:
            msg = f"The server takes run {run.id[:8]} from somebody else: {error}"
            raise RunRefused(msg) from error
        except BatchRefused as error:
            raise RunRefused(f"The server refuses run {run.id[:8]}: {error}") from error
        return str(found.get("epoch", ""))

    def send(self, batch: Batch) -> Receipt:
        """Send lines as they stand in the journal; see `Sink`."""
        headers = {"Content-Type": JOURNAL_TYPE}
        body = batch.body
        if len(body) >= _WORTH_PACKING:
            headers["Content-Encoding"] = "gzip"
            packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            body = packer.compress(body) + packer.flush()
        path = f"/runs/{_path(batch.run.id)}/events"
        reach("before-sending")
        found = self._ask("POST", path, body, headers).json()
        try:
            return _receipt(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"The server's answer to a batch cannot be read: {error!r}."
            raise SinkTrouble(msg, answered=True) from error

    def attach(self, run: RunAbout, attachment: Attachment) -> int:
        """Put a file beside the run; see `Sink`."""
        kind = "application/json" if attachment.kind == "artifact" else "text/plain; charset=utf-8"
        path = f"/runs/{_path(run.id)}/attachments/{attachment.kind}/{_path(attachment.key)}"
        version = 0
        try:
            for query, piece in _pieces(attachment.content):
                found = self._ask("PUT", path + query, piece, {"Content-Type": kind}).json()
                version = _whole(found.get("version")) if isinstance(found, dict) else 0
        except RunUnknown as error:
            # The run was there a moment ago; what is attached to may not have arrived.
            raise BatchRefused(str(error)) from error
        return version

    def beat(self, pulse: Pulse) -> Answer:
        """Say that the relay lives; see `Sink`."""
        path = f"/relays/{_path(pulse.relay)}/heartbeat"
        found = self._ask("POST", path, dict(pulse.facts)).json()
        orders = [order for each in found.get("commands", ()) if (order := _order(each))]
        return Answer(str(found.get("epoch", "")), orders)

    def carried_out(self, order: Order, status: str, message: str) -> None:
        """Tell what became of an order; see `Sink`."""
        path = f"/runs/{_path(order.run)}/commands/{_path(order.id)}"
        try:
            self._ask("POST", path, {"status": status, "message": message})
        except (RunUnknown, RunGone, BatchRefused):
            return  # the run or the command was deleted meanwhile

    def compare(
        self, held: Mapping[str, Mapping[str, int]], versions: Mapping[str, int]
    ) -> Comparison:
        """Ask what the server lacks; see `Sink`."""
        body: dict[str, Any] = {"runs": {run: dict(writers) for run, writers in held.items()}}
        if any(versions.values()):  # an older server knows no such name, and has told none
            body["versions"] = dict(versions)
        try:
            found = self._ask("POST", "/runs/counts", body).json()
        except BatchRefused as error:
            raise SinkTrouble(str(error), answered=True) from error
        return Comparison(
            {str(run): [str(name) for name in names] for run, names in found["behind"].items()},
            [str(run) for run in found.get("unknown", ())],
            [str(run) for run in found.get("gone", ())],
        )

    def way(self) -> str:
        """Return how the tunnel stands, if there is one."""
        return "" if self._way is None else self._way.line()

    def close(self) -> None:
        """Close the connection, and the tunnel."""
        self._client.close()
        if self._way is not None:
            self._way.close()

    def _ask(
        self, method: str, path: str, content: Any, headers: Mapping[str, str] | None = None
    ) -> Response:
        try:
            found = self._client.request(method, path, content, headers=headers)
            if f"server-{_plain(self._client.identity().instance)}" != self.store:
                # Another database answers at the same address: begin with its own cursors.
                raise SinkTrouble("Another server answers at the same address.")
        except (ClientError, TransportError) as error:
            raise self._translated(error) from error
        return found

    def _translated(self, error: Exception) -> Exception:
        """Return what the relay understands of an error."""
        if isinstance(error, ServerBusy):
            return SinkTrouble(str(error), error.retry_after, answered=error.status == _STRANGE)
        if isinstance(error, ServerRefusal):
            return _refusal(error)
        if isinstance(error, ForeignServer):
            return SinkRefusal(str(error))
        # NoServer among the rest: there was one when this was made, and it may be back at once.
        if self._way is not None and isinstance(error, ServerUnreachable):
            self._way.suspect()
        return SinkTrouble(str(error))


def _sendable(fact: Any) -> Any:
    """Return a fact of `run.json` as the server takes it: folders may have names of any bytes."""
    if not isinstance(fact, str):
        return fact
    text = fact.encode("utf-8", "replace").decode().replace("\0", "?")
    return text[:_LONGEST_FACT]


def _pieces(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Give a file in parts that the server takes, each with what its address says of it."""
    if len(content) <= PART:
        yield "", content
        return
    from hashlib import blake2b  # noqa: PLC0415 - loads OpenSSL, and few artifacts are large

    digest = blake2b(content, digest_size=32).hexdigest()
    starts = range(0, len(content), PART)
    for number, start in enumerate(starts, start=1):
        query = f"?part={number}&parts={len(starts)}&digest={digest}"
        yield query, content[start : start + PART]


def _refusal(error: ServerRefusal) -> Exception:
    if error.status in (UNAUTHORIZED, FORBIDDEN):
        return SinkRefusal(str(error))
    if error.status == GONE:
        return RunGone(str(error))
    if error.status == NOT_FOUND:
        return RunUnknown(str(error))
    return BatchRefused(str(error))


def _receipt(found: Any) -> Receipt:
    held = {str(name): int(number) for name, number in found["counts"].items()}
    repeated, refused = int(found.get("repeated", 0)), int(found.get("refused", 0))
    changed = bool(found.get("taken"))
    return Receipt(
        held, str(found["epoch"]), repeated, refused, _whole(found.get("version")), changed
    )


def _whole(number: object) -> int:
    """Return a number that a server may have told, and an older one has not."""
    return number if isinstance(number, int) else 0


def _order(found: Any) -> Order | None:
    try:
        words = [found.get(name) for name in _ORDER]
    except AttributeError:
        return None
    return Order(*("" if word is None else str(word) for word in words))


def _path(text: str) -> str:
    return quote(text, safe="")


def _plain(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in text)[:100]


def _user() -> str:
    import pwd  # noqa: PLC0415 - asked once a run

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
