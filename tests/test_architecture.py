"""The laws of the house, held over the code as it is."""

import ast
import json
import re
import statistics
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "medllm"
FILES = sorted(PACKAGE.rglob("*.py"))
VERBS = ("calibrate", "prepare", "finetune", "merge", "quantize", "evaluate", "generate", "serve")
FLOORS = (
    ("errors", "ranks"),
    ("places",),
    ("console",),
    ("config",),
    ("artifacts",),
    ("clinical",),
    ("data",),
    ("tasks",),
    ("models",),
    ("engines",),
    ("measures",),
    ("reports",),
    VERBS,
    ("recipe", "plan", "ask", "run", "smoke", "study", "checkup", "review"),
    ("cli",),
    ("__main__",),
)
"""The rooms from the ground up; a room imports from floors below its own. Only what runs several
verbs, which is one floor, imports from its own floor, too, without cycles."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
RUNNERS = FLOORS[-3]
BUDGETS = {
    "errors": 35, "ranks": 14, "places": 71, "console": 222, "config": 526, "artifacts": 1049,
    "clinical": 9018, "data": 4569, "tasks": 302, "models": 2279, "engines": 3542,
    "measures": 2494, "reports": 310, "calibrate": 469, "prepare": 1167, "finetune": 2870,
    "merge": 520, "quantize": 2506, "evaluate": 5588, "generate": 1151, "serve": 4838,
    "recipe": 223, "run": 136, "plan": 160, "ask": 51, "smoke": 70, "study": 557,
    "checkup": 110, "review": 232, "cli": 1274, "__main__": 3, "__init__": 40,
}  # fmt: skip
"""Lines of code of each room. Raise one on purpose, and say why in the commit."""
MOST_LINES = 46_400
MOST_FILES = 14
BANNED = re.compile(r"utils?|helpers?|common|misc|manager|handler|processor|.*_v2", re.IGNORECASE)
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "pydantic", "yaml", "rich"}
IMPORTED_AS = {"yaml": "pyyaml", "PIL": "pillow", "google": "protobuf",
               "llama_cpp": "llama_cpp_python"}  # fmt: skip
COMMANDS = (
    *(*VERBS, "chat", "review", "run", "datasets", "recipes", "keys", "audit"),
    *("verify", "lineage", "doctor"),
)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def imports_of(path: Path) -> Iterator[str]:
    """The modules of medllm that a file imports, wherever it does."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("medllm."))
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "medllm"
        ):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / inner.replace(".", "/")).with_suffix(".py").is_file()
                is_package = (PACKAGE.parent / inner.replace(".", "/")).is_dir()
                yield inner if is_module or is_package else node.module


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (
        n for n in ast.walk(parse(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_imports_go_down_only() -> None:
    assert {room_of(module_of(path)) for path in FILES} - {"__init__"} <= FLOOR_OF.keys()
    crossings = [
        f"{module_of(path)} imports {imported}"
        for path in FILES
        for imported in imports_of(path)
        if not goes_down(room_of(module_of(path)), room_of(imported))
    ]
    assert crossings == []


def goes_down(room: str, other: str) -> bool:
    """Whether a room may import another; verbs, which are one floor, never import each other."""
    if "__init__" in {room, other} or room == other or {room, other} <= {*RUNNERS}:
        return True
    return FLOOR_OF[other] < FLOOR_OF[room]


def test_there_are_no_cycles() -> None:
    graph = {module_of(path): set(top_level_imports(path)) for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' → '.join((*trail, module))}"
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def top_level_imports(path: Path) -> Iterator[str]:
    inside = {id(n) for f in functions_of(path) for n in ast.walk(f)}
    inside |= {
        id(n)
        for c in ast.walk(parse(path))
        if isinstance(c, ast.If) and "TYPE_CHECKING" in ast.dump(c.test)
        for n in ast.walk(c)
    }
    lazy = {
        n.lineno
        for n in ast.walk(parse(path))
        if id(n) in inside and isinstance(n, ast.Import | ast.ImportFrom)
    }
    outer = ast.Module([n for n in parse(path).body if getattr(n, "lineno", 0) not in lazy], [])
    for node in outer.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("medllm"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                exists = (PACKAGE.parent / inner.replace(".", "/")).with_suffix(".py").is_file()
                yield inner if exists else node.module


def test_files_functions_and_folders_are_small() -> None:
    long = {
        module_of(path): lines
        for path in FILES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    long |= {
        f"{module_of(path)}.{node.name}": lines
        for path in FILES
        for node in functions_of(path)
        if (lines := length(node)) > 60
    }
    assert long == {}
    folders = Counter(path.parent for path in FILES if path.name != "__init__.py")
    full = {str(folder): files for folder, files in folders.items() if files > MOST_FILES}
    assert full.keys() <= {str(PACKAGE / "cli")}, full


def test_the_median_function_is_short() -> None:
    assert statistics.median(length(node) for path in FILES for node in functions_of(path)) <= 12


def test_nothing_has_a_name_that_says_nothing() -> None:
    modules = [path.stem for path in FILES]
    classes = [
        node.name
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in modules + classes if BANNED.fullmatch(name)] == []


def test_every_room_keeps_its_budget() -> None:
    lines = Counter[str]()
    for path in FILES:
        lines[room_of(module_of(path))] += code_lines(path)
    assert {room: n for room, n in lines.items() if n > BUDGETS[room]} == {}
    assert sum(BUDGETS.values()) <= MOST_LINES


def code_lines(path: Path) -> int:
    """Lines without blank ones and docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts: set[int] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, documented):
            for part in node.body:
                if (
                    isinstance(part, ast.Expr)
                    and isinstance(part.value, ast.Constant)
                    and isinstance(part.value.value, str)
                ):
                    texts.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    lines = path.read_text(encoding="utf-8").splitlines()
    return sum(1 for number, line in enumerate(lines, 1) if line.strip() and number not in texts)


def test_every_imported_package_is_declared() -> None:
    """What another package happens to bring may go with its next release."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    named = [*project["project"]["dependencies"]]
    for packages in project["project"]["optional-dependencies"].values():
        named += packages
    declared = {re.split(r"[^\w.-]", one)[0].lower().replace("-", "_") for one in named}
    imported = {name for path in FILES for name in outside_imports(path)}

    assert {IMPORTED_AS.get(name, name).lower() for name in imported} - declared == set()


def outside_imports(path: Path) -> Iterator[str]:
    """The packages that a file imports, those of Python and our own aside."""
    for node in ast.walk(parse(path)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in (each.split(".")[0] for each in names):
            if name not in sys.stdlib_module_names and name != "medllm":
                yield name


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    code = (
        "import sys, json; from medllm.cli.main import run_command; "
        f"code = run_command([*{list(command)!r}, '--help']); "
        "print(json.dumps([code, sorted(sys.modules)]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    exit_code, modules = json.loads(result.stdout.splitlines()[-1])
    assert exit_code == 0
    assert HEAVY & {name.split(".")[0] for name in modules} == set()
    assert "Usage: medllm" in result.stdout


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports them by name, and would refuse the second when all are collected."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))

    assert [name for name, count in names.items() if count > 1] == []
