"""A named flow with logged prints that returns a dict, and a task with retries and a cache."""

from hpc_flows import flow, task
from hpc_flows.tasks import task_input_hash


@task(retries=3, retry_delay_seconds=0.1, cache_key_fn=task_input_hash)
def process(data: dict) -> dict:
    """Return a dict of as many items."""
    return {key: value * 2 for key, value in data.items()}


@flow(name="my-flow", log_prints=True)
def my_flow(param: str) -> dict:
    """Return how it went."""
    print(f"Running with {param}")
    return {"status": "success", "data": process({param: 21})}


if __name__ == "__main__":
    print(my_flow("x"))
    print(my_flow(param="x"))
