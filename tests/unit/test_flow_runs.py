"""Waiting for flow runs that other processes drive."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow
from hpc_flows.exceptions import FlowRunWaitTimeout, MissingResult, UnfinishedRun, UnknownRun
from hpc_flows.flow_runs import wait_for_flow_run
from hpc_flows.journal import index

if TYPE_CHECKING:
    from pathlib import Path


def _id(home: Path) -> str:
    (folder,) = (home / "runs").iterdir()
    return folder.name


def test_a_run_that_has_ended_is_returned_at_once(home: Path) -> None:
    @flow(flow_run_name="mine")
    def main() -> int:
        return 3

    main()
    run = wait_for_flow_run(_id(home), timeout=0)
    assert (run.id, run.name, run.flow_name) == (_id(home), "mine", "main")
    assert run.state.is_completed()
    assert run.state.state_details.flow_run_id == run.id
    with pytest.raises(MissingResult, match="'mine' was returned to the process"):
        run.state.result()
    assert wait_for_flow_run("mine").id == run.id


def test_a_failure_is_told_by_its_message(home: Path) -> None:
    def main() -> None:
        raise ValueError("no")

    flow(main)(return_state=True)
    with pytest.raises(Exception, match="ValueError: no"):
        wait_for_flow_run(_id(home)).state.result()


def test_a_run_that_goes_on_is_waited_for(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun, gate = threading.Event(), threading.Event()

    @flow
    def main() -> None:
        begun.set()
        assert gate.wait(60)

    runner = threading.Thread(target=main)
    runner.start()
    assert begun.wait(60)
    run_id = _id(home)
    with pytest.raises(FlowRunWaitTimeout, match=r"time limit of 0\.05 seconds.*Running"):
        wait_for_flow_run(run_id, timeout=0.05, poll_interval=0.01)

    async def wait() -> Any:
        waiting = asyncio.create_task(_awaits(run_id))
        await asyncio.sleep(0.05)
        gate.set()
        return await waiting

    with caplog.at_level("INFO"):
        assert asyncio.run(wait()).state.is_completed()
    runner.join()
    assert "is in state Running" in caplog.text
    assert "is in state Completed" in caplog.text


async def _awaits(run_id: str) -> Any:
    return await wait_for_flow_run(run_id, poll_interval=0.01, log_states=True)


def test_a_run_whose_driver_has_died_is_not_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_is_alive", lambda *_: False)
    told: list[str] = []

    @flow
    def main() -> None:
        with pytest.raises(UnfinishedRun) as caught:
            wait_for_flow_run(_id(home))
        told.append(str(caught.value))

    main()
    assert "has died and left it in state Running" in told[0]


def test_an_unknown_run_is_refused() -> None:
    with pytest.raises(UnknownRun):
        wait_for_flow_run("nobody")
