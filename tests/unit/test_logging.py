"""Log records of runs reach the console and the journal, through the standard library or not."""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, get_run_logger, task
from hpc_flows.artifacts import create_markdown_artifact, store
from hpc_flows.exceptions import MissingContextError
from hpc_flows.journal.reader import read_run
from hpc_flows.logging import (
    LogEavesdropper,
    disable_run_logger,
    flow_run_logger,
    get_logger,
    task_run_logger,
)
from hpc_flows.logging.loggers import RunLogger
from hpc_flows.runs import FlowRun, TaskRun

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


def test_run_loggers_can_be_silenced(
    home: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    @task
    def work() -> int:
        get_run_logger().warning("said by the task")
        return 1

    @flow
    def main() -> int:
        return work()

    with disable_run_logger():
        assert work.fn() == 1
        assert main() == 1
    assert _logs(home) == []
    assert "said by" not in capsys.readouterr().err + caplog.text
    assert main() == 1
    assert "said by the task" in capsys.readouterr().err


def test_pytests_caplog_sees_what_runs_log(caplog: pytest.LogCaptureFixture) -> None:
    @flow(log_prints=True)
    def main() -> None:
        get_run_logger().info("logged")
        print("printed")  # noqa: T201 - prints are what is tested

    main()
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("logged") == 1
    assert messages.count("printed") == 1


def test_other_loggers_are_part_of_runs_where_the_setting_names_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_LOGGING_EXTRA_LOGGERS", "extra_one, extra_two")

    @flow
    def main() -> None:
        logging.getLogger("extra_one.below").info("one")
        logging.getLogger("extra_two").info("two")
        logging.getLogger("another").info("not asked for")

    main()
    messages = [log["message"] for log in _logs(home)]
    assert "one" in messages
    assert "two" in messages
    assert "not asked for" not in messages


def test_what_a_record_says_of_itself_is_added_to_what_its_logger_knows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @flow(flow_run_name="f", name="flow-of-f")
    def main() -> None:
        logger = get_run_logger(site="here")
        assert isinstance(logger, RunLogger)
        logger.getChild("part", {"step": 2}).info("said", extra={"more": 3})

    main()
    (record,) = [record for record in caplog.records if record.getMessage() == "said"]
    facts = {name: getattr(record, name) for name in ("flow_run_name", "flow_name", "site")}
    assert facts == {"flow_run_name": "f", "flow_name": "flow-of-f", "site": "here"}
    assert (record.__dict__["step"], record.__dict__["more"]) == (2, 3)
    assert record.name == "hpc_flows.flow_runs.part"


def test_loggers_can_be_made_for_given_runs() -> None:
    flow_run, task_run = FlowRun("a-flow", "f"), TaskRun("a-task", "key", "t")
    of_flow = flow_run_logger(flow_run, more=1).extra
    of_task = task_run_logger(task_run, flow_run=flow_run).extra
    assert of_flow is not None
    assert of_task is not None
    assert (of_flow["flow_run_id"], of_flow["flow_name"]) == (flow_run.id, "a-flow")
    assert of_flow["more"] == 1
    assert (of_task["task_run_name"], of_task["task_name"]) == ("t", "a-task")
    assert of_task["flow_run_name"] == "f"


def test_a_logger_can_be_listened_to() -> None:
    with LogEavesdropper("overheard", logging.WARNING) as listening:
        logging.getLogger("overheard.child").warning("first")
        logging.getLogger("overheard").info("too quiet")
        logging.getLogger("overheard").error("second")
    assert listening.text() == "[WARNING]: first\n[ERROR]: second"


def _say() -> None:
    get_run_logger().info("by a child's logger")
    print("by a child")  # noqa: T201 - prints are what is tested
    create_markdown_artifact("by a child", key="of-a-child")


def test_what_forked_children_log_is_part_of_the_run(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @flow(log_prints=True)
    def main() -> int | None:
        child = multiprocessing.get_context("fork").Process(target=_say)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads
            child.start()
        child.join()
        get_run_logger().info("by the parent")
        return child.exitcode

    assert main() == 0
    messages = [log["message"] for log in _logs(home)]
    for message in ("by a child's logger", "by a child", "by the parent"):
        assert messages.count(message) == 1
    assert "No space" not in capsys.readouterr().err
    (folder,) = (home / "runs").iterdir()
    assert [each.key for each in store.of_run(str(home), str(folder))] == ["of-a-child"]
