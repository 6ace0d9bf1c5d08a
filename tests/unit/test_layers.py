"""The folders of the package are floors: a module imports from its own and from lower ones, and none in a circle."""

import ast
import graphlib
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"
# From the lowest. What stands together on a floor does not import each other.
FLOORS = [
    {"errors", "commands", "texts", "terminal"},
    {"config", "storage", "postprocess"},
    {"runtime"},
    {"dataset", "models"},
    {"training", "ensemble"},
    {"inference"},
    {"studies", "provenance"},
    {"report", "trackers"},
    {"bundle"},
    {"workflow"},
    {"config_files", "__init__"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    """Return the file of each module of the package by its name."""
    return {
        ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SCRIPTS.glob("cloudseg/**/*.py")
    }


def imports(path, known, *, anywhere):
    """Return the modules of the package that a file imports, at its top or anywhere in it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield from {f"{node.module}.{alias.name}", node.module} & known.keys()
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & known.keys()


def room(module):
    """Return the folder of a module, or its own name where it lies beside the folders."""
    return [*module.split("."), "__init__"][1]


def test_every_folder_has_a_floor():
    assert {room(module) for module in modules()} == FLOOR.keys()


def test_no_module_imports_from_a_higher_floor_nor_from_a_neighbour():
    known = modules()
    wrong = [
        f"{module} imports {other}"
        for module, path in known.items()
        for other in imports(path, known, anywhere=True)
        if other != "cloudseg" and room(other) != room(module) and FLOOR[room(other)] >= FLOOR[room(module)]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    known = modules()
    graph = {
        module: {other for other in imports(path, known, anywhere=False) if not module.startswith(other)}
        for module, path in known.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle
