"""Tasks that are called one after the other; one takes any number of arguments."""

import random

import numpy as np

from hpc_flows import flow, task


@task
def draw(low=1, high=6) -> int:
    """Return a number of a die."""
    return random.randint(low, high)


@task
def add(first: int, second: int) -> int:
    """Return the sum of two numbers."""
    return first + second


@task
def multiply(first: int, second: int) -> int:
    """Return the product of two numbers."""
    return first * second


@task
def mean(*numbers: int) -> float:
    """Return the mean of some numbers."""
    return np.mean(numbers)


@flow
def dice():
    """Return a few sums on numbers that are always the same."""
    one = draw(4, 4)
    two = draw(high=5, low=5)
    three = draw(6, 6)
    return multiply(three, add(one, two)), mean(one, two, three)


if __name__ == "__main__":
    product, average = dice()
    print(f"product={product} average={average}")
