"""Futures: submitted by keyword, asked one by one, failures skipped, the rest put together."""

from datetime import timedelta
from typing import Any

from hpc_flows import flow, task


@task(retries=2, retry_delay_seconds=0.1)
def fetch(source_id: int) -> dict[str, Any]:
    """Return the record of a source; the third has none."""
    if source_id == 2:
        raise LookupError(f"no record of {source_id}")
    return {"source_id": source_id, "data": 100 + source_id}


@task
def process(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record with one more field."""
    data["doubled"] = data["data"] * 2
    return data


@task(cache_expiration=timedelta(hours=10))
def aggregate(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum and the sources of records."""
    return {
        "total": sum(result["doubled"] for result in results),
        "sources": [result["source_id"] for result in results],
    }


@task
def save(aggregated: dict[str, Any]) -> str:
    """Return what was saved."""
    return f"saved {aggregated['total']} of {len(aggregated['sources'])} sources"


@flow(name="data-of-many-sources")
def many_sources(count: int = 4):
    """Return what was saved of the sources that could be fetched."""
    fetched = [fetch.submit(source_id=number) for number in range(count)]
    processed = []
    for future in fetched:
        try:
            processed.append(process.submit(data=future.result()))
        except Exception as error:
            print(f"skipped: {error}")
    results = [future.result() for future in processed]
    aggregated = aggregate.submit(results=results)
    return save(aggregated=aggregated.result())


if __name__ == "__main__":
    print(many_sources(count=4))
