"""Time limits of tasks: enough for three of them, and too little for the fourth."""

import time

from hpc_flows import flow, task


@task(timeout_seconds=60)
def extract():
    """Return some numbers."""
    return [1, 2, 3]


@task(timeout_seconds=60)
def transform(numbers):
    """Return them doubled."""
    return [2 * number for number in numbers]


@task(timeout_seconds=60)
def load(numbers):
    """Return how many there are."""
    print(f"loaded {numbers}")
    return len(numbers)


@task(timeout_seconds=1)
def stuck():
    """Take much longer than it may."""
    time.sleep(600)


@flow
def within_limits():
    """Return how many numbers were loaded."""
    return load(transform(extract()))


@flow
def over_the_limit():
    """Fail."""
    stuck()


if __name__ == "__main__":
    print(f"result={within_limits()}")
    state = over_the_limit(return_state=True)
    print(f"failed={state.is_failed()}")
    try:
        over_the_limit()
    except TimeoutError as error:
        print(f"{type(error).__name__}: {error}")
