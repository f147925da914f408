"""Results that are kept and found again."""

import os

from hpc_flows import flow, task
from hpc_flows.tasks import task_input_hash

NOTES = os.path.abspath("notes.txt")


def note(text):
    """Write down that something was computed, wherever that is."""
    with open(NOTES, "a") as file:
        file.write(f"{text}\n")


@task(cache_key_fn=task_input_hash, cache_expiration_seconds=3600)
def extract(source: str):
    """Return numbers of a source; kept for an hour."""
    note(f"extract {source}")
    return [1, 2, 3]


@task(cache_key_fn=task_input_hash)
def transform(numbers, factor: int):
    """Return the numbers times a factor; kept for good."""
    note(f"transform {factor}")
    return [number * factor for number in numbers]


@task
def load(numbers):
    """Return the sum; computed each time."""
    note(f"load {numbers}")
    return sum(numbers)


@flow
def pipeline(source: str = "database", factor: int = 2):
    """Return a sum."""
    return load(transform(extract(source), factor))


if __name__ == "__main__":
    print([pipeline("database", 2), pipeline("database", 2), pipeline("database", 3)])
    with open(NOTES) as file:
        print(file.read(), end="")
