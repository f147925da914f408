"""Pulling goes on after whatever has kept it from dialling again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hpc_flows.client.errors import NoServer
from hpc_flows.reporting import dialling_in
from hpc_flows.reporting.dialling_in import Pulling, Source
from hpc_flows.reporting.file_sink import FileSink
from hpc_flows.reporting.frames import Frame, FrameError
from hpc_flows.reporting.opening import Configured
from hpc_flows.reporting.pulling import Puller

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Closed(FileSink):
    """A file that counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_server_that_is_away_when_a_pull_dials_again_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling_in, "_LONGEST_PAUSE", 0.01)
    said: list[str] = []
    sink = Closed(str(tmp_path / "events"))
    opened: list[int] = []

    def command() -> Sequence[str]:
        if len(opened) == 3:
            raise NoServer("no ssh either")
        return ["false"]

    def open_sink() -> FileSink:
        opened.append(1)
        if len(opened) == 2:
            raise NoServer("none runs here")
        if len(opened) == 4:
            pulling.ends.set()
        return sink

    source = Source("there", command)
    pulling = Pulling(source, Configured("file", open_sink), str(tmp_path), said.append)
    assert pulling.run(once=False) == 0
    assert any("none runs here Again in" in line for line in said)
    assert any("no ssh either Again in" in line for line in said)
    assert sink.closed == 3


def test_a_pull_that_cannot_even_begin_is_an_error(tmp_path: Path) -> None:
    def none() -> FileSink:
        raise NoServer("none runs here")

    pulling = Pulling(
        Source("there", lambda: ["false"]), Configured("x", none), str(tmp_path), print
    )
    with pytest.raises(NoServer):
        pulling.run(once=False)


@pytest.mark.parametrize(
    "head",
    [{"call": "save", "cursor": 7}, {"call": "beat", "facts": 7}, {"call": "compare", "held": 7}],
)
def test_calls_of_another_side_that_make_no_sense_end_the_line_and_not_the_puller(
    head: dict[str, object], tmp_path: Path
) -> None:
    class Counts(FileSink):
        def compare(self, held, versions):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as its parent's
            return {run: dict(each) for run, each in held.items()}, versions

    puller = Puller(Counts(str(tmp_path / "events")), None)
    with pytest.raises(FrameError):
        puller._carried_out(Frame(head, b""))
