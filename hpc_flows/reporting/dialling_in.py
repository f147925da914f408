"""Both ends of pulling, as programs: one speaks over its standard streams, one starts the other."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import deque
from hashlib import blake2b
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, NamedTuple

from hpc_flows.client.pacing import Backoff
from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.reporting.cursors import CursorFolder
from hpc_flows.reporting.frames import FrameError
from hpc_flows.reporting.pulling import MAGIC, Line, PulledCursors, Puller, PullerLeft, StdioSink
from hpc_flows.reporting.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpc_flows.reporting.opening import Configured
    from hpc_flows.reporting.sink import Sink

#: Seconds of the longest pause before the other side is dialled again.
_LONGEST_PAUSE = 300.0
#: Seconds that a connection must have stood so that the next pause is short again.
_STOOD = 60.0
_NICE = 19
_KEPT_WORDS = 20
_LEAVES_WITHIN = 5.0


def speak(home: str, *, once: bool) -> int:
    """Report the runs of a home over standard input and output until the other side hangs up.

    Args:
        home: the setting `home`.
        once: whether to end once all is sent.
    """
    reader, writer = _streams()
    os.nice(max(_NICE - os.nice(0), 0))
    line = Line(reader, writer)
    relay = Relay(StdioSink(line), home, "stdio", store=PulledCursors(line))
    try:
        writer.write(MAGIC)
        writer.flush()
        while not (once and relay.is_done()):
            if _has_hung_up(reader, relay.turn()):
                break
    except (PullerLeft, BrokenPipeError):
        pass
    finally:
        _close(relay)
    return 0


def _streams() -> tuple[IO[bytes], IO[bytes]]:
    """Take standard output for frames alone: whatever else prints goes to standard error."""
    mine = os.dup(1)
    os.dup2(2, 1)
    return sys.stdin.buffer, os.fdopen(mine, "wb")


def _has_hung_up(reader: IO[bytes], pause: float) -> bool:
    # Nothing is said to a relay that has not asked, so what can be read now is the end.
    return bool(select.select([reader], [], [], pause)[0])


def _close(relay: Relay) -> None:
    try:
        relay.close()
    except PullerLeft:  # the cursors are as old as the last time they were kept
        return


class Source(NamedTuple):
    """Where to pull from.

    Attributes:
        name: for people, and for the folder of cursors.
        command: starts the relay of the other side, its standard streams being ours; made anew
            for each connection.
        environment: of that command; None takes ours.
    """

    name: str
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] | None = None


class Pulling:
    """Pulls the events of runs from another machine to a sink here, and dials again after drops.

    Args:
        source: where from.
        sink: where to.
        home: the setting `home` of this side, where the cursors are kept.
        say: prints a line.
    """

    def __init__(
        self, source: Source, sink: Configured, home: str, say: Callable[[str], None]
    ) -> None:
        self._source, self._sink, self._home, self._say = source, sink, home, say
        self._words: deque[str] = deque(maxlen=_KEPT_WORDS)
        self.ends = Event()
        self.lines = 0

    def run(self, *, once: bool) -> int:
        """Pull until told to end, or with `once` until all is there; return the exit status.

        Raises:
            HpcFlowsError, OSError: it cannot even begin. What has worked before is tried again.
        """
        backoff = Backoff(longest=_LONGEST_PAUSE)
        has_begun = False
        while not self.ends.is_set():
            began = time.monotonic()
            try:
                problem = self._pull()
            except (HpcFlowsError, OSError) as error:  # such as a server here that is restarted
                if not has_begun:
                    raise
                problem = str(error)
            has_begun = True
            if once:
                self._say(f"{self._source.name}: {self.lines} events taken. {problem}".rstrip())
                return 1 if problem else 0
            if time.monotonic() - began > _STOOD:
                backoff.succeeded()
            pause = backoff.failed()
            self._say(f"{self._source.name}: {problem or 'it has ended.'} Again in {pause:.0f} s.")
            self.ends.wait(pause)
        return 0

    def _pull(self) -> str:
        """Pull over one connection until it ends; return what was wrong, or an empty text."""
        sink = self._sink.open()
        try:
            return self._pull_into(sink)
        finally:
            sink.close()

    def _pull_into(self, sink: Sink) -> str:
        puller = Puller(sink, self._cursors)
        child = subprocess.Popen(
            list(self._source.command()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if self._source.environment is None else dict(self._source.environment),
            start_new_session=True,
        )
        if child.stdin is None or child.stdout is None or child.stderr is None:
            raise FrameError("The command has no streams.")  # Popen gives what was asked for
        listener = Thread(target=self._listen, args=(child.stderr,), daemon=True)
        listener.start()
        problem = ""
        try:
            puller.serve(child.stdout, child.stdin)
        except (FrameError, OSError) as error:
            problem = str(error)
        finally:
            self.lines += puller.lines
            status = _ended(child)
            listener.join(_LEAVES_WITHIN)
        return self._told(problem, status)

    def _cursors(self, store: str) -> CursorFolder:
        digest = blake2b(self._source.name.encode(), digest_size=8).hexdigest()
        return CursorFolder(os.path.join(self._home, "relay", store, f"pull-{digest}"))

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                self._words.append(raw.decode("utf-8", "replace").rstrip())

    def _told(self, problem: str, status: int) -> str:
        if not problem and status == 0:
            return ""
        words = " ".join(self._words).strip()[-1000:]
        self._words.clear()
        said = f" It said: {words}" if words else ""
        return f"{problem or f'The command ended with status {status}.'}{said}"


def _ended(child: subprocess.Popen[bytes]) -> int:
    """End a command by hanging up, then by signals; return its status."""
    for stream in (child.stdin, child.stdout):
        try:
            if stream is not None:
                stream.close()
        except OSError:
            continue
    for end in (child.terminate, child.kill):
        try:
            return child.wait(_LEAVES_WITHIN)
        except subprocess.TimeoutExpired:
            end()
    return child.wait()
