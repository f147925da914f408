"""Measure every module of Python's standard library, each part of it in a job of its own.

::

    hpc-flows demo                                             # this, explained as it goes
    hpc-flows run stdlib_census.py --cluster mock              # on a pretend cluster
    hpc-flows run stdlib_census.py --cluster afton -p source=~/my/project

The parts ask for different pieces of the cluster: a chunk of small modules for one cpu, a large
package for four, and the task that holds the import graph of everything for much memory (far more
than it needs: it is here to be sent to another kind of node).
"""

from __future__ import annotations

import ast
import csv
import html
import multiprocessing
import os
import platform
import sysconfig
from collections import Counter, defaultdict
from typing import Any

from hpc_flows import Resources, flow, task

SMALL = Resources(cpus=1, memory="1GB", walltime="10m")
LARGE = Resources(cpus=4, memory="8GB", walltime="20m")
GRAPH = Resources(cpus=1, memory="400GB", walltime="10m")

CHUNK = 100_000  # bytes of source that make a part, where modules stand alone
LARGE_PART = 200_000  # bytes of source from which on a part is measured by four processes
NOT_COUNTED = {"__pycache__", "idle_test", "test", "tests"}  # besides what cannot be imported
LOOPS = ast.For | ast.AsyncFor | ast.While | ast.comprehension
BRANCHES = LOOPS | ast.If | ast.IfExp | ast.Assert | ast.ExceptHandler | ast.BoolOp | ast.match_case
Function = ast.FunctionDef | ast.AsyncFunctionDef
SUMS = ("lines", "classes", "functions", "complexity", "public", "documented")
Row = dict[str, Any]


def find_modules(source: str) -> dict[str, list[str]]:
    """Return the Python files under a folder by their top-level module or package."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder, inner, files in os.walk(source):
        inner[:] = sorted(name for name in set(inner) - NOT_COUNTED if name.isidentifier())
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.relpath(os.path.join(folder, name), source)
                found[path.split(os.sep)[0].removesuffix(".py")].append(path)
    return found


def make_parts(source: str) -> list[list[str]]:
    """Cut a source tree into parts: each package is one, lone modules share one."""
    parts: list[list[str]] = []
    chunk: list[str] = []
    for files in find_modules(source).values():
        if len(files) > 1:
            parts.append(files)
            continue
        chunk += files
        if size_of(source, chunk) > CHUNK:
            parts.append(chunk)
            chunk = []
    return [*parts, chunk] if chunk else parts


def size_of(source: str, files: list[str]) -> int:
    """Return the size of some files in bytes."""
    return sum(os.path.getsize(os.path.join(source, name)) for name in files)


def measure_module(source: str, path: str) -> Row:
    """Parse one file and count what is in it."""
    name = path.removesuffix(".py").removesuffix("__init__").strip(os.sep).replace(os.sep, ".")
    with open(os.path.join(source, path), "rb") as file:
        text = file.read()
    row: Row = {"module": name or "__init__", "lines": text.count(b"\n")}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:  # some trees hold files that are wrong on purpose
        return row | {"not_parsed": str(error)}
    above = os.path.basename(source) if os.path.exists(os.path.join(source, "__init__.py")) else ""
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    public = [each for each in functions if not each.name.startswith("_")]
    longest = max(functions, key=length, default=None)
    return row | {
        "classes": sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        "functions": len(functions),
        "public": len(public),
        "documented": sum(ast.get_docstring(each, clean=False) is not None for each in public),
        "complexity": sum(map(complexity, functions)),
        "longest": longest.name if longest else "",
        "longest_lines": length(longest) if longest else 0,
        "imports": sorted(other.removeprefix(f"{above}.") for other in imports(tree, package)),
    }


def length(function: Function) -> int:
    """Return the number of lines of a function."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def complexity(function: Function) -> int:
    """Return the number of ways through a function (McCabe's, about)."""
    return 1 + sum(isinstance(node, BRANCHES) for node in ast.walk(function))


def imports(tree: ast.Module, package: str) -> set[str]:
    """Return the names that a module imports as soon as it is imported itself."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".") if package else []
            outer = outer[: len(outer) - node.level + 1] if node.level else []
            start = ".".join([*outer, node.module] if node.module else outer)
            names.update([start, *(f"{start}.{alias.name}".strip(".") for alias in node.names)])
    return names


@task(retries=1, task_run_name="measure {files[0]}")
def measure(source: str, files: list[str]) -> list[Row]:
    """Measure the files of one part, with as many processes as the job has cpus."""
    processes = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    if processes == 1:
        return [measure_module(source, path) for path in files]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return pool.starmap(measure_module, [(source, path) for path in files], chunksize=8)


@task(resources=GRAPH, log_prints=True)
def import_graph(parts: list[list[Row]]) -> Row:
    """Follow all imports: what is imported most, what drags most behind it, what is circular."""
    rows = {row["module"]: row for part in parts for row in part}
    edges = {
        name: {other for other in row.get("imports", ()) if other in rows and other != name}
        for name, row in rows.items()
    }
    reach = {name: reachable(name, edges) for name in edges}
    circles = [{other for other in reach[name] if name in reach[other]} for name in edges]
    largest = max(circles, key=len, default=set())
    node = os.environ.get("SLURMD_NODENAME", platform.node())
    print(f"{len(edges)} modules and {sum(map(len, edges.values()))} imports, followed on {node}")
    return {
        "most imported": Counter(other for seen in edges.values() for other in seen).most_common(4),
        "import most": Counter({name: len(seen) for name, seen in reach.items()}).most_common(4),
        "largest circle": sorted(largest),
    }


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Return every module that importing one of them imports."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        new = edges[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


@task
def summarise(parts: list[list[Row]]) -> list[Row]:
    """Add up the modules of each package, the largest first."""
    packages: dict[str, list[Row]] = defaultdict(list)
    for row in (row for part in parts for row in part):
        packages[row["module"].partition(".")[0]].append(row)
    return sorted((add_up(*item) for item in packages.items()), key=lambda row: -row["lines"])


def add_up(package: str, rows: list[Row]) -> Row:
    """Return the sums of a package's modules, and its longest function."""
    longest = max(rows, key=lambda row: row.get("longest_lines", 0))
    return {
        "package": package,
        "modules": len(rows),
        **{column: sum(row.get(column, 0) for row in rows) for column in SUMS},
        "longest": longest.get("longest", ""),
        "longest_lines": longest.get("longest_lines", 0),
        "not_parsed": sum("not_parsed" in row for row in rows),
    }


