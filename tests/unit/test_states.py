"""What is made of states and out of them."""

from __future__ import annotations

import asyncio
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from hpc_flows import states
from hpc_flows.exceptions import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    MissingResult,
    OutOfMemory,
    PausedRun,
    TerminationSignal,
    UnfinishedRun,
)
from hpc_flows.futures import PrefectFuture
from hpc_flows.results import ResultStore
from hpc_flows.states import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
    State,
    StateGroup,
    StateType,
    StoredValue,
    aexception_to_crashed_state,
    aexception_to_failed_state,
    aget_state_exception,
    araise_state_exception,
    areturn_value_to_state,
    crashed_by,
    exception_to_crashed_state,
    exception_to_failed_state,
    format_exception,
    get_state_exception,
    get_state_result,
    is_state,
    is_state_iterable,
    raise_state_exception,
    return_value_to_state,
)


class Kept(StoredValue):
    """A record as a store makes it."""

    def __init__(self, value: Any, key: str | None = None) -> None:
        self.value = value
        self.key = key

    def get(self) -> Any:
        return self.value


class Store:
    """A store that remembers what was written."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[Kept] = []
        self.error = error

    def create_result_record(self, value: Any, key: Any = None, expiration: Any = None) -> Kept:
        assert expiration is None
        return Kept(value, key)

    def persist_result_record(self, record: Kept) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(record)


# Results --------------------------------------------------------------------------------------


def test_a_result_is_had_with_await_and_without() -> None:
    state = Completed(data=3)

    async def main() -> list[Any]:
        return [
            await state.result(),
            state.result(),
            await state.aresult(),
            await get_state_result(state),
            [state.result() for _ in range(2)],
            [await state.result() for _ in range(2)],
            f"{await state.result()}",
        ]

    assert asyncio.run(main()) == [3, 3, 3, 3, [3, 3], [3, 3], "3"]
    assert state.result() == 3


def test_an_awaited_result_raises_what_ended_the_run() -> None:
    async def main() -> None:
        await Failed(data=ValueError("no")).result()

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (Failed(data=ValueError("a")), ValueError, "a"),
        (Failed("b"), FailedRun, "b"),
        (Cancelled(data="c"), CancelledRun, "c"),
        (Crashed(data="d"), CrashedRun, "d"),
        (crashed_by("OutOfMemory", "e"), OutOfMemory, "e"),
        (Failed(data=Crashed(data=OSError("f"))), OSError, "f"),
        (Failed(data=[Completed(data=1), Failed(data=KeyError("g"))]), KeyError, "g"),
        (Failed(data=Kept(ValueError("h"))), ValueError, "h"),
        (Failed(data=Kept(Kept(ValueError("i")))), ValueError, "i"),
        (Failed(data=2), TypeError, "2 of type int cannot be resolved into an exception"),
        (Failed(data=Completed()), ValueError, "Expected failed or crashed state got Completed"),
        (Failed(data=[Completed()]), ValueError, "but none were failed"),
    ],
)
def test_the_error_of_a_failure_is_found_wherever_it_lies(
    state: State, error: type[BaseException], message: str
) -> None:
    with pytest.raises(error, match=message):
        state.result()
    with pytest.raises(error, match=message):
        raise_state_exception(state)


def test_the_error_of_a_failure_can_be_had_without_raising_it() -> None:
    state = Failed(data=Failed(data=ValueError("in")))
    assert str(get_state_exception(state)) == "in"
    assert str(asyncio.run(aget_state_exception(state))) == "in"
    with pytest.raises(ValueError, match="in"):
        asyncio.run(araise_state_exception(state))
    assert isinstance(Failed("x").result(raise_on_failure=False), FailedRun)
    assert Failed(data=[1]).result(raise_on_failure=False) == [1]


def test_a_state_that_is_no_failure_raises_nothing() -> None:
    assert raise_state_exception(Completed()) is None
    assert raise_state_exception(Running()) is None


def test_a_paused_state_says_until_when_as_prefects_does() -> None:
    details = Paused(timeout_seconds=60, reschedule=True, pause_key="k").state_details
    assert details.pause_timeout > datetime.now(UTC)
    assert (details.pause_reschedule, details.pause_key) == (True, "k")
    end = datetime(2030, 1, 1, tzinfo=UTC)
    assert Paused(pause_expiration_time=end).state_details.pause_timeout == end
    assert Paused(timeout_seconds=None).details == {}


def test_a_state_that_is_not_final_has_no_result() -> None:
    with pytest.raises(UnfinishedRun, match=r"Running\(\).*no result yet"):
        Running().result()
    with pytest.raises(PausedRun, match="until it is resumed"):
        Paused().result()


def test_a_result_in_memory_has_no_handle() -> None:
    with pytest.raises(MissingResult, match="in memory"):
        Completed(data=1).result_handle()
    with pytest.raises(MissingResult, match=r"Use result\(\)"):
        Completed(data=Kept(1)).result_handle()
    with pytest.raises(UnfinishedRun):
        Running().result_handle()


# Details and copies ---------------------------------------------------------------------------


def test_details_are_attributes_and_none_where_not_given() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    state = Scheduled("later", scheduled_time=moment, state_details={"cache_key": "k"})
    assert state.state_details.scheduled_time == moment
    assert state.state_details.cache_key == "k"
    assert state.state_details.task_run_id is None
    assert state.details["scheduled_time"] == moment.isoformat()
    with pytest.raises(AttributeError, match="Did you mean 'cache_key'"):
        _ = state.state_details.cache_kay


def test_a_state_tells_the_run_that_it_belongs_to() -> None:
    state = Completed(state_details={"task_run_id": "abc"})
    assert state.run == ("task", "abc", None)
    assert state.state_details.task_run_id == "abc"
    state = Completed(state_details={"task_run_id": "abc", "flow_run_id": "def"})
    assert state.state_details.flow_run_id == "def"
    assert state.state_details.to_dict() == {"task_run_id": "abc", "flow_run_id": "def"}
    assert Completed().run is None


def test_a_constructor_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match=r"Completed\(\) takes no keyword 'mesage'.*'message'"):
        Completed(mesage="x")
    with pytest.raises(TypeError, match="scheduled_time"):
        Running(scheduled_time=datetime.now(UTC))
    with pytest.raises(ValueError, match="not a valid StateType"):
        State("DONE")


def test_a_constructor_takes_another_name() -> None:
    assert Completed(name="Cached", message="m").name == "Cached"
    assert State("COMPLETED").type is StateType.COMPLETED


def test_a_copy_is_the_same_but_for_what_is_changed() -> None:
    state = Failed("why", data=ValueError("x"), details={"node": "n1"})
    state.belongs_to("flow", "f")
    copied = state.model_copy(update={"message": "because"})
    assert (copied.message, copied.details, copied.epoch) == (
        "because",
        {"node": "n1"},
        state.epoch,
    )
    assert (copied.run, copied.data) == (("flow", "f", None), state.data)
    copied.details["node"] = "n2"
    assert state.details == {"node": "n1"}
    fresh = state.fresh_copy(name="Other")
    assert (fresh.name, fresh.run, fresh.message) == ("Other", None, "why")
    assert fresh.epoch >= state.epoch


def test_each_state_has_an_id_of_its_own() -> None:
    one, other = Completed(), Completed()
    assert one.id == one.id != other.id
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - made here


# Groups ---------------------------------------------------------------------------------------


def test_states_are_told_from_other_values() -> None:
    assert is_state(Completed())
    assert is_state_iterable([Completed()])
    assert not is_state_iterable([])
    assert not is_state_iterable([Completed(), 1])
    assert not is_state_iterable({Completed(): 1})


def test_a_group_counts_by_type() -> None:
    group = StateGroup([Failed(), Running(), Crashed(), Running(), Cancelled(), Paused()])
    assert (group.total_count, group.fail_count, group.not_final_count) == (6, 2, 3)
    assert group.any_failed()
    assert group.any_cancelled()
    assert group.any_paused()
    assert not group.all_completed()
    assert not group.all_final()
    assert group.counts_message().startswith("total=6, not_final=3, 'FAILED'=1, 'RUNNING'=2")
    assert "'CANCELLED'=1" in repr(group)
    assert StateGroup([Completed()]).all_completed()
    assert StateGroup([Completed(), Failed()]).all_final()


# States of exceptions -------------------------------------------------------------------------


def _cancelled_by_asyncio() -> BaseException:
    return asyncio.CancelledError()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "Execution was aborted by an interrupt signal."),
        (TerminationSignal(15), "Execution was aborted by a termination signal."),
        (SystemExit(1), "Execution was aborted by Python system exit call."),
        (_cancelled_by_asyncio(), "Execution was cancelled by the runtime environment."),
        (
            RuntimeError("x"),
            "Execution was interrupted by an unexpected exception: RuntimeError: x",
        ),
    ],
)
def test_a_crash_tells_what_ended_the_run(error: BaseException, message: str) -> None:
    state = exception_to_crashed_state(error)
    assert (state.type, state.message, state.data) == (StateType.CRASHED, message, error)
    assert asyncio.run(aexception_to_crashed_state(error)).message == message


def test_a_failure_holds_the_exception_or_its_record() -> None:
    error = ValueError("x")
    assert exception_to_failed_state(error).data is error
    state = exception_to_failed_state(error, message="In short:")
    assert state.message == "In short: ValueError: x"
    assert state.state_details.retriable is False
    store = Store()
    kept = exception_to_failed_state(error, store, write_result=True)
    assert store.written == [kept.data]
    assert kept.result(raise_on_failure=False) is error
    assert exception_to_crashed_state(error, store).data.get() is error
    assert asyncio.run(aexception_to_failed_state(error)).message == "ValueError: x"


def _raise(error: Exception) -> None:
    raise error


def test_a_failure_can_be_made_of_the_exception_that_is_being_handled() -> None:
    with pytest.raises(ValueError, match="no active exception"):
        exception_to_failed_state()
    try:
        _raise(KeyError("k"))
    except KeyError:
        assert exception_to_failed_state().message == "KeyError: 'k'"


def test_an_exception_is_told_with_its_traceback_if_wanted() -> None:
    with pytest.raises(ValueError, match="odd") as caught:
        _raise(ValueError("odd"))
    error = caught.value
    told = format_exception(error, error.__traceback__)
    assert format_exception(error) == "ValueError: odd"
    assert told.endswith("ValueError: odd")
    assert "test_states.py" in told


# States of values -----------------------------------------------------------------------------


def test_a_value_completes_a_run_and_is_recorded() -> None:
    store = Store()
    state = return_value_to_state("foo", store, key="k")
    assert (state.result(), state.data.key, store.written) == ("foo", "k", [])
    assert return_value_to_state((x for x in "ab"), store).result() == ["a", "b"]
    record = Kept(1)
    assert return_value_to_state(record, store).data is record
    assert asyncio.run(areturn_value_to_state(2, store, write_result=True)).result() == 2
    assert [each.value for each in store.written] == [2]


def test_a_state_that_code_has_made_is_the_final_state() -> None:
    state = Completed(data=None)
    assert return_value_to_state(state, Store()) is state
    assert isinstance(state.data, Kept)
    assert state.result() is None


@pytest.mark.parametrize(
    ("states", "message", "kind"),
    [
        ([Completed(), Completed()], "All states completed.", StateType.COMPLETED),
        ([Completed(), Failed(), Crashed()], "2/3 states failed.", StateType.FAILED),
        ([Failed(), Cancelled()], "1/2 states cancelled.", StateType.CANCELLED),
        ([Failed(), Paused()], "1/2 states paused.", StateType.PAUSED),
        ([Completed(), Pending(), Running()], "2/3 states are not final.", StateType.FAILED),
    ],
)
def test_states_of_runs_decide_together(states: Any, message: str, kind: StateType) -> None:
    state = return_value_to_state(states, Store())
    assert (state.message, state.type, state.data.value) == (message, kind, states)


def test_the_state_of_another_run_is_data() -> None:
    state = Completed(data="x", state_details={"flow_run_id": "f"})
    made = return_value_to_state(state, Store())
    assert made.result() == state
    assert made.message == "All states completed."


def test_a_result_that_cannot_be_written_is_told_and_there_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = return_value_to_state(5, Store(OSError("disk full")), write_result=True)
    assert state.result() == 5
    assert "disk full" in caplog.text


def test_a_name_that_is_not_there_is_refused_with_the_one_that_is_near() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'StateGroup'"):
        _ = states.StateGruop


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("Scheduled Late AwaitingRetry AwaitingConcurrencySlot", StateType.SCHEDULED),
        ("Pending Submitting InfrastructurePending NotReady", StateType.PENDING),
        ("Running Retrying", StateType.RUNNING),
        ("Paused Suspended", StateType.PAUSED),
        ("Failed TimedOut", StateType.FAILED),
    ],
)
def test_each_constructor_makes_a_state_of_its_name_and_type(names: str, kind: StateType) -> None:
    for name in names.split():
        state = getattr(states, name)("why")
        assert (state.type, state.name, state.message) == (kind, name, "why")


def test_a_crash_is_named_by_its_cause_and_raises_it() -> None:
    state = crashed_by("OutOfMemory", "too much", {"requested": "1G"})
    assert (state.type, state.name, state.details) == (
        StateType.CRASHED,
        "OutOfMemory",
        {"requested": "1G"},
    )
    with pytest.raises(OutOfMemory, match="too much"):
        state.result()


def test_annotations_may_say_what_a_state_or_a_future_holds() -> None:
    assert State[int] is State
    assert PrefectFuture[int] is PrefectFuture


def test_what_a_store_says_of_an_exception_is_enough_to_raise_it() -> None:
    store = ResultStore()
    record = store.create_result_record(ValueError("kept"))
    store.persist_result_record(record)
    state = Failed(data=record.metadata)
    with pytest.raises(ValueError, match="kept"):
        raise_state_exception(state)
    with pytest.raises(ValueError, match="kept"):
        state.result()
