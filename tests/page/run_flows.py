"""A flow with something of everything that the page of a run shows; run as a program.

It needs a home and a cluster in its environment, and prints nothing that a test reads.
"""

from __future__ import annotations

from hpc_flows import Resources, flow, get_run_logger, tags, task
from hpc_flows.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)

SMALL = Resources(cpus=1, memory="64MB", walltime="5m")
#: Names and texts that would do something if they were ever taken for more than text.
MARKUP = "<img src=x onerror=alert(1)>"
LONG = "long-" + 2000 * "name-" + "end"
BACKWARDS = "\u202esdrawkcab"

MARKDOWN = f"""# Results

The *best* model is **number 7**.

| model | loss |
|---|---|
| 7 | 0.1 |

[page](https://example.org/data) and [trap](javascript:alert(1)) and {MARKUP}
"""


@task
def prepare(number: int) -> int:
    get_run_logger().info("preparing %d", number)
    return number


@task(resources=SMALL)
def train(number: int) -> int:
    print(f"\x1b[32mtraining {number}\x1b[0m {MARKUP}")  # noqa: T201 - its job's output
    return number * number


@task(retries=1)
def fail_at_two(number: int) -> int:
    if number == 2:
        raise ValueError(f"no result for {number}\n{MARKUP}")
    return number


@task(task_run_name="{name}")
def named(name: str) -> str:
    return name


@task
def collect(numbers: list[int]) -> int:
    create_markdown_artifact(MARKDOWN, key="results", description="What came *out*.")
    create_table_artifact([{"model": 7, "loss": 0.1, "note": MARKUP}], key="table")
    create_link_artifact("https://example.org/more", "more", key="link")
    create_progress_artifact(62.5, key="progress")
    create_image_artifact("https://example.org/picture.png", key="image")
    return sum(numbers)


@flow
def report(total: int) -> int:
    return collect([total])


@flow(flow_run_name="everything")
def everything(samples: int = 4, text: str = MARKUP) -> int:
    log = get_run_logger()
    log.warning("a warning with %s", MARKUP)
    with tags("paper"):
        prepared = prepare.map(range(samples))
        trained = train.map(prepared)
        states = [fail_at_two.submit(number, return_state=False) for number in range(3)]
    for state in states:
        state.wait()
    for name in (MARKUP, LONG, BACKWARDS):
        named(name)
    return report(sum(trained.result()))


if __name__ == "__main__":
    everything()
