"""A flow's definition as data, written as JSON and read again."""

import json

from hpc_flows import flow


@flow
def workflow(source: str, limit: int = 10):
    """Copy something, up to a limit."""
    return [source] * limit


if __name__ == "__main__":
    with open("definition.json", "w") as file:
        json.dump(workflow.model_dump(), file, indent=2)
    with open("definition.json") as file:
        definition = json.load(file)
    print(definition["name"])
    print(definition["description"])
    print(sorted(definition["parameters"]["properties"]))
    print(definition["parameters"]["required"])
    print(workflow("x", limit=2))
