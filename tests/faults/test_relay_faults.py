"""Whatever goes wrong between journals and a server, in the end the server has every event once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from relay_doubles import Failure, FakeServer, Journal, has_all, relay_to, turn_until

from hpc_flows.cli.relay import relay as relay_commands
from hpc_flows.client.requests import Client
from hpc_flows.reporting.relay import Relay
from hpc_flows.reporting.server_sink import ServerSink

ROOT = Path(__file__).resolve().parents[2]


def test_everything_arrives_once_when_nothing_goes_wrong(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(1200)
    journal.write(700, "hf-00000000-00000000-0-0")
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    assert fake.lines == len(journal.lines()) == 1900
    assert fake.about[journal.run]["name"] == "made-up"
    assert fake.about[journal.run]["user"]
    relay.close()


def test_a_server_that_was_down_for_long_gets_everything_later(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    fake.stop()
    journal.write(300)
    relay = relay_to(fake, home)
    for _ in range(5):
        relay.turn()
        relay.try_now()
    assert "does not answer" in relay.trouble
    journal.write(300)
    fake.start()
    turn_until(relay, has_all(fake, journal))
    assert fake.lines == 600
    assert relay.trouble == ""
    relay.close()


def test_status_tells_what_has_come_to_wait_since_the_server_is_away(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(10)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    sent = _size(journal)
    fake.failures = [Failure("", 0, times=10**6)]
    journal.write(500)
    other = Journal(home, "run-0002")
    other.write(300)
    turn_until(relay, lambda: bool(relay.trouble))
    assert relay.turn() < 20  # it keeps on telling, however long the pause is
    waits = _size(journal) + _size(other) - sent
    assert relay.facts()["unsent"] == waits
    relay.tell()
    shown = CliRunner().invoke(relay_commands, ["status"]).output
    assert f"10 events sent, {waits} bytes to send" in shown
    relay.close()
    other.close()


def test_status_says_that_it_does_not_know_what_a_server_has_that_never_answered(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    fake.stop()
    journal.write(10)
    relay = relay_to(fake, home)
    relay.turn()
    shown = CliRunner().invoke(relay_commands, ["status"]).output
    assert "how much is to be sent is not known before the first answer" in shown
    assert "Connection refused" in shown
    relay.close()


def _size(journal: Journal) -> int:
    return sum(path.stat().st_size for path in Path(journal.folder, "journal").iterdir())


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_patience_is_left_alone_for_as_long(
    status: int, fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(10)
    wait = Failure("events", status, headers={"Retry-After": "1"})
    fake.failures = [wait]
    relay = relay_to(fake, home)
    relay.turn()
    began = time.monotonic()
    assert wait.used == 1
    turn_until(relay, has_all(fake, journal), patient=True)
    assert time.monotonic() - began >= 1.0
    relay.close()


def test_a_server_with_errors_of_its_own_gets_it_again(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(100)
    broken = Failure("events", 500, times=2)
    fake.failures = [broken]
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    assert broken.used == 2
    relay.close()


def test_a_line_on_which_the_server_stumbles_keeps_no_other_line_back(
    fake: FakeServer, journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(40)
    journal.write(1, text="poison")
    journal.write(40)
    poison = Failure("events", 500, times=10**6, when=lambda body: b"poison" in _unpacked(body))
    fake.failures = [poison]
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 80)
    monkeypatch.setattr("hpc_flows.reporting.feed._PARKED_AGAIN", 0.0)
    fake.failures = []
    journal.write(1)
    turn_until(relay, has_all(fake, journal))
    relay.close()


def test_lines_on_which_a_server_stumbled_arrive_though_their_run_has_ended(
    fake: FakeServer, journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc_flows.reporting.feed._STUMBLES", 1)
    for _ in range(3):
        journal.write(5)
        journal.write(1, text="poison")
    journal.end()
    poison = Failure("events", 500, times=10**6, when=lambda body: b"poison" in _unpacked(body))
    fake.failures = [poison]
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 16)
    turn_until(relay, lambda: not relay.trouble)
    assert not relay.is_done()
    assert relay.facts()["unsent"] > 0
    relay.close()
    fake.failures = []
    again = relay_to(fake, home)
    turn_until(again, again.is_done)
    assert fake.held(journal.run) == journal.lines()
    again.close()


def _unpacked(body: bytes) -> bytes:
    import zlib

    return zlib.decompress(body, 31) if body[:2] == b"\x1f\x8b" else body


def test_a_batch_that_is_too_large_is_sent_in_parts(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(200)
    fake.most_lines = 30
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    relay.close()


def test_a_single_line_that_is_too_large_is_passed_over_and_counted(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(3)
    journal.write(1, text="x" * 30_000)
    journal.write(3)
    fake.failures = [
        Failure("events", 413, times=10**6, when=lambda body: b"x" * 100 in _unpacked(body))
    ]
    relay = relay_to(fake, home)
    turn_until(relay, lambda: len(fake.held(journal.run)) == 6 and relay.is_done())
    assert relay.facts()["refused"] == 1
    relay.close()


def test_a_connection_that_is_cut_in_the_middle_of_a_request_loses_nothing(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(1500)
    cut = Failure("events|heartbeat|hello", 0, times=4)
    fake.failures = [cut]
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    assert cut.used == 4
    relay.close()


def test_an_answer_that_is_lost_after_the_commit_doubles_nothing(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(900)
    lost = Failure("events", 0, after=True, times=2)
    fake.failures = [lost]
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    assert lost.used == 2
    assert fake.lines > 900  # some came twice
    relay.close()


def test_a_server_that_was_put_back_to_an_older_copy_gets_what_it_lacks(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(600)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    backup = fake.copy()
    journal.write(600)
    journal.write(50, "hf-00000000-00000000-0-0")
    turn_until(relay, has_all(fake, journal))
    fake.stop()
    fake.restore(backup)
    fake.epoch = "e2"
    fake.start()
    turn_until(relay, has_all(fake, journal))
    relay.close()


def test_a_copy_that_was_put_back_under_a_running_server_is_noticed_with_the_next_events(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(600)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    backup = fake.copy()
    journal.write(400)
    turn_until(relay, has_all(fake, journal))
    fake.restore(backup)  # the epoch stays as it was
    journal.write(500)  # more than were lost, so that the number alone looks right
    turn_until(relay, has_all(fake, journal))
    relay.close()


def test_a_server_that_has_forgotten_the_run_is_told_everything_anew(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(100)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    fake.restore({})
    journal.write(1)
    turn_until(relay, has_all(fake, journal))
    relay.close()


def test_a_new_epoch_is_noticed_though_nothing_new_is_to_be_sent(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(100)
    journal.end()
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    relay.close()
    fake.restart()
    fake.restore({})
    again = relay_to(fake, home)
    turn_until(again, has_all(fake, journal))
    again.close()


def _with_artifact(journal: Journal, name: str) -> None:
    """Write an artifact that is too large for its line."""
    folder = Path(journal.folder, "artifacts")
    folder.mkdir(exist_ok=True)
    (folder / name).write_text('"large"')
    file = f"runs/{journal.run}/artifacts/{name}"
    journal.writer().write("artifact", {"id": name, "file": file})


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("is_noticed_by", ["the epoch", "the next events", "the next attachment"])
def test_a_copy_that_lacks_only_attachments_gets_them_again(
    is_noticed_by: str, lost: int, fake: FakeServer, journal: Journal, home: Path
) -> None:
    names = [f"a-{number}" for number in range(lost)]
    fake.failures = [Failure("attachments", 503, times=10**6)]
    for name in names:
        _with_artifact(journal, name)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    backup = fake.copy()
    fake.failures = []
    wanted = {(journal.run, "artifact", name) for name in names}
    turn_until(relay, lambda: set(fake.attachments) == wanted)
    fake.restore(backup)
    assert not fake.attachments
    if is_noticed_by == "the epoch":
        fake.epoch = "e2"
    elif is_noticed_by == "the next events":
        journal.write(1)
    else:
        _with_artifact(journal, "late")
        wanted.add((journal.run, "artifact", "late"))
    turn_until(relay, lambda: set(fake.attachments) == wanted)
    turn_until(relay, has_all(fake, journal))
    relay.close()


def test_another_database_at_the_same_address_gets_everything(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(100)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    fake.stop()
    fake.restore({})
    fake.instance, fake.epoch = "i2", "e1"
    fake.start()
    journal.write(1)
    turn_until(relay, has_all(fake, journal))
    relay.close()


def test_a_run_that_was_deleted_on_the_server_is_left_alone(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(10)
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    fake.gone.add(journal.run)
    del fake.runs[journal.run]
    journal.write(10)
    turn_until(relay, lambda: fake.requests["POST /runs/*/events"] == 2)
    journal.write(10)
    for _ in range(40):
        relay.turn()
        time.sleep(0.02)
    assert fake.requests["POST /runs/*/events"] == 2
    assert relay.trouble == ""
    relay.close()


# kill -9 ------------------------------------------------------------------------------------------

_DRIVE = """
import sys, time
sys.path[:0] = [{tests!r}]
from relay_doubles import TOKEN
from hpc_flows.client.requests import Client
from hpc_flows.reporting.relay import Relay
from hpc_flows.reporting.server_sink import ServerSink
sink = ServerSink(lambda: Client({url!r}, TOKEN, timeout=60.0), "fake")
relay = Relay(sink, {home!r}, "login")
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and not (relay.is_done() and relay.roster.sent()):
    time.sleep(min(relay.turn(), 0.02))
