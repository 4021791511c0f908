"""Imports run one way: a file imports from its own room or from an earlier group, and never across within a group."""

import ast
from pathlib import Path

SRC = Path(__file__).parent.parent / "src" / "torchmetrics_rl2"
ORDER = [
    {"errors", "_version", "rank_zero", "functional"},
    {"files", "ranks", "runtime"},
    {"storage"},
    {"pixels", "progress"},
    {"networks", "images", "distance"},
    {"weights"},
    {"encoder"},
    {"explaining"},
    {"scoring", "auditing", "quality"},
    {"reporting", "fitting", "screening", "metrics", "planning"},
    {"callbacks"},
    {"__init__", "cli"},
]
GROUP = {room: number for number, rooms in enumerate(ORDER) for room in rooms}


def room_of(module):
    """The room of a module below the package, such as ``weights`` of ``weights.file``."""
    return module.split(".")[0] or "__init__"


def imports_of(path, only_when_loaded=False):
    """Modules of this package that a file imports, without its name in front."""
    tree = ast.parse(path.read_text())
    for node in tree.body if only_when_loaded else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torchmetrics_rl2":
            inside = node.module.removeprefix("torchmetrics_rl2").removeprefix(".")
            names = [f"{inside}.{alias.name}".removeprefix(".") for alias in node.names]
            yield from (name if (SRC / f"{name.replace('.', '/')}.py").exists() else inside or name for name in names)


def files():
    return sorted(path for path in SRC.rglob("*.py"))


def test_every_room_has_a_place_in_the_order():
    assert {room_of(str(path.relative_to(SRC).with_suffix("")).replace("/", ".")) for path in files()} == GROUP.keys()


def test_imports_run_one_way():
    upward = []
    for path in files():
        own = room_of(str(path.relative_to(SRC).with_suffix("")).replace("/", "."))
        for module in imports_of(path):
            room = room_of(module) if own != "cli" or room_of(module) in GROUP else "__init__"
            if room != own and not GROUP[room] < GROUP[own] and own != "cli":
                upward.append(f"{path.relative_to(SRC)} imports {module}")
    assert not upward


def test_no_file_takes_part_in_a_circle():
    graph = {}
    for path in files():
        name = str(path.relative_to(SRC).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        graph[name] = {module for module in imports_of(path, only_when_loaded=True) if module != name}
    left = {name: {other for other in needs if other in graph} for name, needs in graph.items()}
    while free := [name for name, needs in left.items() if not needs]:
        left = {name: needs.difference(free) for name, needs in left.items() if name not in free}
    assert not left


def test_the_face_of_fitting_loads_no_lightning():
    waiting, seen = ["fitting/__init__.py"], set()
    while waiting:
        path = SRC / waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "lightning" for name in names), path
        waiting += [
            module.replace(".", "/") + ".py" for module in imports_of(path, True) if module.startswith("fitting.")
        ]


def test_no_file_is_a_hall():
    """A file past 300 lines is a sign that two things live in it; these have a reason."""
    long = {str(path.relative_to(SRC)) for path in files() if len(path.read_text().splitlines()) > 300}
    # Each is one class: all that torchmetrics lets a metric override, and the docstring that is its contract.
    assert long <= {"metrics/network_metric.py", "metrics/resnet_l2.py"}
