"""Log records of runs reach the console and the journal, through the standard library or not."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, get_run_logger, task
from hpc_flows.exceptions import MissingContextError
from hpc_flows.journal.reader import read_run
from hpc_flows.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _logs(home: Path) -> list[dict[str, Any]]:
    (folder,) = (home / "runs").iterdir()
    return [event.data for event in read_run(str(folder)) if event.kind == "log"]


def test_what_a_task_logs_reaches_console_and_journal(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @task(task_run_name="t")
    def work() -> None:
        get_run_logger().warning("disk %d %%", 93)

    @flow(flow_run_name="f")
    def main() -> None:
        get_run_logger().info("starting")
        work()

    main()
    err = capsys.readouterr().err
    assert " | WARNING | Task run 't' - disk 93 %\n" in err
    assert " | INFO    | Flow run 'f' - starting\n" in err
    record = next(log for log in _logs(home) if log["message"] == "disk 93 %")
    assert (record["level"], record["logger"]) == ("WARNING", "hpc_flows.task_runs")
    assert record["task_run"] != record["flow_run"]


def test_an_exception_is_logged_with_its_traceback(home: Path) -> None:
    @flow
    def main() -> None:
        try:
            raise ValueError("inside")  # noqa: TRY301 - to have something to log
        except ValueError:
            get_run_logger().exception("it happened")

    main()
    (record,) = [log for log in _logs(home) if "it happened" in log["message"]]
    assert "ValueError: inside" in record["message"]


def test_the_run_logger_outside_of_runs_says_what_to_use() -> None:
    with pytest.raises(MissingContextError, match="get_logger"):
        get_run_logger()


def test_records_below_the_level_are_neither_shown_nor_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HPC_FLOWS_LOG_LEVEL", "WARNING")

    @flow
    def main() -> None:
        get_run_logger().info("quiet")
        get_run_logger().error("loud")

    main()
    assert [log["message"] for log in _logs(home)] == ["loud"]
    assert "quiet" not in capsys.readouterr().err


def test_loggers_of_the_users_below_ours_are_part_of_the_run(home: Path) -> None:
    @flow
    def main() -> None:
        get_logger("mine").info("hello")

    main()
    assert ("hello", "hpc_flows.mine") in [(r["message"], r["logger"]) for r in _logs(home)]


def test_prints_become_log_records_where_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @task
    def inherits() -> None:
        print("a", 1, sep="-")  # noqa: T201 - prints are what is tested

    @task(log_prints=False)
    def refuses() -> None:
        print("plain")  # noqa: T201 - prints are what is tested

    @flow(log_prints=True)
    def main() -> None:
        print("from the flow")  # noqa: T201 - prints are what is tested
        print("to a file", file=sys.stderr)  # noqa: T201 - prints are what is tested
        inherits()
        inherits.submit().wait()
        refuses()

    main()
    print("after")  # noqa: T201 - prints are what is tested
    out, err = capsys.readouterr()
    assert out == "plain\nafter\n"
    assert "\nto a file\n" in err
    messages = [log["message"] for log in _logs(home)]
    assert messages.count("a-1") == 2
    assert "from the flow" in messages
    assert "plain" not in messages


def test_prints_can_be_logged_by_a_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS_LOG_PRINTS", "true")
    task(lambda: print("said"))()  # noqa: T201 - prints are what is tested
    assert "said" in [log["message"] for log in _logs(home)]


@pytest.fixture
def handler() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    collect = Collect()
    logger = logging.getLogger("hpc_flows.task_runs")
    logger.addHandler(collect)
    yield records
    logger.removeHandler(collect)


def test_a_handler_of_the_users_gets_the_engines_records_too(
    home: Path, handler: list[logging.LogRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    task(name="work")(lambda: 1)()
    assert [record.getMessage() for record in handler] == ["Finished in state Completed()"]
    assert [log["message"] for log in _logs(home)] == ["Finished in state Completed()"]
    assert capsys.readouterr().err.count("Finished") == 1


def test_a_console_that_is_closed_does_not_end_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def write(self, _: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Broken())
    assert task(lambda: 4)() == 4


@pytest.mark.parametrize(("choice", "coloured"), [("always", True), ("auto", False)])
def test_colours_are_for_terminals_unless_asked_for(
    choice: str,
    coloured: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HPC_FLOWS_CONSOLE_COLOUR", choice)
    flow(lambda: get_run_logger().error("x"))()
    assert ("\x1b[31m" in capsys.readouterr().err) is coloured


def test_a_plain_flow_loads_no_logging(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from hpc_flows import flow, task\n"
        "@task\n"
        "def work(x): return x\n"
        "@flow\n"
        "def main(): return work(1)\n"
        "main()\n"
        "heavy = {'logging', 'threading', 'inspect', 'asyncio', 'typing', 'dataclasses'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, str(program)], check=True, timeout=60, capture_output=True)
