"""The `@flow` decorator: options, parameters and names."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from hpc_flows import flow, tags, task
from hpc_flows.context import current
from hpc_flows.exceptions import (
    ParameterBindError,
    ParameterError,
    ParameterTypeError,
    ReservedArgumentError,
)
from hpc_flows.task_runners import ThreadPoolTaskRunner


@dataclass
class Point:
    x: int
    y: int = 0


@flow
def typed(
    number: int = 0,
    text: str = "",
    path: Path | None = None,
    many: list[int] | None = None,
    choice: Literal["a", "b"] = "a",
    point: Optional[Point] = None,  # noqa: UP045 - users write it
    anything: Any = None,
) -> Any:
    return number, text, path, many, choice, point, anything


def test_a_flow_looks_like_its_function() -> None:
    def my_flow() -> int:
        """Do it."""
        return 1

    made = flow(my_flow)
    assert (made.name, made.__name__, made.description) == ("my-flow", "my_flow", "Do it.")
    assert made.fn() == 1
    assert flow(name="other")(my_flow).name == "other"


def test_parameters_are_coerced_as_their_annotations_say() -> None:
    found = typed("3", path="/tmp", many=("1", 2), point={"x": "5"})
    assert found[0] == 3
    assert found[2] == Path("/tmp")
    assert found[3] == [1, 2]
    assert found[5] == Point(5)


def test_a_parameter_that_does_not_fit_is_named_with_what_was_given() -> None:
    with pytest.raises(
        ParameterTypeError, match=r"number: .*\(given: 'three', of type str\)"
    ) as caught:
        typed("three", choice="c")
    assert "choice: " in str(caught.value)
    assert typed("three", return_state=True).is_failed()


def test_a_default_is_taken_as_it_is_whatever_its_annotation() -> None:
    @flow
    def main(x: int = None, y: int = 1) -> Any:  # type: ignore[assignment]  # noqa: RUF013
        return x, y

    assert main(y="2") == (None, 2)


def test_a_text_that_is_a_default_becomes_what_its_annotation_says_if_it_can() -> None:
    @flow
    def main(
        folder: Path = "data",  # type: ignore[assignment]  # as users write it
        cells: int = "auto",  # type: ignore[assignment]  # as users write it
        steps: int = 1,
    ) -> Any:
        return folder, cells, steps

    assert main() == (Path("data"), "auto", 1)
    assert main(steps="2") == (Path("data"), "auto", 2)
    with pytest.raises(ParameterTypeError, match=r"cells: .*'many'"):
        main(cells="many")
    with pytest.raises(ParameterTypeError, match=r"steps: .*'many'"):
        main(steps="many")


def test_validation_can_be_switched_off() -> None:
    assert typed.with_options(validate_parameters=False)("three")[0] == "three"


def test_parameter_names_that_pydantic_reserves_are_fine() -> None:
    @flow
    def main(_hidden: int, model_config: int, schema: int = 1) -> Any:
        return _hidden, model_config, schema

    assert main("1", "2", schema="3") == (1, 2, 3)


def test_an_annotation_that_cannot_be_found_says_what_to_do() -> None:
    def main(x: int) -> int:
        return x

    main.__annotations__["x"] = "Nowhere"
    with pytest.raises(ParameterTypeError, match=r"Nowhere.*validate_parameters=False"):
        flow(main)("1")


def test_values_that_fit_need_no_pydantic(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from hpc_flows import flow\n"
        "@flow\n"
        "def main(n: int, s: 'str', x=None, o: int | None = None): return n\n"
        "main(3, 'a', o=2)\n"
        "assert 'pydantic' not in sys.modules and 'inspect' not in sys.modules\n"
    )
    subprocess.run([sys.executable, str(program)], check=True, timeout=60, capture_output=True)


def test_every_kind_of_parameter_reaches_the_function() -> None:
    @flow
    def main(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> Any:
        return a, b, rest, c, more

    assert main(1, 2, 7, 8, c=4, d=5) == (1, 2, (7, 8), 4, {"d": 5})


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterBindError, match=r"'nmber'.*Did you mean 'number'"):
        typed(nmber=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"persist_result": 1}, "persist_result must be True or False"),
        ({"log_print": True}, "Did you mean 'log_prints'"),
        ({"task_runner": "threads"}, "task_runner must be a TaskRunner"),
        ({"retries": "2"}, "retries must be a whole number"),
        ({"timeout_seconds": -1}, "timeout_seconds must be a positive number"),
        ({"on_crashed": print}, "'on_crashed'; got builtin_function_or_method"),
    ],
)
def test_a_wrong_option_is_refused_by_name_at_the_decorator(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=f"Flow 'main'.*{message}"):
        flow(name="main", **options)(lambda: None)


def test_a_runner_can_be_given_as_a_class_and_is_made_anew_for_each_run() -> None:
    seen = []

    @task
    def work() -> None:
        context = current()
        assert context is not None
        seen.append(context.slots[0])

    @flow(task_runner=ThreadPoolTaskRunner)
    def main() -> None:
        work.submit().wait()

    main()
    main()
    assert all(isinstance(pool, ThreadPoolTaskRunner) for pool in seen)
    assert seen[0] is not seen[1]


def test_runs_are_named_by_a_template_or_at_random() -> None:
    def name() -> Any:
        context = current()
        assert context is not None
        assert context.flow_run is not None
        return context.flow_run.name

    named = flow(flow_run_name="run-{x}")(lambda x: name())
    assert named(4) == "run-4"
    unnamed = flow(lambda: name())  # noqa: PLW0108 - of a flow's own
    assert unnamed() != unnamed()


def test_tags_add_up_from_blocks_flows_and_tasks() -> None:
    @task(tags=["own"])
    def work() -> Any:
        context = current()
        assert context is not None
        assert context.task_run is not None
        return context.task_run.tags

    @flow
    def inner() -> Any:
        context = current()
        assert context is not None
        assert context.flow_run is not None
        return context.flow_run.tags

    @flow
    def main() -> Any:
        with tags("b", "c") as all_tags:
            assert all_tags == {"a", "b", "c"}
            found = work(), work.submit().result(), inner()
        return *found, work()

    with tags("a"):
        assert main() == (
            ("a", "b", "c", "own"),
            ("a", "b", "c", "own"),
            ("a", "b", "c"),
            ("a", "own"),
        )


def test_the_entrypoint_names_file_and_function() -> None:
    assert typed.entrypoint == f"{__file__}:typed"


class Study:
    """Has flows for methods."""

    size = 2

    @flow
    def run(self, more: int = 0) -> int:
        return self.size + more

    @flow
    @classmethod
    def of_class(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @flow
    @staticmethod
    def of_none(x: int) -> int:
        return x


def test_a_flow_can_be_a_method() -> None:
    study = Study()
    assert (study.run(), study.run(more="3"), study.run.with_options(name="n")(1)) == (2, 5, 3)
    assert Study.run(study) == 2
    assert (study.of_class(1), Study.of_class(2)) == (("Study", 1), ("Study", 2))
    assert (study.of_none(3), Study.of_none(4)) == (3, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resources": {"cpus": 1}}, "Tasks ask for resources: @task(resources=...)"),
        ({"tags": ["a"]}, "`with tags(...):`"),
        ({"log_prints": 1}, "log_prints must be True or False"),
        ({"flow_run_name": 1}, "Expected string or callable for 'flow_run_name'"),
    ],
)
def test_options_that_belong_elsewhere_are_refused_with_the_way_there(
    options: Any, message: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        flow(**options)(lambda: 1)
    assert message in str(caught.value)


def test_a_parameter_that_calls_use_themselves_is_refused() -> None:
    def main(return_state: bool) -> bool:  # noqa: FBT001 - what is refused
        return return_state

    with pytest.raises(ReservedArgumentError, match="'return_state'"):
        flow(main)


def test_an_argument_too_many_is_told_in_one_sentence() -> None:
    @flow
    def main(number: int = 1) -> int:
        return number

    with pytest.raises(ParameterBindError) as caught:
        main(x=4)
    assert str(caught.value).endswith("unexpected keyword argument 'x'.")