@task
def write_files(packages: list[Row], folder: str, title: str) -> list[str]:
    """Write the table as CSV and the chart as SVG, and return where."""
    os.makedirs(folder, exist_ok=True)
    table, chart = os.path.join(folder, "census.csv"), os.path.join(folder, "census.svg")
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(packages[0]))
        writer.writeheader()
        writer.writerows(packages)
    with open(chart, "w", encoding="utf-8") as file:
        file.write(draw_svg(packages[:30], title))
    return [table, chart]


def share(row: Row) -> float:
    """Return which share of a package's public functions has a docstring, from 0 to 1."""
    return float(row["documented"] / row["public"]) if row["public"] else 0.0


def draw_svg(packages: list[Row], title: str) -> str:
    """Draw lines of code as bars; the greener, the more of its functions are documented."""
    longest = max(packages[0]["lines"], 1)
    size = f'width="760" height="{20 * len(packages) + 50}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<text x="10" y="22" font-size="15">{html.escape(title)}</text>',
    ]
    for at, row in enumerate(packages):
        y, width, name = 20 * at + 54, 460 * row["lines"] / longest, html.escape(row["package"])
        colour = f"hsl({120 * share(row):.0f},55%,50%)"
        label = f"{row['lines']:,} lines, {share(row):.0%} documented"
        lines += [
            f'<text x="140" y="{y}" text-anchor="end">{name}</text>',
            f'<rect x="148" y="{y - 12}" width="{width:.1f}" height="15" fill="{colour}"/>',
            f'<text x="{154 + width:.1f}" y="{y}" fill="#555">{label}</text>',
        ]
    return "\n".join([*lines, "</svg>\n"])


def show(packages: list[Row], graph: Row, top: int) -> None:
    """Print the largest packages, a bar for each, and what the import graph says."""
    longest = max(packages[0]["lines"], 1)
    print(f"\n{'package':<16}{'lines':>8} {'functions':>9} {'ways each':>9} {'documented':>10}")
    for row in packages[:top]:
        mean = row["complexity"] / max(row["functions"], 1)
        print(
            f"{row['package']:<16.15}{row['lines']:>8,} {row['functions']:>9,}"
            f" {mean:>9.1f} {share(row):>10.0%}  {'#' * round(24 * row['lines'] / longest)}"
        )
    total = add_up("all", packages)
    print(f"{'all ' + str(len(packages)):<16}{total['lines']:>8,} {total['functions']:>9,}")
    print("Imported by most:", ", ".join(f"{n} ({c})" for n, c in graph["most imported"]))
    print("Import the most: ", ", ".join(f"{n} ({c})" for n, c in graph["import most"]))
    circle = graph["largest circle"]
    print(f"Largest import circle: {len(circle)} modules: {', '.join(circle[:6]) or 'none'} ...")
    longest_function = max(packages, key=lambda row: row["longest_lines"])
    print(
        "Longest function: {longest} in {package}, {longest_lines} lines".format(**longest_function)
    )


@flow
def census(source: str | None = None, folder: str = ".", top: int = 15) -> Row:
    """Measure a source tree and write census.csv and census.svg.

    Args:
        source: folder of Python source; the standard library when left out.
        folder: where the files are written.
        top: how many packages are printed.
    """
    source = os.path.abspath(os.path.expanduser(source or sysconfig.get_path("stdlib")))
    parts = make_parts(source)
    if not parts:
        raise FileNotFoundError(f"There is no Python file under {source}.")
    large = [part for part in parts if size_of(source, part) >= LARGE_PART]
    small = [part for part in parts if part not in large]
    measured = [
        *measure.with_options(resources=LARGE).map(source, large),
        *measure.with_options(resources=SMALL).map(source, small),
    ]
    graph, packages = import_graph.submit(measured), summarise.submit(measured)
    files = write_files.submit(packages, os.path.abspath(folder), f"Packages of {source}")
    show(packages.result(), graph.result(), top)
    print("Written:", *files.result())
    return {"packages": len(packages.result()), "parts": len(parts), "files": files.result()}


if __name__ == "__main__":
    census()
