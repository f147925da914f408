"""Events: what one line of a journal says, and how it is spelled.

A line is a compact JSON object, a tab, the CRC-32 of the object's bytes as eight hexadecimal
digits, and a newline (docs/reference/journal.md).
"""

from __future__ import annotations

from itertools import count
from time import monotonic_ns, time_ns
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from hpc_flows.resources import Resources
    from hpc_flows.runs import FlowRun, TaskRun
    from hpc_flows.states import State, StateType

try:
    # What `json` is made of: 5 ms cheaper to import than the package itself.
    from _json import encode_basestring_ascii, make_encoder
except ImportError:  # pragma: no cover - Pythons without the C accelerator
    _accelerated = False

    def quote(text: str) -> str:
        """Return `text` as a JSON string in ASCII, with its quotation marks."""
        return "".join(_chunks(text, 0))
else:
    _accelerated = True
    #: Returns a text as a JSON string in ASCII, with its quotation marks.
    quote: Callable[[str], str] = encode_basestring_ascii  # type: ignore[no-redef]

#: Version of the line format. Readers refuse lines of a greater one.
VERSION = 1

#: What the driver of a run calls its journal; a second driver of the same run is `driver-2`.
DRIVER = "driver"

#: Longest line in bytes. A reader that meets more without a newline knows that it is garbage.
MAX_LINE = 16 * 1024 * 1024

#: Characters of a message that are kept; the rest is cut, with a mark.
LONGEST_MESSAGE = 65536

#: Stands for what is not told, as in the settings.
_HIDDEN = "********"

#: What is shorter is masked nowhere: it is no key, and may be a word of the events themselves.
_SHORTEST_SECRET = 12

#: So much of the beginning of a secret may stand at the end of a text.
_TELLS_NOTHING = 4

#: Texts that no event of this process shows, as they are and as they stand in JSON: see `hide`.
_secrets: tuple[str, ...] = ()

#: Tasks of which it is remembered what their runs have in common.
_MOST_ALIKE = 1000

#: How deep and how long a value may be that JSON cannot take and that is put in words instead.
_DEPTH = 12
_WORDS = 1000


class Event:
    """One event of a run.

    Attributes:
        run: id of the root flow run.
        writer: who wrote it; the name of the journal file without `.jsonl`.
        seq: number within the writer, from 1.
        wall: seconds since 1970; never decreases within a writer.
        mono: seconds of the writer's monotonic clock: differences are durations, within a writer.
        kind: what happened, such as `state` or `log` (docs/reference/journal.md lists them).
        data: the facts, JSON-safe.
    """

    __slots__ = ("data", "kind", "mono", "run", "seq", "wall", "writer")

    def __init__(  # the seven fields of an event
        self,
        run: str,
        writer: str,
        seq: int,
        wall: float,
        mono: float,
        kind: str,
        data: dict[str, Any],
    ) -> None:
        self.run = run
        self.writer = writer
        self.seq = seq
        self.wall = wall
        self.mono = mono
        self.kind = kind
        self.data = data

    @property
    def id(self) -> str:
        """The text `writer:seq`, unique within the run."""
        return f"{self.writer}:{self.seq}"

    @property
    def order(self) -> tuple[float, str, int]:
        """The key by which the events of a run are sorted: wall, writer, seq."""
        return (self.wall, self.writer, self.seq)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in Event.__slots__)

    def __hash__(self) -> int:
        return hash((self.run, self.writer, self.seq))

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.kind} {self.data!r}>"


def shortened(message: str) -> str:
    """Return a message, or its beginning and how long it was, if it is too long to keep."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    kept = unsplit(message[:LONGEST_MESSAGE])
    return f"{kept}… (cut here; {len(message)} characters in all)"


def is_driver(writer: str) -> bool:
    """Tell whether a writer is a driver of the run, and not one of its jobs."""
    return writer == DRIVER or writer.startswith(DRIVER + "-")


def seal(body: bytes) -> bytes:
    """Return the line for the JSON text `body`: with its checksum and a newline."""
    return b"%b\t%08x\n" % (body, crc32(body))


def hide(secrets: Iterable[str]) -> None:
    """Let no event, and no log record on the console, of this process show these texts."""
    global _secrets  # noqa: PLW0603 - what a process was given, all that it writes may repeat
    kept = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    _secrets = tuple({*_secrets, *kept, *(quote(secret)[1:-1] for secret in kept)})


def masked(text: str) -> str:
    """Return a text, JSON or not, without what is to be hidden."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    return text


def unsplit(text: str) -> str:
    """Return the beginning of a longer text without what is to be hidden and was cut in two.

    `masked` would not know what is left of it.
    """
    for secret in _secrets:
        for size in range(len(secret) - 1, _TELLS_NOTHING, -1):
            if text.endswith(secret[:size]):
                return text[:-size] + _HIDDEN
    return text


def header(run: str, writer: str) -> str:
    """Return how every line of a writer begins, up to the number of the event."""
    return f'{{"v":{VERSION},"run":{quote(run)},"writer":{quote(writer)},"seq":'


