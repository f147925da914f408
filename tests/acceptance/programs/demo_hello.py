"""A flow, then tasks in it, then the same tasks at once."""

from hpc_flows import flow, task


@task
def make_hello() -> str:
    """Return a word."""
    return "hello"


@task
def make_world() -> str:
    """Return another word."""
    return "world"


@flow
def hello_flow():
    """Print a line."""
    print("Hello, flow!")


@flow
def hello_tasks():
    """Print what two tasks return."""
    hello = make_hello()
    world = make_world()
    print(f"{hello}, {world}!")


@flow
def parallel_tasks():
    """Print what two tasks return that run at the same time."""
    hello = make_hello.submit()
    world = make_world.submit()
    print(f"{hello.result()}, {world.result()} at once!")


if __name__ == "__main__":
    hello_flow()
    hello_tasks()
    parallel_tasks()
