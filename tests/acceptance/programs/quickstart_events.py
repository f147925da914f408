"""Events of one's own, from tasks and from the flow."""

from hpc_flows import flow, task
from hpc_flows.events import emit_event


@task
def extract():
    """Return numbers, and tell so."""
    numbers = [1, 2, 3]
    emit_event(
        event="numbers.extracted",
        resource={"prefect.resource.id": "extract-task"},
        payload={"count": len(numbers)},
    )
    return numbers


@task
def load(numbers):
    """Return the sum of numbers that are small, and tell so."""
    if max(numbers) > 2:
        raise ValueError("too large")
    return sum(numbers)


@flow
def pipeline(limit: int):
    """Return a sum, or tell why there is none."""
    try:
        total = load([number for number in extract() if number <= limit])
        emit_event(
            event="pipeline.completed",
            resource={"prefect.resource.id": "pipeline"},
            payload={"total": total},
        )
        return total
    except Exception as error:
        emit_event(
            event="pipeline.failed",
            resource={"prefect.resource.id": "pipeline"},
            payload={"error": str(error)},
        )
        raise


if __name__ == "__main__":
    print(f"total={pipeline(2)}")
    try:
        pipeline(3)
    except ValueError as error:
        print(f"failed: {error}")
