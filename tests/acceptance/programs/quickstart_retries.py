"""Tasks that fail at first and are tried again."""

import os
import tempfile

from hpc_flows import flow, task


@task(retries=3, retry_delay_seconds=0.1)
def extract(notes: str):
    """Fail twice; the tries are counted in a file, because each may be another process."""
    with open(notes, "a") as file:
        file.write("x")
    tries = os.path.getsize(notes)
    if tries < 3:
        raise RuntimeError(f"try {tries} failed")
    return tries


@task(retries=2, retry_delay_seconds=[0.1, 0.2])
def transform(tries):
    """Return a sentence."""
    return f"worked at try {tries}"


@task(retries=1)
def hopeless():
    """Fail always."""
    raise ValueError("no way")


@flow
def pipeline(notes: str):
    """Return what came out at last."""
    return transform(extract(notes))


@flow
def in_vain():
    """Fail after one retry."""
    hopeless()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(pipeline(os.path.abspath(f"{folder}/tries")))
    try:
        in_vain()
    except ValueError as error:
        print(f"in vain: {error}")
