"""The `@task` decorator: options, calls, submits, maps, and how tasks travel."""

from __future__ import annotations

import os
import pickle
import sys
import time
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from hpc_flows import Resources, State, allow_failure, flow, tags, task, unmapped
from hpc_flows.exceptions import (
    MappingLengthMismatch,
    MappingMissingIterable,
    ParameterBindError,
    ParameterError,
    ReservedArgumentError,
    ResourceError,
    UpstreamTaskError,
)
from hpc_flows.futures import TaskFutureList


@task
def add(x: int, y: int = 1) -> int:
    """Add two numbers."""
    return x + y


@task
def fail() -> None:
    raise ValueError("no")


def test_a_task_looks_like_its_function() -> None:
    assert (add.name, add.__name__, add.__doc__) == ("add", "add", "Add two numbers.")
    assert add.description == "Add two numbers."
    assert add.fn(1, 2) == 3


def test_a_task_can_be_made_with_and_without_parentheses() -> None:
    def double(x: int) -> int:
        return 2 * x

    assert task(double)(2) == task()(double)(2) == task(name="twice")(double)(2) == 4
    assert task(name="twice")(double).name == "twice"


def test_a_task_outside_of_a_flow_runs() -> None:
    assert add(2) == 3
    assert add(2, return_state=True).is_completed()


def test_a_task_can_be_submitted_and_mapped_outside_of_a_flow() -> None:
    assert add.submit(2).result() == 3
    assert add.map([1, 2]).result() == [2, 3]
    assert add.map([]).result() == []
    with tags("alone"):
        assert add.submit(1).task_run.tags == ("alone",)


def test_a_task_outside_of_a_flow_that_is_refused_leaves_no_thread_behind() -> None:
    huge = add.with_options(resources={"cpus": 100_000})
    before = _threads()
    with pytest.raises(ResourceError, match="HPC_FLOWS_CLUSTER"):
        huge.submit(1)
    deadline = time.monotonic() + 120
    while _threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _threads() <= before


def _threads() -> int:
    """Return how many threads the process has, also those that `threading` does not know."""
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"asset_deps": ["s3://x"]}, "no option 'asset_deps'. hpc_flows keeps no catalogue"),
        ({"persist_result": "yes"}, "persist_result must be True or False"),
        ({"retires": 2}, "no option 'retires'. Did you mean 'retries'"),
        ({"retries": -1}, "retries must be a whole number"),
        ({"retries": 1.5}, "retries must be a whole number"),
        ({"retry_delay_seconds": "soon"}, "retry_delay_seconds must be seconds"),
        ({"retry_delay_seconds": [1] * 51}, "Can not configure more than 50 retry delays per task"),
        ({"timeout_seconds": -1}, "timeout_seconds must be a positive number"),
        ({"timeout_seconds": "2"}, "timeout_seconds must be a positive number"),
        ({"on_failure": print}, "Expected iterable for 'on_failure'; got builtin"),
        ({"on_failure": [3]}, "Expected callables in 'on_failure'; got int"),
    ],
)
def test_a_wrong_option_is_refused_by_name_at_the_decorator(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=f"Task 'work'.*{message}"):
        task(name="work", **options)(lambda: None)


def test_a_wrong_resource_is_refused_at_the_decorator() -> None:
    with pytest.raises(ResourceError):
        task(resources={"cpu": 2})(add.fn)


def test_a_task_of_something_else_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"decorates functions, not 'train'.*name="):
        task("train")


