"""`get_client`: Prefect's client, asking a real server over HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from cli_runs import START, WrittenRun
from server_site import RUN, TASK_RUN, ServerSite, make_site

from hpc_flows import get_client
from hpc_flows.client import Api, NoServer, finding, orchestration
from hpc_flows.client.orchestration import PrefectClient, SyncPrefectClient
from hpc_flows.client.schemas import filters, objects, sorting
from hpc_flows.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterName,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterLevel,
    LogFilterTaskRunId,
    LogFilterTextSearch,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterName,
)
from hpc_flows.client.schemas.objects import SetStateStatus, StateType
from hpc_flows.client.schemas.sorting import FlowRunSort, LogSort, TaskRunSort
from hpc_flows.exceptions import MissingResult, ObjectNotFound, OptionValueError, UnknownRun
from hpc_flows.states import Cancelled, Cancelling, Paused, Running, Suspended

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Three small runs beside the census: id, flow, name, tags, how it ended.
OTHERS = [
    ("run-a", "zoo", "calm-cat", ["x", "y"], "COMPLETED"),
    ("run-b", "zoo", "bold-bat", ["x"], "FAILED"),
    ("run-c", "farm", "calm-cow", [], None),
]


class _Run(WrittenRun):
    """A run whose flow and tags the test chooses."""

    def __init__(self, home: Path, run_id: str, tags: list[str], **meta: Any) -> None:
        self._facts = {"flow": meta["flow"], "tags": tags, "parameters": {"n": "1"}}
        super().__init__(home, run_id, **meta)

    def write(self, at: float, kind: str, writer: str = "driver", **data: Any) -> None:
        more = self._facts if kind == "flow-run" else {}
        super().write(at, kind, writer, **(data | more))


def _lines(run: WrittenRun) -> bytes:
    return b"".join(path.read_bytes() for path in Path(run.folder, "journal").iterdir())


def _report(site: ServerSite, home: Path) -> None:
    for number, (id_, flow, name, tags, end) in enumerate(OTHERS):
        run = _Run(home, id_, tags, name=name, flow=flow)
        run.write(1, "log", level="INFO", logger="mine", message=f"at {name}", flow_run=id_)
        run.write(2, "log", level="ERROR", logger="mine", message="oh dear", flow_run=id_)
        if end:
            run.end(60 + number, end, end.capitalize())
        site.ask("ann", "PUT", f"/runs/{id_}", json={"host": "login1", "name": name, "flow": flow})
        assert site.send("ann", id_, _lines(run)).json()["taken"] > 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerSite, str]]:
    """Serve the census and three other runs of Ann's, and give the server's address."""
    folder = tmp_path_factory.mktemp("site")
    made = make_site(folder)
    made.report("ann", folder / "home")
    _report(made, folder / "home")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(made.app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    end = time.monotonic() + 120
    while not server.started:
        assert time.monotonic() < end, "the server does not start"
        time.sleep(0.01)
    yield made, f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    made.database.close()


@pytest.fixture
def client(
    site: tuple[ServerSite, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[SyncPrefectClient]:
    monkeypatch.setenv("HPC_FLOWS_API_URL", site[1])
    monkeypatch.setenv("HPC_FLOWS_API_KEY", site[0].tokens["ann"])
    with get_client(sync_client=True) as made:
        yield made


def names(runs: list[Any]) -> list[str]:
    return sorted(run.name for run in runs)


def test_without_a_server_it_is_told_how_to_have_one() -> None:
    with pytest.raises(NoServer, match="hpc-flows server start"):
        get_client()


def test_settings_of_another_library_are_refused_not_ignored(client: SyncPrefectClient) -> None:
    assert isinstance(client, SyncPrefectClient)
    with pytest.raises(OptionValueError, match="api_url"):
        get_client(httpx_settings={"timeout": 3})  # type: ignore[call-overload]  # it is wrong


def test_the_server_says_who_it_is(client: SyncPrefectClient) -> None:
    assert client.api_healthcheck() is None
    assert client.hello()["user"] == "ann"
    assert client.api_version() == client.client_version()
    assert client.api_url.startswith("http://127.0.0.1:")


def test_a_server_that_does_not_answer_is_an_error_to_look_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HPC_FLOWS_API_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    at_once = {"patience": 0.0, "timeout": 30.0}
    monkeypatch.setattr(finding.open_client, "__kwdefaults__", at_once)
    with get_client(sync_client=True) as client:
        assert "127.0.0.1" in str(client.api_healthcheck())


def test_a_flow_run_has_the_attributes_that_prefect_users_read(client: SyncPrefectClient) -> None:
    run = client.read_flow_run("run-b")
    assert (run.id, run.name, run.flow_name) == ("run-b", "bold-bat", "zoo")
    assert (run.state_type, run.state_name, run.tags) == (StateType.FAILED, "Failed", ["x"])
    assert run.state.is_failed()
    assert run.parameters == {"n": "1"}
    assert run.end_time == datetime.fromtimestamp(START + 61, UTC)
    assert run.start_time is not None
    assert run.total_run_time == run.end_time - run.start_time == timedelta(seconds=61)
    assert (run.parent_flow_run_id, run.deployment_id, run.root_id) == (None, None, "run-b")
    assert run.raw["host"] == "login1"
    with pytest.raises(AttributeError, match="flow_name"):
        _ = run.flow_id
    with pytest.raises(AttributeError, match="Did you mean 'tags'"):
        _ = run.tag


def test_the_value_of_a_run_is_not_on_the_server_and_that_is_said(
    client: SyncPrefectClient,
) -> None:
    state = client.read_flow_run("run-a").state
    assert state.is_completed()
    with pytest.raises(MissingResult, match="not told the value"):
        state.result()


def test_what_is_not_there_is_not_found(client: SyncPrefectClient) -> None:
    with pytest.raises(ObjectNotFound, match="There is no flow run"):
        client.read_flow_run(uuid.uuid4())
    with pytest.raises(UnknownRun):
        client.read_task_run("nothing")


ALL = ["bold-bat", "calm-cat", "calm-cow", "merry-fox"]
A_MINUTE = datetime.fromtimestamp(START + 61, UTC)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ALL),
        ({"state": {"type": {"any_": ["FAILED"]}}}, ["bold-bat"]),
        (
            FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED]))
            ),
            ["calm-cat"],
        ),
        ({"state": {"type": {"not_any_": ["FAILED", "COMPLETED"]}}}, ["calm-cow", "merry-fox"]),
        ({"state": {"name": {"any_": ["Failed"]}}}, ["bold-bat"]),
        (FlowRunFilter(name=FlowRunFilterName(like_="CALM")), ["calm-cat", "calm-cow"]),
        ({"name": {"any_": ["calm-cat", "bold-bat"]}}, ["bold-bat", "calm-cat"]),
        ({"name": {"any_": ["calm"]}}, []),
        ({"name": {"any_": []}}, []),
        (FlowRunFilter(tags=FlowRunFilterTags(all_=["x", "y"])), ["calm-cat"]),
        ({"tags": {"any_": ["x", "z"]}}, ["bold-bat", "calm-cat"]),
        ({"tags": {"is_null_": True}}, ["calm-cow", "merry-fox"]),
        ({"id": {"any_": ["run-a", "gone"]}}, ["calm-cat"]),
        ({"id": {"not_any_": ["run-a"]}}, ["bold-bat", "calm-cow", "merry-fox"]),
        ({"end_time": {"after_": A_MINUTE}}, ["bold-bat"]),
        ({"end_time": {"is_null_": True}}, ["calm-cow", "merry-fox"]),
        (FlowRunFilter(start_time=FlowRunFilterStartTime(before_="1970-01-01")), []),
        (
            FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_="2020-01-01")),
            ALL,
        ),
        (FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=["run-a"])), []),
        (
            {"operator": "or_", "tags": {"all_": ["y"]}, "name": {"any_": ["bold-bat"]}},
            ["bold-bat", "calm-cat"],
        ),
    ],
    ids=str,
)
def test_flow_runs_are_found_by_what_a_filter_says(
    client: SyncPrefectClient, chosen: Any, expected: list[str]
) -> None:
    assert names(client.read_flow_runs(flow_run_filter=chosen)) == expected


def test_flow_runs_are_found_by_their_flow(client: SyncPrefectClient) -> None:
    chosen = FlowFilter(name=FlowFilterName(any_=["zoo"]))
    assert names(client.read_flow_runs(flow_filter=chosen)) == ["bold-bat", "calm-cat"]
    assert client.count_flow_runs(flow_filter={"name": {"like_": "FAR"}}) == 1


def test_runs_come_in_the_order_and_the_part_that_is_asked_for(client: SyncPrefectClient) -> None:
    zoo: dict[str, Any] = {"flow_filter": {"name": {"any_": ["zoo", "farm"]}}}
    ordered = client.read_flow_runs(sort=FlowRunSort.NAME_ASC, **zoo)
    assert [run.name for run in ordered] == ["bold-bat", "calm-cat", "calm-cow"]
    part = client.read_flow_runs(sort="NAME_DESC", limit=1, offset=1, **zoo)
    assert [run.name for run in part] == ["calm-cat"]
    assert client.read_flow_runs(limit=0) == []
    by_id = client.read_flow_runs(
        flow_run_filter={"id": {"any_": ["run-c", "run-a", "run-b"]}}, sort="END_TIME_DESC"
    )
    assert [run.id for run in by_id] == ["run-b", "run-a", "run-c"]


def test_a_run_that_slips_onto_the_next_page_is_given_once(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slipping(_: Any, path: str, **__: Any) -> Iterator[dict[str, Any]]:
        kind = {"/flow-runs": "flow", "/task-runs": "task"}[path]
        return iter([{"id": id_, "name": f"{kind} {id_}"} for id_ in ("a", "b", "b", "c")])

    monkeypatch.setattr(Api, "every", slipping)
    assert names(client.read_flow_runs()) == ["flow a", "flow b", "flow c"]
    assert names(client.read_task_runs()) == ["task a", "task b", "task c"]
    assert client.count_flow_runs() == 3


def test_task_runs_are_found_with_their_jobs(client: SyncPrefectClient) -> None:
    run = client.read_task_run(TASK_RUN)
    assert (run.id, run.task_name, run.flow_run_id) == (TASK_RUN, "measure", RUN)
    assert run.map_index == 0
    assert run.job_id is not None
    of_run = TaskRunFilter(
        flow_run_id=TaskRunFilterFlowRunId(any_=[RUN]), name=TaskRunFilterName(like_="measure")
    )
    found = client.read_task_runs(task_run_filter=of_run, sort=TaskRunSort.NAME_ASC)
    assert [each.name for each in found] == ["measure-0", "measure-1"]
    assert names(client.read_task_runs(flow_run_filter={"id": {"any_": [RUN]}})) == names(
        client.read_task_runs()
    )
    assert client.read_task_runs(flow_filter={"name": {"any_": ["zoo"]}}) == []
    assert client.read_task_runs(task_run_filter={"id": {"any_": ["gone"]}}) == []


def test_the_states_that_a_run_went_through_are_told(client: SyncPrefectClient) -> None:
    assert [state.name for state in client.read_flow_run_states("run-a")][-1] == "Completed"
    assert client.read_task_run_states(TASK_RUN)[0].is_pending()


def test_log_records_are_found_by_what_a_filter_says(client: SyncPrefectClient) -> None:
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=["run-a"]))
    first, second = client.read_logs(of_run)
    assert (first.message, first.level, first.name) == ("at calm-cat", 20, "mine")
    assert first.timestamp == datetime.fromtimestamp(START + 1, UTC)
    assert (first.flow_run_id, first.task_run_id) == ("run-a", None)
    assert client.read_logs(of_run, sort=LogSort.TIMESTAMP_DESC) == [second, first]
    assert client.read_logs(of_run, limit=1, offset=1) == [second]
    both = {"flow_run_id": {"any_": ["run-a", "run-b"]}, "level": {"le_": 20}}
    assert [each.message for each in client.read_logs(both)] == ["at calm-cat", "at bold-bat"]
    loud = LogFilter(
        flow_run_id={"any_": ["run-a"]},
        level=LogFilterLevel(ge_=30),
        text=LogFilterTextSearch(query="DEAR"),
    )
    assert client.read_logs(loud) == [second]
    assert client.read_logs(LogFilter(task_run_id=LogFilterTaskRunId(any_=["gone"]))) == []


def test_log_records_of_no_run_in_particular_are_refused(client: SyncPrefectClient) -> None:
    with pytest.raises(OptionValueError, match="flow_run_id"):
        client.read_logs()


@pytest.mark.parametrize(
    ("state", "action"), [(Cancelling(), "cancel"), (Cancelled(), "cancel"), (Paused(), "pause")]
)
def test_a_driver_is_asked_for_a_state(
    client: SyncPrefectClient, site: tuple[ServerSite, str], state: Any, action: str
) -> None:
    result = client.set_flow_run_state("run-c", state)
    assert isinstance(result, objects.OrchestrationResult)
    assert (result.status, result.state) == (SetStateStatus.ACCEPT, state)
    assert f"told to {action}" in result.details
    said = {"mode": "driver", "host": "login1", "runs": ["run-c"]}
    told = site[0].ask("ann", "POST", "/relays/r1/heartbeat", json=said).json()["commands"]
    assert action in [each["action"] for each in told]


def test_a_paused_run_is_let_go_on(client: SyncPrefectClient) -> None:
    assert "told to resume" in client.resume_flow_run("run-c").details
    with pytest.raises(OptionValueError, match="run_input"):
        client.resume_flow_run("run-c", run_input={"n": 1})


def test_a_run_that_has_ended_stays_as_it_is(client: SyncPrefectClient) -> None:
    result = client.set_flow_run_state("run-a", Cancelling())
    assert result.status == SetStateStatus.ABORT
    assert result.state.is_completed()
    assert "has ended already" in result.details


@pytest.mark.parametrize("state", [Running(), Suspended(), "CANCELLED"])
def test_a_driver_is_not_asked_for_what_it_cannot_do(client: SyncPrefectClient, state: Any) -> None:
    with pytest.raises(OptionValueError, match="Cancelling"):
        client.set_flow_run_state("run-c", state)


def test_nothing_is_forced(client: SyncPrefectClient) -> None:
    with pytest.raises(OptionValueError, match="runs cancel --force"):
        client.set_flow_run_state("run-c", Cancelled(), force=True)


def test_a_flow_run_is_deleted_on_the_server(
    client: SyncPrefectClient, site: tuple[ServerSite, str], tmp_path: Path
) -> None:
    run = WrittenRun(tmp_path, "run-d", name="dull-dog")
    run.end(1)
    site[0].ask("ann", "PUT", "/runs/run-d", json={"host": "login1"})
    site[0].send("ann", "run-d", _lines(run))
    client.delete_flow_run("run-d")
    with pytest.raises(ObjectNotFound):
        client.delete_flow_run("run-d")


def test_the_awaited_client_does_the_same(client: SyncPrefectClient) -> None:
    async def asked() -> tuple[Any, ...]:
        async with get_client() as other:
            assert isinstance(other, PrefectClient)
            return await asyncio.gather(
                other.read_flow_run("run-a"),
                other.read_flow_runs(flow_filter={"name": {"any_": ["zoo"]}}),
                other.read_logs({"flow_run_id": {"any_": ["run-b"]}}),
                other.set_flow_run_state("run-a", Cancelling()),
                other.api_healthcheck(),
            )

    run, runs, logs, result, healthy = asyncio.run(asked())
    assert (run.name, names(runs), len(logs)) == ("calm-cat", ["bold-bat", "calm-cat"], 2)
    assert (result.status, healthy) == (SetStateStatus.ABORT, None)
    assert client.read_flow_run("run-a").name == run.name


def test_the_awaited_client_has_every_method_of_the_other() -> None:
    public = {name for name in vars(SyncPrefectClient) if not name.startswith("_")}
    assert public - set(vars(PrefectClient)) == {"close"}


def test_the_awaited_client_is_entered_with_async(client: SyncPrefectClient) -> None:
    with pytest.raises(RuntimeError, match="async with"), get_client():
        pass
    del client


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("create_flow_run", "made by the process that drives it"),
        ("create_flow_run_from_deployment", "no deployments"),
        ("read_work_pools", "no work pools"),
        ("read_block_document_by_name", "no blocks"),
        ("create_automation", "no automations"),
        ("read_variable_by_name", "hpc_flows.variables.Variable"),
        ("read_artifacts", "Artifact"),
        ("increment_concurrency_slots", "hpc-flows gcl"),
        ("set_task_run_state", "its driver and its job say"),
        ("read_flow_by_name", "known by its name"),
        ("read_flow_rums", "Did you mean 'read_flow_runs'"),
    ],
)
def test_what_the_client_cannot_do_is_told_with_the_reason(
    client: SyncPrefectClient, name: str, reason: str
) -> None:
    with pytest.raises(AttributeError, match=reason):
        getattr(client, name)
    with pytest.raises(AttributeError, match=reason):
        getattr(PrefectClient(client), name)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"deployment_id": {"any_": []}}, "no 'deployment_id' here"),
        ({"name": {"any": ["x"]}}, "Did you mean 'any_'"),
        ({"name": {"any_": "x"}}, "is a list"),
        ({"name": "x"}, "FlowRunFilterName or a dict"),
        ({"name": {"like_": 3}}, "is a text"),
        ({"tags": {"is_null_": "no"}}, "True or False"),
        ({"start_time": {"after_": "yesterday"}}, "datetime"),
        ({"operator": "xor"}, "'and_' or 'or_'"),
        ("calm", "FlowRunFilter or a dict"),
    ],
    ids=str,
)
def test_a_filter_that_makes_no_sense_is_refused(
    client: SyncPrefectClient, wrong: Any, words: str
) -> None:
    with pytest.raises(OptionValueError, match=words):
        client.read_flow_runs(flow_run_filter=wrong)


def test_an_order_or_a_part_that_makes_no_sense_is_refused(client: SyncPrefectClient) -> None:
    with pytest.raises(OptionValueError, match="START_TIME_ASC"):
        client.read_flow_runs(sort="ID_DESC")
    with pytest.raises(OptionValueError, match="limit"):
        client.read_flow_runs(limit=-1)
    with pytest.raises(OptionValueError, match="LogFilterLevel"):
        client.read_logs({"flow_run_id": {"any_": ["run-a"]}, "level": {"ge_": "INFO"}})


@pytest.mark.parametrize(
    ("kind", "name", "criterion"),
    [
        (FlowRunFilter, "id", "FlowRunFilterId"),
        (FlowRunFilter, "end_time", "FlowRunFilterEndTime"),
        (FlowRunFilterState, "name", "FlowRunFilterStateName"),
        (TaskRunFilter, "id", "TaskRunFilterId"),
        (TaskRunFilter, "tags", "TaskRunFilterTags"),
        (TaskRunFilter, "state", "TaskRunFilterState"),
        (TaskRunFilter, "start_time", "TaskRunFilterStartTime"),
        (TaskRunFilter, "end_time", "TaskRunFilterEndTime"),
        (TaskRunFilter, "expected_start_time", "TaskRunFilterExpectedStartTime"),
        (filters.TaskRunFilterState, "type", "TaskRunFilterStateType"),
        (filters.TaskRunFilterState, "name", "TaskRunFilterStateName"),
        (LogFilter, "timestamp", "LogFilterTimestamp"),
    ],
)
def test_a_criterion_is_taken_for_the_attribute_that_it_is_named_after(
    kind: Any, name: str, criterion: str
) -> None:
    made = getattr(filters, criterion)()
    assert repr(kind(**{name: made})) == f"{kind.__name__}({name}={criterion}())"


def test_every_name_of_the_clients_modules_is_there() -> None:
    for module in (filters, objects, sorting, orchestration):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
    shown = FlowRunFilter(name=FlowRunFilterName(any_=["x"]))
    assert repr(shown) == "FlowRunFilter(name=FlowRunFilterName(any_=['x']))"
