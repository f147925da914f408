"""Export: all of a run that there is, or an error; never a part that looks like all."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from relay_doubles import FakeServer, Journal, has_all, server_sink

from hpc_flows.exceptions import JournalError
from hpc_flows.journal.event import header, seal
from hpc_flows.reporting import feed as feed_module
from hpc_flows.reporting import tailing
from hpc_flows.reporting.carrying import export_run, import_run
from hpc_flows.reporting.feed import RunFeed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def journal(home: Path) -> Iterator[Journal]:
    made = Journal(home)
    yield made
    made.close()


def _file(journal: Journal) -> Path:
    return Path(journal.folder, "journal", "driver.jsonl")


def _late_line(journal: Journal) -> bytes:
    text = header(journal.run, "driver") + '77,"wall":9.0,"mono":9.0,"kind":"log","data":{}}'
    return seal(text.encode())


def _carry(home: Path, journal: Journal) -> None:
    """Export a run and import it, and see that all has come."""
    fake = FakeServer().start()
    sink = server_sink(fake)
    try:
        sink.open()
        stream = io.BytesIO()
        lines = export_run(str(home), journal.run, stream).lines
        stream.seek(0)
        assert import_run(stream, sink).lines == lines == len(journal.lines())
        assert has_all(fake, journal)()
    finally:
        sink.close()
        fake.stop()


def test_what_follows_a_hole_is_exported(
    journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS, or a power cut, leaves it in the middle of a journal."""
    monkeypatch.setattr(tailing, "HOLE_PATIENCE", 0.2)
    journal.write(5)
    with _file(journal).open("ab") as file:
        file.write(b"\0" * 300 + b"\n" + _late_line(journal) + b"torn")
    _carry(home, journal)


def test_a_run_whose_description_was_purged_is_exported(
    journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_FACTS_PATIENCE", 0.2)
    journal.write(5)
    os.unlink(os.path.join(journal.folder, "run.json"))
    _carry(home, journal)


def test_of_a_run_that_writes_without_end_is_exported_what_there_was(
    journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(1000)
    step = RunFeed.step

    def busy(feed: RunFeed) -> bool:
        journal.write(3)
        return step(feed)

    monkeypatch.setattr(RunFeed, "step", busy)
    assert 1000 <= export_run(str(home), journal.run, io.BytesIO()).lines < 1100


def test_a_run_that_is_purged_while_it_is_exported_is_an_error(
    journal: Journal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(1000)
    step = RunFeed.step

    def purged(feed: RunFeed) -> bool:
        more = step(feed)
        shutil.rmtree(journal.folder)
        return more

    monkeypatch.setattr(RunFeed, "step", purged)
    with pytest.raises(JournalError, match="is gone, or unreadable"):
        export_run(str(home), journal.run, io.BytesIO())
