"""Docstrings of installed packages, read from their sources without importing them."""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Tests, vendored code, tools and build scripts: public by name only.
_SKIPPED_FOLDERS = {
    *("test", "tests", "testing", "benchmarks", "conftest", "externals", "vendor", "site-packages"),
    *("idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data", "distutils", "msilib", "setup"),
}
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
# How functions written in C get their documentation: calls with the text as a literal, in these modules.
_DOCUMENTING_CALLS = {"add_newdoc", "add_docstr", "_add_docstr"}
_DOCUMENTING_MODULES = (
    "numpy._core._add_newdocs",
    "scipy.special._add_newdocs",
    "torch._torch_docs",
    "torch.nn.functional",
)


@dataclass
class _Module:
    docs: dict[str, str] = field(default_factory=dict)  # function or class -> docstring
    defined: set[str] = field(default_factory=set)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, name there)
    stars: list[str] = field(default_factory=list)  # modules of `from module import *`
    compiled: dict[str, str] = field(default_factory=dict)  # full name -> docstring given by a call


class _Sources:
    """Modules under a root, parsed when first asked for."""

    def __init__(self, roots: dict[str, Path]) -> None:
        self.roots = roots  # top-level name -> package folder or single file
        self._parsed: dict[str, _Module | None] = {}

    def file(self, name: str) -> Path | None:
        top, *rest = name.split(".")
        root = self.roots.get(top)
        if root is None or (root.is_file() and rest):
            return None
        if root.is_file():
            return root
        path = root.joinpath(*rest)
        file = path / "__init__.py" if path.is_dir() else path.with_name(path.name + ".py")
        return file if file.is_file() else None

    def module(self, name: str) -> _Module | None:
        if name not in self._parsed:
            file = self.file(name)
            self._parsed[name] = None if file is None else _parse(file, name)
        return self._parsed[name]

    def resolve(self, module_name: str, name: str, depth: int = 8) -> tuple[str, str] | None:
        """The module that defines what `module_name` offers as `name`, and its name there."""
        module = self.module(module_name) if depth else None
        if module is None:
            return None
        if name in module.defined:
            return module_name, name
        if name in module.imported:
            return self.resolve(*module.imported[name], depth - 1)
        for star in module.stars:
            if found := self.resolve(star, name, depth - 1):
                return found
        return None

    def offered(self, module_name: str, depth: int = 8) -> set[str]:
        """Public names a module defines or imports, star imports followed."""
        module = self.module(module_name) if depth else None
        if module is None:
            return set()
        names = {name for name in (*module.defined, *module.imported) if not name.startswith("_")}
        return names.union(*(self.offered(star, depth - 1) for star in module.stars))


def documented_objects(packages: Iterable[str]) -> dict[str, str]:
    """Full public name -> docstring, for the standard library and those of `packages` that are installed.

    A public object is one defined in a module without a leading underscore anywhere in its name, or one that
    the `__init__` of such a package imports; it gets the shortest name it can be imported by.
    """
    sources = _Sources(_roots(packages))
    names: dict[tuple[str, str], str] = {}  # where defined -> shortest public name
    objects: dict[str, str] = {}
    for module_name, file in _public_modules(sources.roots):
        module = sources.module(module_name)
        if module is None:
            continue
        for name in sorted(sources.offered(module_name) if file.name == "__init__.py" else module.defined):
            where = sources.resolve(module_name, name)
            if where is None or name.startswith("_"):
                continue
            public = f"{module_name}.{name}"
            if where[0].partition(".")[0] == module_name.partition(".")[0]:
                names[where] = min(names.get(where, public), public, key=lambda name: (name.count("."), name))
    for (module_name, name), public in sorted(names.items()):
        module = sources.module(module_name)
        assert module is not None
        if name in module.docs:
            objects.setdefault(public, module.docs[name])
    for module_name in _DOCUMENTING_MODULES:
        if module := sources.module(module_name):
            for name, docstring in module.compiled.items():
                objects.setdefault(name, docstring)
    return objects


def _roots(packages: Iterable[str]) -> dict[str, Path]:
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    roots = {}
    for name in sys.stdlib_module_names:
        if not name.startswith("_") and name not in _SKIPPED_FOLDERS:
            for path in (stdlib / name, stdlib / f"{name}.py"):
                if path.exists():
                    roots[name] = path
    for name in packages:
        spec = importlib.util.find_spec(name)  # finds a top-level package without running it
        if spec is not None and spec.submodule_search_locations:
            roots[name] = Path(spec.submodule_search_locations[0])
    return dict(sorted(roots.items()))


def _public_modules(roots: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    for top, root in roots.items():
        yield from [(top, root)] if root.is_file() else _in_folder(top, root)


def _in_folder(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    if (folder / "__init__.py").is_file():
        yield name, folder / "__init__.py"
    for path in sorted(folder.iterdir()):
        if path.name.startswith("_") or path.stem in _SKIPPED_FOLDERS or path.stem.startswith("test_"):
            continue
        if path.is_dir() and (path / "__init__.py").is_file():
            yield from _in_folder(f"{name}.{path.name}", path)
        elif path.suffix == ".py" and path.stem.isidentifier():
            yield f"{name}.{path.stem}", path


def _parse(file: Path, name: str) -> _Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    module = _Module()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in _statements(tree.body):
        if isinstance(node, (*_FUNCTION, ast.ClassDef)):
            module.defined.add(node.name)
            if docstring := ast.get_docstring(node, clean=False):
                module.docs.setdefault(node.name, docstring)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            for alias in node.names:
                if alias.name == "*":
                    module.stars.append(source)
                else:
                    module.imported[alias.asname or alias.name] = (source, alias.name)
        elif isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
            _add_documenting_call(module, node.value, name)
    return module


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under `if` and `try` included."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _statements(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from _statements(node.body + node.orelse + [s for h in node.handlers for s in h.body])
        else:
            yield node


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
    return f"{base}.{node.module}" if node.module else base


def _add_documenting_call(module: _Module, call: ast.Call, module_name: str) -> None:
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if function not in _DOCUMENTING_CALLS or len(call.args) not in (2, 3):
        return
    docstring = _literal(call.args[-1])  # a tuple, of an attribute's name and text, has none
    if function != "add_newdoc":  # torch: (object, text)
        target = ast.unparse(call.args[0])
    elif len(call.args) == 2:  # scipy.special: (name, text)
        target = f"{module_name.rpartition('.')[0]}.{_literal(call.args[0])}"
    else:  # numpy: (module, name, text)
        target = f"{_literal(call.args[0])}.{_literal(call.args[1])}"
        target = target.replace("._core.multiarray", "").replace("._core.umath", "")
    if docstring and not any(part.startswith("_") for part in target.split(".")):
        module.compiled.setdefault(target, docstring)


def _literal(node: ast.expr) -> str:
    """The text of a string literal, or of the literal that `.format(...)` is called on; else empty."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp):
        return _literal(node.left) + _literal(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _literal(node.func.value)
    return ""