class Lines:
    """Makes the lines of one writer: numbered, timed and sealed."""

    __slots__ = ("_head", "_kinds", "_numbers", "_wall")

    def __init__(self, run: str, writer: str) -> None:
        self._head = header(run, writer)
        self._kinds: dict[str, str] = {}
        self._numbers = count(1)
        self._wall = 0

    def make(self, kind: str, text: str) -> tuple[int, bytes]:
        """Return number and line of an event that happens now; `text` is its data as JSON."""
        seq = next(self._numbers)
        return seq, self._line(seq, self._now(), kind, text)

    def make_all(self, events: Sequence[tuple[str, str]]) -> list[bytes]:
        """Return the lines of events, each a kind and its data as JSON, that happen now at once."""
        now, numbers = self._now(), self._numbers
        return [self._line(next(numbers), now, kind, text) for kind, text in events]

    def _now(self) -> str:
        wall = time_ns()
        if wall < self._wall:  # noqa: PLR1730 - the clock was set back; max() takes 4 times longer
            wall = self._wall
        self._wall = wall
        # Digits of whole numbers: to make text of a float takes three times longer. The second
        # clock may be younger than a second.
        when, tick = str(wall), str(monotonic_ns()).zfill(10)
        return f',"wall":{when[:-9]}.{when[-9:-3]},"mono":{tick[:-9]}.{tick[-9:-3]}'

    def _line(self, seq: int, now: str, kind: str, text: str) -> bytes:
        start = self._kinds.get(kind) or self._quoted(kind)
        if _secrets:
            text = masked(text)
        body = f"{self._head}{seq}{now}{start}{text}}}".encode("ascii")
        return b"%b\t%08x\n" % (body, crc32(body))  # as `seal` does

    def _quoted(self, kind: str) -> str:
        self._kinds[kind] = text = f',"kind":{quote(kind)},"data":'
        return text


def state_text(subject: str, run: FlowRun | TaskRun, state: State) -> str:
    """Return the data of a state of a run as JSON; `subject` is "task" or "flow".

    Every task has several states. Their data are put together by hand, because the encoder would
    cost more than all else of a short task.
    """
    kind, name = state.type, state.name
    text = (
        f'{{"subject":"{subject}","id":{quote(run.id)},'
        f'"type":{_type_texts.get(kind) or _type_text(kind)},'
        f'"name":{quote(name) if type(name) is str else encode(name)},"attempt":{run.run_count}'
    )
    if state.message:
        text = f'{text},"message":{quote(shortened(str(state.message)))}'
    if state.details:
        text = f'{text},"details":{encode(state.details)}'
    return text + "}"


_type_texts: dict[str, str] = {}


def _type_text(kind: StateType) -> str:
    _type_texts[kind] = text = quote(kind.value)
    return text


def told_request(resources: Resources) -> dict[str, Any]:
    """Return a task's request as journals tell it: of its variables only the names.

    What is in `environment` may be secrets; a journal goes to servers, and is shown to projects.
    """
    told = resources.to_dict()
    if "environment" in told:
        told["environment"] = dict.fromkeys(told["environment"], _HIDDEN)
    return told


def run_text(run: TaskRun, alike: dict[tuple[object, ...], str]) -> str:
    """Return the data of a new task run as JSON; `alike` keeps what runs of a task have in common.

    That is encoded once: all but the id, the name, and what the run waits for.
    """
    kind = (run.task_key, run.task_name, run.flow_run_id, run.tags, run.resources)
    shared = alike.get(kind)
    if shared is None:
        if len(alike) >= _MOST_ALIKE:
            alike.clear()
        shared = alike[kind] = _shared_text(run)
    return (
        f'{{"id":{quote(run.id)},"name":{quote(run.name)},'
        f'"upstream":{encode(run.upstream) if run.upstream else "[]"},'
        f'"map_index":{"null" if run.map_index is None else run.map_index},{shared}'
    )


def _shared_text(run: TaskRun) -> str:
    """Return the data that all runs of one task in one flow run share, as the end of an object."""
    resources = run.resources
    data = {
        "task": run.task_name,
        "key": run.task_key,
        "flow_run": run.flow_run_id,
        "resources": None if resources is None else told_request(resources),
        "tags": run.tags,
    }
    return encode(data)[1:]


def encode(data: Any) -> str:
    """Return `data` as compact JSON in ASCII.

    Whatever JSON has no word for is put in words: a path or another object as its text, a set
    as a list, infinite and undefined numbers as "inf" and "nan". It never fails, because an
    event that cannot be written is worse than one that is written roughly.
    """
    try:
        return "".join(_chunks(data, 0))
    except (TypeError, ValueError, RecursionError):
        return "".join(_chunks(_plain(data, _DEPTH), 0))


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    if depth == 0:
        return _in_words(value)
    if hasattr(value, "items") and hasattr(value, "keys"):
        return {_key(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in value]
    return _in_words(value)


def _number(value: float) -> Any:
    finite = value - value == 0
    small = not isinstance(value, int) or value.bit_length() < _WORDS
    return value if finite and small else _in_words(value)


def _key(key: object) -> str:
    return key if isinstance(key, str) else _in_words(key)


def _in_words(value: object) -> str:
    try:
        text = str(value) if hasattr(value, "__fspath__") else repr(value)
    except Exception as error:  # noqa: BLE001 - the object's own __repr__ may raise anything
        text = f"<{type(value).__name__}, whose repr() raised {type(error).__name__}>"
    return text if len(text) <= _WORDS else unsplit(text[:_WORDS]) + "…"


def _fast_chunks() -> Callable[[Any, int], Iterable[str]]:
    return make_encoder(
        None,  # no record of circles: the C code's own limit of recursion finds them
        _foreign,
        encode_basestring_ascii,
        None,
        ":",
        ",",
        False,  # sort_keys
        False,  # skipkeys
        False,  # allow_nan: NaN is not JSON, and strangers' readers would stop at it
    )


def _slow_chunks() -> Callable[[Any, int], Iterable[str]]:
    from json import JSONEncoder  # noqa: PLC0415 - only where the C accelerator is missing

    encoder = JSONEncoder(separators=(",", ":"), allow_nan=False, default=_foreign)
    return lambda data, _level: (encoder.encode(data),)


def _foreign(value: object) -> Any:
    return _plain(value, _DEPTH)


_chunks = _fast_chunks() if _accelerated else _slow_chunks()
