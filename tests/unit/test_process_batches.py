"""Short calls go to worker processes several at once, and each is run once all the same."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import CrashedRun
from hpc_flows.futures import wait
from hpc_flows.task_runners import ProcessPoolTaskRunner, process_handler
from hpc_flows.task_runners.batches import Batch, Claims, Tokens
from hpc_flows.task_runners.frames import Receiver, send

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MANY = 300
#: Bytes of an answer that does not come at once.
LONG = 100_000


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Return a folder for the marks of calls."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@task
def marked(number: int, folder: str) -> int:
    """Leave a mark of each time that it is called."""
    with open(f"{folder}/{number}", "a") as file:
        file.write("x")
    return number


def test_each_of_many_short_calls_runs_once_and_gets_its_own_value(marks: Path) -> None:
    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def main() -> list[int]:
        futures = [marked.submit(number, str(marks)) for number in range(MANY)]
        return [future.result() for future in futures]

    assert main() == list(range(MANY))
    assert {path.read_text() for path in marks.iterdir()} == {"x"}


def test_short_calls_do_not_wait_behind_a_long_one(tmp_path: Path) -> None:
    release = tmp_path / "release"

    @task
    def work(number: int) -> int:
        while number == MANY // 2 and not release.exists():
            time.sleep(0.01)
        return number

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def main() -> list[int]:
        futures = work.map(range(MANY))
        others = [future for number, future in enumerate(futures) if number != MANY // 2]
        assert len(wait(others, 60).not_done) == 0
        release.touch()
        return futures.result()

    assert main() == list(range(MANY))


def _answer_slowly() -> None:
    """Have this process stop for a moment within each long answer, as on a machine with no time."""
    from hpc_flows.task_runners import process_worker

    def send_slowly(channel: socket.socket, parts: Sequence[bytes]) -> None:
        read, written = socket.socketpair()
        with read, written:
            sender = threading.Thread(target=send, args=(written, parts))
            sender.start()
            size = 8 * (1 + len(parts)) + sum(map(len, parts))
            while size:
                piece = read.recv(min(size, LONG))
                channel.sendall(piece)
                size -= len(piece)
                if size:
                    time.sleep(0.01)
            sender.join()

    process_worker.send = send_slowly


def test_an_answer_that_comes_in_pieces_is_not_taken_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_handler, "_QUICK", 1e9)  # so that they are sent several at once

    @task
    def zeros(size: int) -> bytes:
        return bytes(size)

    sizes = [1, 3 * LONG, 2, 5 * LONG, 3] * 4

    @flow(task_runner=ProcessPoolTaskRunner(1, initializer=_answer_slowly))
    def main() -> list[bytes]:
        return zeros.map(sizes).result()

    assert main() == [bytes(size) for size in sizes]


def test_a_long_message_is_not_held_to_the_time_limit_of_an_earlier_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_handler, "_QUICK", 1e9)

    @task(timeout_seconds=60)
    def limited() -> int:
        return os.getpid()

    @task
    def size_of(data: bytes) -> int:
        return len(data)

    limits = []
    send_it = process_handler.send

    def noting(channel: socket.socket, parts: Sequence[bytes]) -> None:
        limits.append((len(parts), channel.gettimeout()))
        send_it(channel, parts)

    monkeypatch.setattr(process_handler, "send", noting)

    @flow(task_runner=ProcessPoolTaskRunner(1))
    def main() -> list[int]:
        limited.submit().result()
        return size_of.map([bytes(LONG)] * 3).result()

    assert main() == [LONG] * 3
    assert limits[1:] == [(3, 60.0), *((parts, None) for parts, _ in limits[2:])]
    assert len(limits) > 2


def test_only_the_call_that_killed_its_process_is_lost(marks: Path) -> None:
    deadly = MANY // 2

    @task
    def work(number: int) -> int:
        if number == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        marked.fn(number, str(marks))
        return number

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def main() -> Any:
        futures = work.map(range(MANY))
        return [future.result(raise_on_failure=False) for future in futures]

    found = main()
    assert isinstance(found[deadly], CrashedRun)
    assert "SIGKILL" in str(found[deadly])
    assert [value for value in found if value != found[deadly]] == [
        number for number in range(MANY) if number != deadly
    ]
    assert {path.read_text() for path in marks.iterdir()} == {"x"}


def test_a_call_that_was_sent_and_is_cancelled_before_its_turn_never_runs(
    tmp_path: Path, marks: Path
) -> None:
    begun, release = tmp_path / "begun", tmp_path / "release"

    @task
    def work(number: int) -> int:
        if number >= MANY // 2 and not begun.exists():
            (tmp_path / "which").write_text(str(number))
            begun.touch()
            while not release.exists():
                time.sleep(0.01)
        return marked.fn(number, str(marks))

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def main() -> None:
        futures = work.map(range(MANY))
        while not begun.exists():
            time.sleep(0.01)
        # Calls that a slow worker had not come to are put back behind the others.
        kept = {int(path.name) for path in marks.iterdir()}
        kept.add(int((tmp_path / "which").read_text()))
        later = [call for call in _calls(futures) if call.args[0] not in kept]
        assert len(later) > MANY // 3
        later[0].runner.cancel(later, "not wanted any more")
        release.touch()
        futures.wait()
        names = {number: future.state.name for number, future in enumerate(futures)}
        assert names == {n: "Completed" if n in kept else "Cancelled" for n in range(MANY)}
        assert {int(path.name) for path in marks.iterdir()} == kept

    main()


def _calls(futures: Any) -> list[Any]:
    from hpc_flows.context import current

    context = current()
    assert context is not None
    known = context.submitted.calls
    return [known[future.task_run_id] for future in futures if future.task_run_id in known]


def test_a_token_belongs_to_the_worker_or_to_the_flow_and_never_to_both() -> None:
    tokens = Tokens()
    claims = Claims(tokens.reader)
    taken: list[int] = []
    returned: list[int] = []
    stop = threading.Event()

    def take_back() -> None:
        while not stop.is_set():
            returned.extend(tokens.take_back())

    thread = threading.Thread(target=take_back)
    thread.start()
    for _ in range(200):
        tokens.offer(10)
        taken.extend(claims.of_next_message())
    stop.set()
    thread.join()
    returned.extend(tokens.take_back())
    tokens.close()
    assert len(taken) + len(returned) == 2000
    assert sorted(taken + returned) == sorted(list(range(10)) * 200)


def test_tokens_of_the_next_message_wait_for_it() -> None:
    tokens = Tokens()
    claims = Claims(tokens.reader)
    tokens.offer(2)
    first = claims.of_next_message()
    assert next(first) == 0
    assert next(first) == 1
    tokens.offer(1)
    assert list(first) == []
    assert list(claims.of_next_message()) == [0]
    tokens.close()


def test_the_call_that_runs_is_not_given_to_others() -> None:
    entries: Any = [("a", 0), ("b", 0), ("c", 0)]
    batch = Batch(entries)
    assert batch.current() == ("a", 0)
    assert batch.give_back(bytes([0, 2])) == [("c", 0)]
    assert batch.current() == ("a", 0)
    batch.advance()
    assert batch.current() == ("b", 0)
    assert not batch.has_more()
    batch.advance()
    assert batch.current() is None


@pytest.mark.parametrize("sizes", [[0], [10, 100_000], [70_000, 0, 1]])
def test_messages_arrive_as_they_were_sent(sizes: list[int]) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        message = [os.urandom(size) for size in sizes]
        sender = threading.Thread(target=lambda: [send(ours, message) for _ in range(20)])
        sender.start()
        receiver = Receiver(theirs)
        for _ in range(20):
            assert receiver.receive() == message
        sender.join()
        assert receiver.is_empty()
