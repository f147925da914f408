"""Which runs a relay reports: its own only, all that wait, and none that is no run."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from relay_doubles import Failure, FakeServer, Journal, has_all, relay_to, turn_until

from hpc_flows.exceptions import LeaseError
from hpc_flows.journal.index import list_runs
from hpc_flows.leases import Lease, revoke
from hpc_flows.reporting import roster as roster_module
from hpc_flows.reporting.driver import why_not
from hpc_flows.reporting.file_sink import FileSink
from hpc_flows.reporting.relay import Relay
from hpc_flows.reporting.watching import has_open_jobs

if TYPE_CHECKING:
    from pathlib import Path


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_relay_that_was_stopped_for_long_leaves_its_run_to_who_has_taken_over(
    journal: Journal, home: Path
) -> None:
    """As after Ctrl-Z and fg: of two that report a run, each would write every event."""
    path = home / "events"
    stopped, other = (Relay(FileSink(str(path)), str(home), mode) for mode in ("driver", "login"))
    journal.write(5)
    turn_until(stopped, lambda: _lines(path) == 5)
    assert revoke(os.path.join(home, "relay", stopped.sink.store, "claims", journal.run, "lease"))
    turn_until(other, lambda: other.roster is not None and bool(other.roster.live()))
    assert stopped.roster is not None
    (watched,) = stopped.roster._all()
    assert watched.claim is not None
    assert not watched.claim.renew()  # as its thread does, once it goes on
    journal.write(5)
    turn_until(other, lambda: _lines(path) == 10)
    stopped.hurry()
    turn_until(stopped, lambda: bool(stopped.facts()["notes"]))
    assert "is reported by" in stopped.facts()["notes"][0]
    stopped.close()
    other.close()
    assert _lines(path) == 10


def test_a_claim_that_cannot_be_given_back_ends_by_its_time_and_hurts_nothing(
    fake: FakeServer, journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = relay_to(fake, home)
    journal.write(5)
    turn_until(relay, has_all(fake, journal))
    release = Lease.release

    def refused(lease: Lease, *, forget: bool = False) -> bool:
        release(lease, forget=forget)
        raise LeaseError("Read-only file system")

    monkeypatch.setattr(Lease, "release", refused)
    relay.close()
    assert not list((home / "relay" / "status").iterdir())


def test_a_run_that_cannot_be_claimed_is_not_taken_for_sent(
    journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: nobody reports it, which the end of its flow, and `relay once`, tell."""
    monkeypatch.setattr(roster_module, "_CLAIMED_AGAIN", 0.1)
    path = home / "events"
    journal.write(5)
    relay = Relay(FileSink(str(path)), str(home), "driver", only=journal.run)
    claims = home / "relay" / relay.sink.store / "claims"
    claims.parent.mkdir(parents=True)
    claims.write_text("no folder")
    turn_until(relay, lambda: bool(relay.facts()["notes"]))
    assert not relay.is_done()
    assert "cannot be used" in why_not(relay)
    claims.unlink()
    turn_until(relay, relay.is_done)
    assert _lines(path) == 5
    assert not why_not(relay)
    relay.close()


def test_a_folder_without_journals_is_waited_for_no_longer_than_it_takes_to_make_one(
    fake: FakeServer, journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "runs" / "half-made").mkdir()
    journal.write(5)
    journal.end()
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    assert not relay.is_done()
    monkeypatch.setattr(roster_module, "_MADE_WITHIN", 0.0)
    turn_until(relay, relay.is_done)
    assert relay.roster is not None
    assert relay.roster.is_quiet()
    relay.close()


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "old runs"])
def test_a_folder_of_somebody_else_among_the_runs_keeps_no_run_back(
    name: str, fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(5)
    (home / "runs" / name).mkdir()
    relay = relay_to(fake, home)
    turn_until(relay, has_all(fake, journal))
    turn_until(relay, relay.is_done)
    assert not relay.trouble
    late = Journal(home, "run-0002")
    late.write(5)
    turn_until(relay, has_all(fake, late), patient=True)
    assert [run.id for run in list_runs(str(home)) if run.id.startswith(".")] == []
    relay.close()
    late.close()


def test_jobs_of_a_run_whose_journals_were_purged_keep_no_relay_from_its_end(
    journal: Journal,
) -> None:
    journal.close()
    os.rmdir(os.path.join(journal.folder, "journal"))
    assert not has_open_jobs(journal.folder)


def test_a_relay_is_not_idle_while_a_run_waits_for_a_server_that_is_away(
    fake: FakeServer, journal: Journal, home: Path
) -> None:
    journal.write(5)
    journal.end()
    relay = relay_to(fake, home)
    turn_until(relay, relay.is_done)
    assert relay.roster is not None
    assert relay.roster.is_quiet()
    fake.failures = [Failure("", 0, times=10**6)]
    relay._last_beat = float("-inf")
    turn_until(relay, lambda: bool(relay.trouble))
    late = Journal(home, "run-0002")
    late.write(5)
    late.end()
    relay.roster.measure(until=time.monotonic() + 150)
    assert not relay.roster.is_quiet()
    fake.failures = []
    turn_until(relay, has_all(fake, late))
    turn_until(relay, relay.roster.is_quiet)
    relay.close()
