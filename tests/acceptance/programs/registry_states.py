"""States: asked for, returned by hand, and put together."""

from hpc_flows import allow_failure, flow, task, unmapped
from hpc_flows.futures import as_completed, wait
from hpc_flows.states import Completed, Failed


@task
def check(number: int):
    """Return a state of one's own making."""
    if number < 0:
        return Failed(message=f"{number} is negative")
    return Completed(message="fine", data=number)


@task
def scale(number: int, factor: int):
    """Return a product."""
    return number * factor


@task
def clean_up(what):
    """Return what it was given, in words."""
    return type(what).__name__


@flow
def checked(number: int):
    """End as the check has ended."""
    return check(number, return_state=True)


@flow
def scaled():
    """Return products, and what comes after a failure."""
    futures = scale.map([1, 2, 3], factor=unmapped(10))
    done, not_done = wait(futures)
    products = sorted(future.result() for future in as_completed(futures))
    bad = check.submit(-1)
    after = clean_up.submit(allow_failure(bad), wait_for=[futures[0]])
    return len(done), len(not_done), products, after.result(), bad.state.is_failed()


if __name__ == "__main__":
    good, bad = checked(1, return_state=True), checked(-1, return_state=True)
    print(good.name, good.type.value, good.is_completed(), good.message)
    print(bad.name, bad.type.value, bad.is_failed(), bad.message)
    state = checked(5)
    print(state, state.result())
    *rest, after, failed = scaled(return_state=True).result(raise_on_failure=False)
    print(rest, after, failed)
