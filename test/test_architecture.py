# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: maths inside, ROS outside. Reads every import of the package, also those inside functions.

And tests ask for public names only.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "st3r_ros").rglob("*.py"))
TESTS = sorted((ROOT / "test").rglob("*.py"))

BASE = {"errors", "config", "types"}
# Part of the package -> the parts it may import at run time, besides itself. Top-level modules that are not named here (cli,
# sequences, ...) are entry points: they may import everything but ros.
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "frame_names": set(),
    "config": {"errors", "frame_names"},
    "types": {"errors", "config"},
    "geometry": BASE,
    "network": BASE,
    "checkpoints": BASE | {"network", "io"},
    "pair": BASE | {"geometry", "network", "checkpoints"},
    "solver": BASE | {"geometry"},
    "slam": BASE | {"geometry", "solver"},
    "sim": BASE | {"geometry"},
    "io": BASE | {"geometry"},
    "eval": BASE | {"geometry", "io"},
    "products": BASE | {"geometry", "slam"},
    "maps": BASE | {"geometry", "slam", "products", "io"},
    "viewer": BASE | {"geometry", "slam", "products", "maps"},
}
# Modules that import nothing of the package: mathematics that every part which may import something may use.
FOR_ALL = {"st3r_ros.solver.damped"}
# What `st3r --help` and scripts load must start fast.
LIGHT = {"st3r_ros", "st3r_ros.config", "st3r_ros.types", "st3r_ros.cli", "st3r_ros.geometry.transforms"}
ROS_PACKAGES = ("rclpy", "rcl_interfaces", "rosidl", "builtin_interfaces", "unique_identifier_msgs", "ament_", "launch", "tf2_")
PUBLIC_ALL_THE_SAME = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""What named tuples and `os` have, documented as public."""
BY_NAME = {"setattr", "getattr", "delattr", "hasattr"}


def part_of(module: str) -> str:
    """The part of the package that a dotted name `st3r_ros.part...` belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def dotted_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node` that can run, so without the bodies of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (inner for branch in child.orelse for inner in (branch, *run_time_nodes(branch)))
        else:
            yield child
            yield from run_time_nodes(child)


def imports(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """The dotted names that a module imports at run time, relative ones resolved, `from a import b` as a.b."""
    found = set()
    for node in run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            origin = ".".join([*package, *([node.module] if node.module else [])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            found |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return found


def imports_of(path: Path) -> set[str]:
    return imports(path.read_text(encoding="utf-8"), dotted_name(path), is_package=path.name == "__init__.py")


def is_ros(name: str) -> bool:
    top = name.partition(".")[0]
    generated = top == "st3r_ros" and part_of(name) in ("msg", "srv")
    return generated or top.startswith(ROS_PACKAGES) or top.endswith("_msgs")


def is_for_all(name: str) -> bool:
    """Whether a dotted name is one of the modules in FOR_ALL or a part of one."""
    return any(f"{name}.".startswith(f"{module}.") for module in FOR_ALL)


def forbidden(module: str, imported: set[str]) -> set[str]:
    """The imports that `module` must not have."""
    own = part_of(module)
    parts = {name: part_of(name) for name in imported if name.partition(".")[0] == "st3r_ros"}
    if own == "ros":
        return {name for name in imported if parts.get(name) == "cli" or name.partition(".")[0] == "torch"}
    ros = {name for name in imported if is_ros(name) or parts.get(name) == "ros"}
    if own not in MAY_IMPORT:
        return ros
    allowed = MAY_IMPORT[own] | {own, "__version__"}
    return ros | {name for name, part in parts.items() if part not in allowed and not is_for_all(name)}


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_imports_point_inwards(path):
    assert forbidden(dotted_name(path), imports_of(path)) == set()


@pytest.mark.parametrize("path", [path for path in MODULES if dotted_name(path) in FOR_ALL], ids=dotted_name)
def test_what_all_may_use_imports_nothing_of_the_package(path):
    assert {name for name in imports_of(path) if name.partition(".")[0] == "st3r_ros"} == set()


@pytest.mark.parametrize("name", sorted(LIGHT.intersection(map(dotted_name, MODULES))))
def test_light_modules_load_nothing_heavy(name):
    code = f"import sys, {name}; print(*sorted({{'torch', 'rclpy', 'cv2'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b, c as d", {"a.b", "c"}),
        ("def f():\n    from st3r_ros import io", {"st3r_ros.io"}),
        ("from . import b\nfrom .c import d\nfrom ..pair import e", {"st3r_ros.slam.b", "st3r_ros.slam.c.d", "st3r_ros.pair.e"}),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", {"b"}),
        ("import typing\nif typing.TYPE_CHECKING:\n    import a", {"typing"}),
        ("if not TYPE_CHECKING:\n    import a", {"a"}),
        ("try:\n    import a\nexcept ImportError:\n    x = importlib.import_module('b')", {"a", "b"}),
    ],
)
def test_every_kind_of_import_is_seen(source, found):
    assert imports(source, "st3r_ros.slam.mapper") == found
    assert imports("from . import b", "st3r_ros.slam", is_package=True) == {"st3r_ros.slam.b"}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("st3r_ros", "st3r_ros.types.Frame"),
        ("st3r_ros.types", "st3r_ros.geometry.transforms"),
        ("st3r_ros.geometry.transforms", "st3r_ros.network.blocks"),
        ("st3r_ros.network.network", "st3r_ros.checkpoints.checkpoint"),
        ("st3r_ros.checkpoints.sources", "st3r_ros.pair.load_pair_model"),
        ("st3r_ros.pair.opencv", "st3r_ros.slam.mapper"),
        ("st3r_ros.geometry.two_view", "st3r_ros.solver.points"),
        ("st3r_ros.geometry.two_view", "st3r_ros.solver.damped_more"),
        ("st3r_ros.solver.points", "st3r_ros.slam.keyframes.projection"),
        ("st3r_ros.slam.mapper", "st3r_ros.pair.load_pair_model"),
        ("st3r_ros.slam.mapper", "st3r_ros.sequences"),
        ("st3r_ros.io.video", "st3r_ros.sim.world"),
        ("st3r_ros.io.bag", "sensor_msgs.msg.Image"),
        ("st3r_ros.eval.trajectory", "st3r_ros.slam.mapper"),
        ("st3r_ros.maps.load", "st3r_ros.pair.load_pair_model"),
        ("st3r_ros.viewer.scene", "st3r_ros.io.ply"),
        ("st3r_ros.viewer.scene", "geometry_msgs.msg.Pose"),
        ("st3r_ros.slam.mapper", "st3r_ros.viewer.scene"),
        ("st3r_ros.cli", "rclpy"),
        ("st3r_ros.cli", "st3r_ros.ros.nodes.mapping_node"),
        ("st3r_ros.sequences", "st3r_ros.msg.MappingStatus"),
        ("st3r_ros.ros.nodes.mapping_node", "st3r_ros.cli"),
        ("st3r_ros.ros.nodes.mapping_node", "torch"),
    ],
)
def test_an_import_that_points_outwards_is_caught(module, imported):
    assert forbidden(module, {imported, "numpy"}) == {imported}


# Private names --------------------------------------------------------------------------------------------------------


def is_private(name: str) -> bool:
    """Whether a name, or a part of a dotted one, begins with one underscore."""
    parts = set(name.split(".")) - PUBLIC_ALL_THE_SAME - {"_"}
    return any(part.startswith("_") and not part.startswith("__") for part in parts)


def private_names(source: str) -> list[str]:
    """What a source takes from the inside of other objects and modules: expressions, in their order."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            taken = [] if own else [node.attr]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            taken = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            taken = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        else:
            continue
        if any(map(is_private, taken)):
            found.append((node.lineno, ast.unparse(node)))
    return [f"line {line}: {expression}" for line, expression in sorted(found)]


def test_tests_take_nothing_private() -> None:
    taken = {str(path.relative_to(ROOT)): private_names(path.read_text(encoding="utf-8")) for path in TESTS}
    assert {path: names for path, names in taken.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "scene._cloud.points",
        "self.node._counts",
        "Mapper()._model",
        "model._calibrated = False",
        "del session._map",
        "from st3r_ros.geometry.two_view import _refine",
        "from viser._gui_api import GuiApi",
        "import viser._gui_api",
        "monkeypatch.setattr(saving, '_write', None)",
        "monkeypatch.setattr('st3r_ros.maps.save._write', None)",
        "getattr(node, '_counts')",
    ],
)
def test_a_private_name_is_caught(source: str) -> None:
    (found,) = private_names(f"x = 1\n{source}")
    assert found.startswith("line 2: ")


@pytest.mark.parametrize(
    "source",
    ["self._sent", "cls._made", "usage._replace(free=1)", "os._exit(0)", "a.__dict__", "from a import b as _", "_helper()"],
)
def test_what_is_public_is_not_caught(source: str) -> None:
    assert private_names(source) == []
