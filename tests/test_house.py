"""The house's walls: which room imports which, and what imports nothing."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tfllm"

# Room → what it may import of tfllm, besides itself and the floor everybody stands on.
ARROWS = {
    "text": set(),
    "data": {"text"},
    "layers": set(),
    "losses": set(),
    "metrics": set(),
    "optimization": set(),
    "training": set(),
    "generation": set(),
    "models": {"layers", "losses", "generation", "training.step"},
    "serving": set(),
    # A session's signatures and errors are part of it.
    "export": {"serving.session", "serving.signature", "serving.errors"},
    "cli": set(),
    "planning": set(),
    "retrieval": set(),
}
FLOOR = {"errors", "hub"}


def imports_of(path: Path) -> set[str]:
    """Dotted names of tfllm's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide arrows"
            module = node.module or ""
            # `from tfllm import training` names a module, `from tfllm.losses import f` a function.
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= names if module == "tfllm" else {module}
    return {name.removeprefix("tfllm.") for name in found if name.startswith("tfllm.")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def files_of_rooms() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) != "__init__")


@pytest.mark.parametrize("path", files_of_rooms(), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    room = room_of(path)
    if room in FLOOR:
        assert imports_of(path) <= {"errors"}
        return
    for name in imports_of(path):
        target = name.split(".")[0]
        allowed = target in {room} | FLOOR | ARROWS[room] or any(
            name == arrow or name.startswith(f"{arrow}.") for arrow in ARROWS[room]
        )
        assert allowed, f"{path.relative_to(ROOT)} imports tfllm.{name}"


def test_the_arrow_test_sees_a_wrong_arrow(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "def f():\n    from tfllm.models import causal_lm\n    import tfllm.export.gate\n"
    )
    assert imports_of(path) == {"models", "export.gate"}


def test_recipes_import_no_recipe():
    names = {path.stem for path in (ROOT / "recipes").glob("*.py")}
    for path in (ROOT / "recipes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[-1] not in names
            elif isinstance(node, ast.Import):
                assert not {alias.name.split(".")[-1] for alias in node.names} & names


def test_importing_the_rooms_imports_no_tensorflow():
    rooms = ", ".join(
        f"tfllm.{room}"
        for room in ("text", "data", "models", "metrics", "optimization", "training", "export")
    )
    code = f"import sys, tfllm.cli, tfllm.serving, {rooms}; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"


def test_no_lazy_name_is_a_module_of_its_room():
    """Python would put the module in its place, as soon as that is imported."""
    for path in PACKAGE.glob("*/__init__.py"):
        room = importlib.import_module(f"tfllm.{path.parent.name}")
        modules = {module.stem for module in path.parent.glob("*.py")}
        assert not modules & set(getattr(room, "_HOMES", {})), path


def test_every_module_lists_what_it_exports():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        if path == PACKAGE / "__init__.py" or path == PACKAGE / "layers" / "__init__.py":
            continue
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert "__all__" in assigned, path