relay.close()
"""


def _in_process(fake: FakeServer, home: Path, failpoint: str = "") -> int:
    code = _DRIVE.format(tests=str(ROOT / "tests"), url=fake.url, home=str(home))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPC_FLOWS_FAILPOINT": failpoint}
    return subprocess.run(
        [sys.executable, "-c", code, "120"], env=environment, timeout=170, check=False
    ).returncode


@pytest.mark.parametrize(
    "step",
    [
        "registered",
        "before-sending",
        "batch-sent",
        "batch-sent:2",
        "draft-written",
        "renamed",
        "compared",
    ],
)
def test_a_relay_that_is_killed_at_any_step_loses_and_doubles_nothing(
    step: str, fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(1300)
    if step == "compared":
        assert _in_process(fake, home) == 0
        fake.restart()
        fake.restore({})
    assert _in_process(fake, home, step) == -signal.SIGKILL
    journal.write(10)
    assert _in_process(fake, home) == 0
    assert fake.held(journal.run) == journal.lines()


# Who may report -----------------------------------------------------------------------------------


def test_two_relays_of_a_home_do_not_report_the_same_run_at_once(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(10)
    first, second = relay_to(fake, home), relay_to(fake, home)
    turn_until(first, has_all(fake, journal))
    journal.write(10)
    for _ in range(20):
        second.turn()
    assert fake.lines == 10
    assert "is reported by" in second.facts()["notes"][0]
    turn_until(first, has_all(fake, journal))
    first.close()
    journal.write(10)
    turn_until(second, has_all(fake, journal))  # takes over within seconds
    assert fake.lines == 30
    second.close()


def test_a_stranger_on_the_port_gets_neither_token_nor_events(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(10)
    stranger = FakeServer(token="hpcf_0123456789ab_" + "x" * 43).start()
    sink = ServerSink(lambda: Client(stranger.url, fake.token, timeout=60.0), "stranger")
    relay = Relay(sink, str(home), "login")
    relay.turn()
    assert "the key was not sent" in relay.trouble
    assert stranger.tokens_seen == []
    assert stranger.lines == 0
    relay.close()
    stranger.stop()


def test_a_revoked_token_is_told_and_asked_about_again_later(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(10)
    fake.failures = [Failure("runs|relays", 401, times=10**6)]
    relay = relay_to(fake, home)
    relay.turn()
    assert "401" in relay.trouble
    assert relay.turn() > 10
    fake.failures = []
    relay.try_now()
    turn_until(relay, has_all(fake, journal))
    relay.close()