@pytest.mark.parametrize("name", ["wait_for", "return_state"])
def test_a_parameter_name_that_calls_need_is_refused(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def work({name}): pass", namespace)  # noqa: S102 - to write the name
    with pytest.raises(ReservedArgumentError, match=name):
        task(namespace["work"])


def test_arguments_that_do_not_fit_are_refused_before_anything_runs() -> None:
    @flow
    def main() -> None:
        with pytest.raises(ParameterBindError, match="missing a required argument: 'x'"):
            add.submit()
        with pytest.raises(ParameterBindError, match=r"unexpected keyword argument 'yy'.*'y'"):
            add(1, yy=2)
        with pytest.raises(ParameterBindError, match="takes 2 positional"):
            add.map([1], [2], [3])

    main()


def test_with_options_changes_some_and_keeps_the_rest() -> None:
    base = task(retries=2, tags=["a"], resources=Resources(cpus=2, memory="1G"))(add.fn)
    other = base.with_options(name="other", resources={"memory": "2G"})
    assert (other.name, other.retries, other.tags) == ("other", 2, {"a"})
    assert other.resources == Resources(cpus=2, memory="2G")
    assert base.resources == Resources(cpus=2, memory="1G")


# Maps -----------------------------------------------------------------------------------------


def test_a_map_calls_once_for_each_element() -> None:
    @flow
    def main() -> Any:
        futures = add.map([1, 2, 3], y=[10, 20, 30])
        assert isinstance(futures, TaskFutureList)
        assert [f.task_run.map_index for f in futures] == [0, 1, 2]
        return futures.result()

    assert main() == [11, 22, 33]


def test_a_map_gives_every_call_what_is_no_iterable_or_unmapped() -> None:
    @task
    def join(a: Any, b: Any, c: Any) -> Any:
        return (a, b, c)

    @flow
    def main() -> Any:
        return join.map(range(2), "text", c=unmapped([7, 8])).result()

    assert main() == [(0, "text", [7, 8]), (1, "text", [7, 8])]


def test_a_map_takes_generators_and_the_values_of_a_future() -> None:
    @task
    def numbers() -> list[int]:
        return [1, 2, 3]

    @flow
    def main() -> Any:
        return add.map(numbers.submit()).result(), add.map(i for i in range(2)).result()

    assert main() == ([2, 3, 4], [1, 2])


def test_a_map_over_futures_starts_each_call_when_its_own_is_ready() -> None:
    @flow
    def main() -> Any:
        return add.map(add.map([1, 2]), y=unmapped(add.submit(5))).result()

    assert main() == [8, 9]


def test_a_map_over_nothing_is_empty() -> None:
    @flow
    def main() -> Any:
        return add.map([]).result()

    assert main() == []


def test_a_map_over_different_lengths_says_which() -> None:
    @flow
    def main() -> None:
        with pytest.raises(MappingLengthMismatch, match="argument 1 has 2, y has 3"):
            add.map([1, 2], y=[1, 2, 3])

    main()


def test_a_map_without_an_iterable_says_what_to_do() -> None:
    @flow
    def main() -> None:
        with pytest.raises(MappingMissingIterable, match="submit"):
            add.map(1, y=unmapped([1]))

    main()


def test_states_come_back_on_request() -> None:
    @flow
    def main() -> Any:
        states = [*add.map([1], return_state=True), add.submit(1, return_state=True)]
        assert all(isinstance(state, State) for state in states)
        return [state.result() for state in states]

    assert main() == [2, 2]


# Upstream -------------------------------------------------------------------------------------


def test_a_future_among_the_arguments_is_its_value_and_an_upstream_run() -> None:
    @flow
    def main() -> Any:
        first = add.submit(1)
        second = add.submit(first, y=first)
        assert second.task_run.upstream == (first.task_run_id,)
        return second.result(), add(first), add.submit([first].pop()).result()

    assert main() == (4, 3, 3)


def test_a_task_is_not_run_after_an_upstream_failure() -> None:
    ran = []

    @task
    def after(x: Any) -> None:
        ran.append(x)

    @flow
    def main() -> None:
        broken = fail.submit()
        future = after.submit([broken])
        with pytest.raises(UpstreamTaskError, match=r"fail-.*allow_failure") as caught:
            future.result()
        assert isinstance(caught.value.__cause__, ValueError)
        assert future.state.name == "NotReady"
        chained = after.submit(future)
        chained.wait()
        assert chained.state.name == "NotReady"
        with pytest.raises(UpstreamTaskError):
            after(broken)

    main()
    assert ran == []


def test_allow_failure_gives_the_exception_instead() -> None:
    @task
    def kind(x: Any) -> str:
        return type(x).__name__

    @flow
    def main() -> Any:
        broken = fail.submit()
        return [
            kind.submit(allow_failure(broken)).result(),
            kind(allow_failure(broken)),
            kind.map(allow_failure([broken, broken])).result(),
        ]

    assert main() == ["ValueError", "ValueError", ["ValueError", "ValueError"]]


def test_a_map_gives_the_exception_of_one_allowed_failure_to_each_call() -> None:
    @task
    def kind(x: int, y: Any) -> tuple[int, str]:
        return x, type(y).__name__

    @flow
    def main() -> Any:
        return kind.map([1, 2], allow_failure(fail.submit())).result()

    assert main() == [(1, "ValueError"), (2, "ValueError")]


def test_wait_for_orders_without_passing_values() -> None:
    order: list[str] = []

    @task
    def note(name: str) -> None:
        order.append(name)

    @flow
    def main() -> None:
        first = note.submit("first")
        note.submit("second", wait_for=[first]).wait()
        note("third", wait_for=[first])
        assert note.submit("never", wait_for=[fail.submit()], return_state=True).name == "NotReady"
        note.submit("last", wait_for=[allow_failure(fail.submit())]).wait()

    main()
    assert order == ["first", "second", "third", "last"]


def test_futures_in_a_tasks_return_value_become_values() -> None:
    @task
    def outer() -> Any:
        return {"inner": [add.submit(1)]}

    @flow
    def main() -> Any:
        return outer(), outer.submit().result()

    assert main() == ({"inner": [2]}, {"inner": [2]})


# Names and tags -------------------------------------------------------------------------------


def test_runs_are_named_by_a_template_or_a_callable() -> None:
    def by_parameters(parameters: dict[str, Any]) -> str:
        return f"p{parameters['y']}"

    @flow
    def main() -> Any:
        names = ["{x}-{y}", by_parameters, lambda: "plain"]
        futures = [add.with_options(task_run_name=name).submit(3) for name in names]
        return [future.name for future in futures]

    assert main() == ["3-1", "p1", "plain"]


def test_a_template_that_asks_for_no_parameter_is_refused_with_the_close_match() -> None:
    named = task(task_run_name="{folds}")(lambda fold: fold)
    with pytest.raises(ParameterError, match=r"'folds'.*Did you mean 'fold'"):
        named(1)


# Pickling -------------------------------------------------------------------------------------


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("importable_tasks")
    source = "from hpc_flows import task\n@task(retries=1)\ndef work(x):\n    return x\n"
    exec(source, module.__dict__)  # noqa: S102 - a module without a file
    monkeypatch.setitem(sys.modules, "importable_tasks", module)
    return module


def test_a_task_that_can_be_imported_travels_by_its_name(importable: ModuleType) -> None:
    data = pickle.dumps(importable.work)
    assert len(data) < 60
    assert pickle.loads(data) is importable.work  # noqa: S301 - our own


def test_a_task_with_other_options_travels_with_its_functions_name(importable: ModuleType) -> None:
    changed = importable.work.with_options(retries=5, name="other")
    copy = pickle.loads(pickle.dumps(changed))  # noqa: S301 - our own
    assert (copy.retries, copy.name) == (5, "other")
    assert copy.fn is importable.work.fn


def test_a_task_that_cannot_be_imported_travels_by_value() -> None:
    factor = 3

    @task(name="local", retries=4)
    def work(x: int) -> int:
        return x * factor

    copy = cloudpickle.loads(cloudpickle.dumps(work))
    assert (copy.name, copy.retries, copy.fn(2)) == ("local", 4, 6)


def test_hooks_that_were_added_by_decorators_travel_too() -> None:
    @task
    def work() -> None:
        pass

    @work.on_failure
    def hook(*_: Any) -> None:
        pass

    assert len(cloudpickle.loads(cloudpickle.dumps(work)).on_failure_hooks) == 1
    assert len(work.with_options(name="x").on_failure_hooks) == 1


class Model:
    """Has tasks for methods, of every kind."""

    factor = 3

    @task
    def scale(self, x: int) -> int:
        return self.factor * x

    @task
    @classmethod
    def of_class(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @task
    @staticmethod
    def of_none(x: int) -> int:
        return -x

    @staticmethod
    @task
    def inside_static(x: int) -> int:
        return x + 10


def test_a_task_can_be_a_method_called_submitted_and_mapped() -> None:
    model = Model()
    model.factor = 5

    @flow
    def main() -> Any:
        return model.scale(1), model.scale.submit(2).result(), model.scale.map([1, 2]).result()

    assert main() == (5, 10, [5, 10])
    assert Model.scale(model, 2) == 10
    assert model.scale.with_options(name="other").submit(1).task_run.task_name == "other"


def test_a_task_can_be_a_class_method_or_a_static_method() -> None:
    for owner in (Model, Model()):
        assert owner.of_class(1) == ("Model", 1)
        assert owner.of_none(2) == -2
        assert owner.inside_static.map([1, 2]).result() == [11, 12]


def test_a_method_that_is_a_task_travels_with_its_object() -> None:
    model = Model()
    model.factor = 7
    assert cloudpickle.loads(cloudpickle.dumps(model.scale))(2) == 14


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": "gpu"}, "tags must be a list of texts, such as ['gpu']"),
        ({"tags": [1]}, "tags must be texts, and 1 is none"),
        ({"name": 3}, "name must be text, not 3"),
        ({"description": 3}, "description must be text"),
        ({"log_prints": "no"}, "log_prints must be True or False, not 'no'"),
        ({"task_run_name": 5}, "Expected string or callable for 'task_run_name'; got int"),
        ({"timeout_seconds": float("inf")}, "beyond all clocks; leave it out for none"),
        ({"retry_delay_seconds": float("inf")}, "retry_delay_seconds must be seconds"),
    ],
)
def test_an_option_of_a_wrong_kind_is_refused_at_the_decorator(options: Any, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        task(**options)(lambda: 1)
    assert message in str(caught.value)


@pytest.mark.parametrize("template", ["{x.bad}", "{x!z}", "{x:>q}", "{x"])
def test_a_template_that_cannot_be_filled_in_is_shown_with_the_reason(template: str) -> None:
    named = task(task_run_name=template)(lambda x: x)
    with pytest.raises(ParameterError, match=r"run name '.*' of task '<lambda>' cannot be made: "):
        named(1)


def test_the_name_of_a_run_is_one_line_however_its_parameters_look() -> None:
    named = task(task_run_name="run {x}")(lambda x: x)
    assert named.submit("a\nb\t\x1b[31mc").task_run.name == "run a b [31mc"
    assert len(named.submit("x" * 5000).task_run.name) == 201


def test_one_future_can_be_waited_for_without_a_list_around_it() -> None:
    @flow
    def main() -> Any:
        late = add.submit(1, wait_for=fail.submit())
        late.wait()
        return late.state.name, add.submit(1, wait_for=add.submit(1)).result()

    assert main() == ("NotReady", 2)
