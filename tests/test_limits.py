"""The limits that CONTRIBUTING.md promises: sizes, annotations, docstrings, names of files.

The tables of exceptions only shrink: write the new size here when you make an entry smaller, and
remove the entry once it is within the limit.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "openunite"
FILES = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}
TREES = {name: ast.parse(text) for name, text in FILES.items()}

MAX_FILE, MAX_FUNCTION, MAX_CORE = 300, 40, 800
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
LARGE_CORE: dict[str, int] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, path: str) -> Iterator[tuple[str, Function]]:
    """All functions and methods, nested ones too, under dotted names."""
    for child in ast.iter_child_nodes(node):
        name = f"{path}.{child.name}" if isinstance(child, Function | ast.ClassDef) else path
        if isinstance(child, Function):
            yield name, child
        yield from functions(child, name)


def code_lines(function: Function) -> int:
    """The lines of a function without its docstring, which says what callers must know."""
    first = function.body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    documented = (first.end_lineno or 0) - first.lineno + 1 if text else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


ALL = {name: function for file, tree in TREES.items() for name, function in functions(tree, file)}


def check(sizes: dict[str, int], limit: int, exceptions: dict[str, int]) -> None:
    """Raise unless sizes are within the limit or their exception, and every exception is needed."""
    assert {n: x for n, x in sizes.items() if x > exceptions.get(n, limit)} == {}
    assert [n for n in exceptions if sizes.get(n, 0) <= limit] == []


def test_files_are_at_most_300_lines_long() -> None:
    check({name: len(text.splitlines()) for name, text in FILES.items()}, MAX_FILE, LONG_FILES)


def test_functions_are_at_most_40_lines_long() -> None:
    check({name: code_lines(x) for name, x in ALL.items()}, MAX_FUNCTION, LONG_FUNCTIONS)


def test_the_method_fits_in_800_lines() -> None:
    core = [x for name, x in FILES.items() if name.startswith(("objective.py", "models/", "flow/"))]
    assert len(core) > 5
    size = sum(len(text.splitlines()) for text in core)
    check({"objective.py, models/ and flow/": size}, MAX_CORE, LARGE_CORE)


def test_every_function_is_annotated() -> None:
    bare = []
    for name, function in ALL.items():
        given = function.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        arguments = [x for x in named if x is not None and x.arg not in ("self", "cls")]
        if function.returns is None or any(x.annotation is None for x in arguments):
            bare.append(name)
    assert bare == []


def test_public_functions_and_classes_say_what_they_are() -> None:
    kinds = Function | ast.ClassDef
    public = {
        f"{name}.{x.name}": ast.get_docstring(x)
        for name, tree in TREES.items()
        for x in tree.body
        if isinstance(x, kinds) and not x.name.startswith("_")
    }
    assert len(public) > 500
    assert [name for name, text in public.items() if not text] == []


def test_every_module_says_what_it_holds() -> None:
    assert [n for n, x in TREES.items() if x.body and ast.get_docstring(x) is None] == []


def test_no_file_is_called_utils() -> None:
    assert [name for name in FILES if "utils" in name or "helpers" in name] == []
