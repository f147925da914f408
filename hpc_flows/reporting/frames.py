"""Frames: how sinks are called over a pipe, or into a file that is carried elsewhere.

A frame is a line of ASCII, `<length of head> <length of body>`, then the head, which is JSON, then
the body, which is bytes. Both ends read no more than is announced, and announce no more than is
allowed.
"""

from __future__ import annotations

from json import dumps, loads
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.reporting.sink import Attachment, Batch, Line, RunAbout
from hpc_flows.reporting.tailing import is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST_LINE = 40
#: Most bytes of a head and of a body: a batch is 1 MiB, or one line of 16 MiB.
MOST_HEAD, MOST_BODY = 8 * 1024 * 1024, 20 * 1024 * 1024


class FrameError(HpcFlowsError):
    """What came is no frame: the other end is no relay, or the file is damaged."""


class Frame(NamedTuple):
    """One call, or one answer."""

    head: dict[str, Any]
    body: bytes


def write_frame(stream: IO[bytes], head: Mapping[str, Any], body: bytes = b"") -> None:
    """Write a frame.

    Raises:
        OSError: the other end is gone, or the disk is full.
    """
    text = dumps(head).encode("ascii")
    stream.write(b"%d %d\n" % (len(text), len(body)))
    stream.write(text)
    stream.write(body)


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Return the next frame, or None at the end.

    Raises:
        FrameError: what comes is no frame, or ends in the middle of one.
        OSError: it cannot be read.
    """
    line = stream.readline(_LONGEST_LINE)
    if not line:
        return None
    sizes = _sizes(line)
    head, body = _exactly(stream, sizes[0]), _exactly(stream, sizes[1])
    try:
        found = loads(head)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"The head of a frame is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise FrameError("The head of a frame is no JSON object.")
    return Frame(found, body)


def _sizes(line: bytes) -> tuple[int, int]:
    head, _, body = line.strip().partition(b" ")
    if not (line.endswith(b"\n") and head.isdigit() and body.isdigit()):
        raise FrameError(f"This is no frame: {line[:_LONGEST_LINE]!r}.")
    sizes = int(head), int(body)
    if sizes[0] > MOST_HEAD or sizes[1] > MOST_BODY:
        raise FrameError(f"A frame of {sizes[0]} and {sizes[1]} bytes is longer than allowed.")
    return sizes


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = stream.read(size)
        if not part:
            raise FrameError("It ends in the middle of a frame.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


# What sinks are given, as frames ------------------------------------------------------------------


def run_to_head(run: RunAbout) -> dict[str, Any]:
    """Return a run as a frame tells it: without its folder, which means nothing elsewhere."""
    return {"id": run.id, "facts": dict(run.facts)}


def run_of(head: Mapping[str, Any]) -> RunAbout:
    """Return the run of a frame.

    Raises:
        FrameError: it has none.
    """
    run = head.get("run")
    if not isinstance(run, dict) or not isinstance(run.get("id"), str):
        raise FrameError("A frame names no run.")
    facts = run.get("facts")
    return RunAbout(run["id"], "", facts if isinstance(facts, dict) else {})


def spans_of(lines: Sequence[Line]) -> list[tuple[str, int]]:
    """Return whose the lines of a batch are: writers, with how many lines follow each other."""
    spans: list[tuple[str, int]] = []
    for line in lines:
        if spans and spans[-1][0] == line.writer:
            spans[-1] = (line.writer, spans[-1][1] + 1)
        else:
            spans.append((line.writer, 1))
    return spans


def batch_of(frame: Frame) -> Batch:
    """Return the batch of a frame; lines with a wrong checksum are left out.

    Raises:
        FrameError: the lines are not as many as the head says.
    """
    texts = frame.body.split(b"\n")[:-1]
    try:
        writers = [str(name) for name, count in frame.head["spans"] for _ in range(int(count))]
    except (KeyError, TypeError, ValueError) as error:
        raise FrameError("A batch does not say whose its lines are.") from error
    if len(writers) != len(texts):
        raise FrameError(f"A batch has {len(texts)} lines, and says that they are {len(writers)}.")
    pairs = zip(writers, texts, strict=True)
    lines = [Line(name, text) for name, text in pairs if is_whole(text)]
    return Batch(run_of(frame.head), lines)


def attachment_of(frame: Frame) -> Attachment:
    """Return the attachment of a frame."""
    head = frame.head
    return Attachment(str(head.get("kind", "")), str(head.get("key", "")), frame.body)
