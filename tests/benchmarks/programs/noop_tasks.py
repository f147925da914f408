"""A task in a module of its own, as a user's package has them."""

from hpc_flows import Resources, task


@task(resources=Resources(cpus=1, memory="100MB", walltime="10m"))
def noop(number: int) -> int:
    """Return the number."""
    return number
