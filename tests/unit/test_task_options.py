"""The options of `@task` that say when a run is tried again, kept, named and told about."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from hpc_flows import flow, task
from hpc_flows.cache_policies import DEFAULT, INPUTS, NO_CACHE
from hpc_flows.engine.retries import delay_before
from hpc_flows.exceptions import OptionValueError, ParameterError
from hpc_flows.journal.reader import read_run
from hpc_flows.tasks import Task, TaskOptions, exponential_backoff, task_input_hash

if TYPE_CHECKING:
    from pathlib import Path


def _logged(home: Path) -> list[str]:
    return [
        event.data["message"]
        for folder in sorted((home / "runs").iterdir())
        for event in read_run(str(folder))
        if event.kind == "log"
    ]


def _nothing() -> None:
    pass


# Retries --------------------------------------------------------------------------------------


def test_pauses_can_double_with_each_retry() -> None:
    work = task(retries=4, retry_delay_seconds=exponential_backoff(10))(_nothing)
    assert work.retry_delay_seconds == (10, 20, 40, 80)


def test_a_jitter_makes_pauses_longer_by_a_random_part() -> None:
    pauses = {delay_before(1, 10.0, 0.5) for _ in range(50)}
    assert len(pauses) > 40
    assert 10 <= min(pauses) < max(pauses) <= 15
    assert {delay_before(1, 10.0, None), delay_before(1, 10.0, 0)} == {10.0}
    assert delay_before(2, (1.0, 0.0), 0.5) == 0


@pytest.mark.parametrize("factor", [-1, "much", True])
def test_a_wrong_jitter_is_refused(factor: Any) -> None:
    with pytest.raises(OptionValueError, match="`retry_jitter_factor` must be >= 0"):
        task(retry_jitter_factor=factor)(_nothing)


def test_a_condition_decides_whether_a_run_is_tried_again(home: Path) -> None:
    asked = []

    def is_transient(task: Any, run: Any, state: Any) -> bool:
        asked.append((task.name, run.run_count, state.name))
        return isinstance(state.result(raise_on_failure=False), ConnectionError)

    errors = iter([ConnectionError("1"), ConnectionError("2"), KeyError("3")])

    @task(retries=5, retry_condition_fn=is_transient)
    def work() -> None:
        raise next(errors)

    assert work(return_state=True).is_failed()
    assert asked == [("work", 1, "Failed"), ("work", 2, "Failed"), ("work", 3, "Failed")]
    assert any("Its retry condition does not want another attempt" in m for m in _logged(home))


def test_a_condition_that_fails_is_told_and_means_no(home: Path) -> None:
    def broken(*_: Any) -> bool:
        raise RuntimeError("cannot tell")

    @task(retries=5, retry_condition_fn=broken)
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()
    (told,) = [message for message in _logged(home) if "retry_condition_fn" in message]
    assert "'broken': RuntimeError('cannot tell')" in told


def test_a_condition_is_not_asked_without_retries() -> None:
    @task(retry_condition_fn=lambda *_: pytest.fail("asked"))
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()


def test_a_condition_must_be_a_function() -> None:
    with pytest.raises(ParameterError, match="Expected `retry_condition_fn` to be callable"):
        task(retry_condition_fn="always")(_nothing)  # type: ignore[call-overload]


# Results --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        ({}, False),
        ({"persist_result": True}, True),
        ({"persist_result": False, "cache_policy": INPUTS}, False),
        ({"cache_policy": INPUTS}, True),
        ({"cache_policy": NO_CACHE}, False),
        ({"cache_policy": None}, False),
        ({"cache_key_fn": task_input_hash}, True),
        ({"cache_expiration_seconds": 60}, True),
        ({"result_storage_key": "x"}, True),
        ({"result_serializer": "json"}, True),
        ({"on_commit": [print]}, True),
        ({"on_rollback": [print]}, True),
        ({"on_failure": [print]}, False),
    ],
)
def test_a_task_knows_whether_results_are_looked_for(options: Any, looks: bool) -> None:  # noqa: FBT001
    assert task(**options)(_nothing).recall is looks


def test_a_hook_of_a_transaction_makes_a_task_look() -> None:
    for name in ("on_commit", "on_rollback"):
        work: Any = task(_nothing)
        getattr(work, name)(print)
        assert work.recall
        assert work.with_options(name="x").recall
        assert getattr(work, f"{name}_hooks") == [print]


@pytest.mark.parametrize(
    "options",
    [
        {"cache_expiration": timedelta(hours=1)},
        {"cache_expiration": 3600},
        {"cache_expiration_seconds": 3600},
    ],
)
def test_an_expiration_is_a_time_however_it_is_given(options: Any) -> None:
    work = task(**options)(_nothing)
    assert work.cache_expiration == timedelta(hours=1)
    assert work.with_options(name="x").cache_expiration == timedelta(hours=1)
    assert work.with_options(cache_expiration_seconds=1).cache_expiration == timedelta(seconds=1)
    assert work.with_options(cache_expiration=None).cache_expiration is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_expiration": 1, "cache_expiration_seconds": 1}, "not both"),
        ({"cache_expiration": -1}, "cache_expiration must be a positive time"),
        ({"cache_expiration": "1h"}, "cache_expiration must be a positive time"),
        ({"result_storage": 3}, "result_storage must be a folder"),
        ({"result_serializer": 3}, "result_serializer must be a name"),
        ({"result_serializer": "jsn"}, "no serializer 'jsn'. Did you mean 'json'"),
        ({"refresh_cache": "yes"}, "refresh_cache must be True or False"),
        ({"cache_key_fn": "x"}, "Expected `cache_key_fn` to be callable"),
        ({"version": 1}, "version must be text"),
    ],
)
def test_a_wrong_option_about_results_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        task(name="work", **options)(_nothing)


def test_what_keys_are_made_of_follows_from_the_options() -> None:
    assert task(_nothing).cache_policy == DEFAULT
    assert task(cache_policy=INPUTS)(_nothing).cache_policy == INPUTS


# Copies ---------------------------------------------------------------------------------------


def test_an_option_goes_back_to_its_default_with_none() -> None:
    def given() -> None:
        """Say it."""

    work = task(
        name="other",
        description="words",
        retries=3,
        timeout_seconds=5,
        log_prints=True,
        tags=["a"],
        on_failure=[print],
        persist_result=True,
    )(given)
    options: Any = dict.fromkeys(
        ["name", "description", "retries", "timeout_seconds", "log_prints", "tags", "on_failure"]
    )
    back = work.with_options(**options, persist_result=None)
    assert (back.name, back.description, back.retries) == ("given", "Say it.", None)
    assert (back.timeout_seconds, back.log_prints, back.tags) == (None, None, set())
    assert (getattr(back, "on_failure_hooks", None), back.recall) == ([], False)


def test_a_copy_shares_nothing_that_is_changed_later() -> None:
    work = task(tags=["a"], on_failure=[print])(_nothing)
    copy = work.with_options(name="copy")
    work.tags.add("b")
    work.on_failure(len)
    assert copy.tags == {"a"}
    assert getattr(copy, "on_failure_hooks", None) == [print]


def test_every_option_can_be_given_to_a_copy() -> None:
    known = {*TaskOptions.__annotations__}
    assert known == {*_known_options()}


def _known_options() -> set[str]:
    with pytest.raises(ParameterError):
        task(no_such_option=1)(_nothing)  # type: ignore[call-overload]
    from hpc_flows.engine.definition import COMMON_OPTIONS

    return {*COMMON_OPTIONS, *Task.own_options, *Task.hook_names}


# The text of a task ---------------------------------------------------------------------------


def test_a_task_knows_its_text() -> None:
    @task
    def work() -> int:
        return 42

    assert work.source_code is not None
    assert "return 42" in work.source_code
    assert cloudpickle.loads(cloudpickle.dumps(work)).source_code == work.source_code


def test_a_task_without_a_text_has_none() -> None:
    class Work:
        def __call__(self) -> int:
            return 1

    namespace: dict[str, Any] = {}
    exec("def made(): return 1", namespace)  # noqa: S102 - a function without a file
    assert task(Work()).source_code is None
    assert task(namespace["made"]).source_code is None


def test_the_text_of_a_file_that_was_edited_since_is_not_the_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "edited_tasks.py"
    head = "from hpc_flows import task\n@task\ndef work():\n"
    file.write_text(f"{head}    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import edited_tasks  # type: ignore[import-not-found]

    file.write_text(f"{head}    return 22\n")
    assert edited_tasks.work.source_code is None
    assert "return 1" in _fresh(tmp_path, head)


def _fresh(folder: Path, head: str) -> str:
    (folder / "fresh_tasks.py").write_text(f"{head}    return 1\n")
    import fresh_tasks  # type: ignore[import-not-found]

    return str(fresh_tasks.work.source_code)


def test_the_text_of_a_cell_goes_along_where_its_task_is_sent() -> None:
    import linecache

    text = "def cell(): return 7\n"
    linecache.cache["<ipython-input-1>"] = (len(text), None, [text], "<ipython-input-1>")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<ipython-input-1>", "exec"), namespace)  # noqa: S102 - as IPython does
    sent = cloudpickle.dumps(task(namespace["cell"]))
    del linecache.cache["<ipython-input-1>"]
    assert cloudpickle.loads(sent).source_code == text


# Methods --------------------------------------------------------------------------------------


def test_a_task_tells_what_kind_of_method_it_is() -> None:
    class Model:
        @task
        def scale(self) -> None: ...

        @task
        @classmethod
        def of_class(cls) -> None: ...

        @task
        @staticmethod
        def of_none() -> None: ...

    assert (Model().scale.ismethod, Model.scale.ismethod) == (True, False)
    assert Model.of_class.isclassmethod
    assert Model.of_none.isstaticmethod
    copy = Model.of_none.with_options(name="x")
    assert copy.isstaticmethod


def test_the_name_of_a_run_may_come_from_the_object_of_a_method() -> None:
    class Model:
        kind = "big"

        @task(task_run_name="{self.kind}-{x}")
        def scale(self, x: int) -> int:
            return x

    @flow
    def main() -> Any:
        return Model().scale.submit(2).name

    assert main() == "big-2"


def test_a_cache_policy_that_is_none_is_refused_where_the_task_is_made() -> None:
    with pytest.raises(ParameterError, match=r"such as INPUTS.*, not 'INPUTS'"):
        task(cache_policy="INPUTS")(int)
