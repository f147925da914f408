"""The same by `submit`: what depends on nothing runs at the same time."""

import numpy as np

from hpc_flows import flow, task


@task
def number(value: int) -> int:
    """Return a number."""
    print(f"number: {value}")
    return value


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


@flow(name="dice at once", log_prints=True)
def dice():
    """Return futures of sums."""
    one = number.submit(4)
    two = number.submit(5)
    three = number.submit(6)
    product = multiply.submit(three, add.submit(one, two))
    average = mean.submit(one, two, three)
    return product.result(), average.result()


@flow(name="states of dice")
def handed_back():
    """Return the futures themselves."""
    one = number.submit(4)
    return add.submit(one, 1), multiply.submit(one, 2)


if __name__ == "__main__":
    product, average = dice()
    print(f"product={product} average={average}")
    total, double = handed_back()
    print(f"total={total} double={double}")
