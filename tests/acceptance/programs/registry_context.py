"""What surrounds a run: ids and names, variables, artifacts, and a transaction that is undone."""

import os

from hpc_flows import flow, runtime, task
from hpc_flows.artifacts import create_markdown_artifact, create_table_artifact
from hpc_flows.cache_policies import INPUTS
from hpc_flows.context import get_run_context
from hpc_flows.transactions import transaction
from hpc_flows.variables import Variable


@task(task_run_name="name-of-{number}")
def names(number: int):
    """Return names of the runs around it."""
    return runtime.task_run.name, runtime.flow_run.flow_name, get_run_context().task_run.name


@task
def report(rows: list):
    """Leave two artifacts."""
    create_markdown_artifact(key="report", markdown=f"# {len(rows)} rows")
    create_table_artifact(key="rows", table=rows)


@task
def write(path: str):
    """Write a file."""
    with open(path, "w") as file:
        file.write("half done")


@write.on_rollback
def remove(txn):
    """Remove it when what follows fails."""
    os.unlink(os.path.abspath("result.txt"))


@task
def inspect(path: str):
    """Find fault with the file."""
    raise ValueError(f"{os.path.basename(path)} is no good")


@flow
def all_or_nothing(path: str):
    """Leave a whole file or none."""
    with transaction():
        write(path)
        inspect(path)


@task(cache_policy=INPUTS, persist_result=True)
def square(number: int):
    """Return a square; kept by its input."""
    with open("squares.txt", "a") as file:
        file.write(f"{number}\n")
    return number * number


@flow(persist_result=True)
def squares():
    """Return squares, of which two are of one number."""
    return [square(3), square(3), square(4)]


@flow
def around():
    """Return names and a variable."""
    report([{"row": 1}, {"row": 2}])
    return names(7), Variable.get("colour", default="none")


if __name__ == "__main__":
    print(around()[1])
    Variable.set("colour", "blue")
    print(around())
    try:
        all_or_nothing(os.path.abspath("result.txt"))
    except ValueError as error:
        print(f"{error}; left: {os.path.exists('result.txt')}")
    print(squares())
    with open("squares.txt") as file:
        print(file.read().split())
