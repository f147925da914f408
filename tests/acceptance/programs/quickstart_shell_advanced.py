"""Shell commands in a folder of their own, chained, and with failures that are borne."""

import os

from hpc_flows import flow
from hpc_flows.shell import ShellOperation


@flow
def builds():
    """Return what a build and two pipelines print."""
    os.makedirs("work", exist_ok=True)
    build = ShellOperation(
        commands=["basename $PWD", "echo 'a warning' >&2"],
        working_dir="work",
        stream_output=True,
        return_all=True,
    )
    built = build()

    chain = ShellOperation(
        commands=["echo 'step 1'", "touch work/made", "echo 'step 2'", "ls -1 work"],
        stream_output=True,
        continue_on_error=False,
    )
    chained = chain()

    tolerant = ShellOperation(
        commands=["echo 'before'", "no_such_command_12345", "echo 'after'"],
        stream_output=True,
        continue_on_error=True,
    )
    borne = tolerant()

    strict = ShellOperation(
        commands=["echo 'before'", "no_such_command_12345", "echo 'after'"],
        stream_output=True,
    )
    try:
        strict()
    except Exception as error:
        print(f"stopped: {'return code 127' in str(error)}")
    return {"build": built, "chain": chained, "tolerant": borne}


if __name__ == "__main__":
    for name, text in builds().items():
        print(f"{name}: {text.split()}")
