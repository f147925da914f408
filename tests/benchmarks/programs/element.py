"""Map a task of an importable module twice, so that its elements can be run again."""

from noop_tasks import noop

from hpc_flows import flow


@flow
def many() -> None:
    """Map the task."""
    noop.map(range(2)).wait()


if __name__ == "__main__":
    many()
