"""Shell commands: one, several, one with a variable, and the words of what they print."""

import os

from hpc_flows import flow
from hpc_flows.shell import ShellOperation


@flow
def commands(filename: str = "lines.txt"):
    """Return what some commands print."""
    greeting = ShellOperation(commands=["echo 'Good morning'"], stream_output=True)
    answer = greeting()
    print(f"greeting: {answer}")

    count = ShellOperation(commands=[f"wc -l {filename}"], stream_output=True)
    lines = int(count().split()[0])
    print(f"{filename} has {lines} lines")

    where = ShellOperation(commands=["pwd", "ls"], stream_output=True)
    folder = where()
    print(f"here: {folder.splitlines()[-1]}")

    variable = ShellOperation(
        commands=["echo $COLOUR"], env={"COLOUR": "deep blue"}, stream_output=True
    )
    colour = variable()
    print(f"colour: {colour}")
    return {"answer": answer, "lines": lines, "colour": colour}


if __name__ == "__main__":
    with open("lines.txt", "w") as file:
        file.write("one\ntwo\nthree\n")
    print(commands("lines.txt"))
    os.unlink("lines.txt")
