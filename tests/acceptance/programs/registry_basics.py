"""Loggers, parameters that are converted, subflows, hooks, and coroutines."""

import asyncio

from hpc_flows import State, flow, get_run_logger, tags, task
from hpc_flows.tasks import exponential_backoff


@task
def extract(url: str):
    """Return how many records there are."""
    get_run_logger().info(f"extracting from {url}")
    return {"records": 100, "source": url}


@task(name="transform-records", tags=["etl"], retries=1, log_prints=True)
def transform(raw: dict):
    """Return half of the records."""
    print(f"transforming {raw['records']}")
    return {"records": raw["records"] // 2, "source": raw["source"]}


@task(retries=2, retry_delay_seconds=exponential_backoff(backoff_factor=0.1))
def load(records: dict):
    """Return a sentence."""
    get_run_logger().warning("loading %s", records["records"])
    return f"{records['records']} records of {records['source']}"


@flow(name="etl", description="Extract, transform, load.", version="1.0")
def etl(url: str, times: int = 1):
    """Return one sentence for each time."""
    with tags("nightly"):
        return [load(transform(extract(url))) for _ in range(times)]


def tell(flow, flow_run, state: State):
    """Say how a flow has ended."""
    print(f"{flow.name} ended as {state.name}: {flow_run.name}")


@flow(flow_run_name="parent-of-{count}", on_completion=[tell], on_failure=[tell])
def parent(count: int):
    """Return what subflows return."""
    return [etl(f"db{number}", times="1") for number in range(count)]


@task
async def wait_a_little(number: int):
    """Return a number, a little later."""
    await asyncio.sleep(0.01)
    return number


@flow
async def at_once():
    """Return numbers of tasks that are awaited together."""
    return await asyncio.gather(*[wait_a_little(number) for number in range(3)])


if __name__ == "__main__":
    print(parent(2))
    print(asyncio.run(at_once()))
