"""Map a task of the script itself twice, so that its elements can be run again."""

from hpc_flows import Resources, flow, task


@task(resources=Resources(cpus=1, memory="100MB", walltime="10m"))
def noop(number: int) -> int:
    """Return the number."""
    return number


@flow
def many() -> None:
    """Map the task."""
    noop.map(range(2)).wait()


if __name__ == "__main__":
    many()
