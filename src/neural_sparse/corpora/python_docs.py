"""A corpus every installation already has: the documentation of Python and its scientific packages.

One document per public function or class: its docstring as prose, without examples and markup, and without the
summary, which is the query. Sources are parsed, never imported, so nothing of theirs runs and the same packages give
the same bytes.
"""

from __future__ import annotations

import ast
import gc
import importlib.metadata
import importlib.util
import inspect
import random
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError

PYTHON_DOCS = "python-docs"  # by this name among collections
PACKAGES = ("numpy", "scipy", "pandas", "sklearn", "networkx", "sympy", "matplotlib", "torch")
MIN_DOCUMENTS = 1000
MIN_BODY_WORDS = 20
SUMMARY_WORDS = range(4, 41)

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where a package is installed under another name
_NOT_WORD = re.compile(r"[\W_]+")
_REAL_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class PythonDocs:
    """The corpus with its test queries, and the training queries that search the same corpus.

    Attributes:
        collection: All documents; the test queries, each with one relevant document.
        train: (query text, row of its document in `collection.texts`).
    """

    collection: Collection
    train: list[tuple[str, int]]


def python_docs(seed: int = 0, n_test: int = 500) -> PythonDocs:
    """Build the corpus from the standard library and those of `PACKAGES` that are installed.

    A document whose summary is also another's stays in the corpus without a query: a search for it could not
    tell which one is meant.

    Args:
        seed: Of the split into test and training queries.
        n_test: Test queries.

    Raises:
        InputError: fewer than 1,000 documents, or no training query would be left.
    """
    pairs = documentation()
    doc_ids = list(pairs)
    often: dict[str, int] = {}
    for summary, _ in pairs.values():
        often[_key(summary)] = often.get(_key(summary), 0) + 1
    rows = [row for row, doc_id in enumerate(doc_ids) if often[_key(pairs[doc_id][0])] == 1]
    if not 0 < n_test < len(rows):
        raise InputError(
            f"n_test is {n_test}, but must be from 1 to {len(rows) - 1}: there are {len(rows)} queries"
        )
    test = set(random.Random(seed).sample(rows, n_test))

    queries, qrels = {}, {}
    for row in sorted(test):
        # Evaluation tools that follow BEIR ignore a document whose id equals the query's.
        query_id = f"query:{doc_ids[row]}"
        queries[query_id] = pairs[doc_ids[row]][0]
        qrels[query_id] = {doc_ids[row]: 1}
    texts = [pairs[doc_id][1] for doc_id in doc_ids]
    train = [(pairs[doc_ids[row]][0], row) for row in rows if row not in test]
    return PythonDocs(Collection(PYTHON_DOCS, doc_ids, texts=texts, queries=queries, qrels=qrels), train)


def documentation() -> dict[str, tuple[str, str]]:
    """Full name -> (summary, body) of every documented function and class, by name.

    Raises:
        InputError: fewer than 1,000.
    """
    pairs = _pairs()
    if len(pairs) < MIN_DOCUMENTS:
        raise InputError(
            f"the installed packages document {len(pairs)} functions and classes, below {MIN_DOCUMENTS}: "
            "pip install neural-sparse[quickstart], or name a collection of your own with --data"
        )
    return dict(sorted(pairs.items()))


def versions() -> dict[str, str]:
    """What the documentation is of: Python, and those of `PACKAGES` that are installed."""
    found = {"python": sys.version}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(_DISTRIBUTIONS.get(name, name))
    return found


def _pairs() -> dict[str, tuple[str, str]]:
    """Document id -> (summary, body); of several with the same body only the one with the shortest id."""
    found: dict[str, tuple[str, str]] = {}
    bodies: set[str] = set()
    with _without_garbage_collection():
        objects = documented_objects(PACKAGES)
    for name in sorted(objects, key=lambda name: (name.count("."), name)):
        summary, body = split_docstring(objects[name])
        if (
            len(_REAL_WORD.findall(body)) < MIN_BODY_WORDS
            or len(_REAL_WORD.findall(summary)) not in SUMMARY_WORDS
        ):
            continue
        if _key(body) not in bodies:
            bodies.add(_key(body))
            found[name] = (summary, body)
    return found


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Parsing makes millions of objects that are soon gone; looking for circles among them takes half of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _key(text: str) -> str:
    return _NOT_WORD.sub(" ", text).strip().casefold()


_SIGNATURE = re.compile(r"^[\w.]+\s*\([^\n]*\)\s*(->.*)?\\?$")
_UNDERLINE = re.compile(r"^\s*([-=~^*#\"'])\1{2,}\s*$")
# Examples are mostly code and its output; "see also" quotes the summaries (the queries) of other objects.
_DROPPED_SECTION = re.compile(r"^\s*(Examples?|Doctests?|See also)\s*:{0,2}$", re.IGNORECASE)
_DROPPED_LINE = re.compile(
    r"^\s*\.\. (versionadded|versionchanged|rubric|plot|only|index|currentmodule|seealso)\s*::"
    r"|^\s*\.\. _|^\s+:[\w-]+:(\s.*)?$|^\s*(\{\w+\}|%\(\w+\)s)\s*$|^\s*[-=+| ]{3,}$"
)
_DIRECTIVE = re.compile(r"^(\s*)\.\. [\w:-]+\s?::\s*")
_ROLE = re.compile(r":[\w:+-]+:`([^`]*)`")
_ROLE_TARGET = re.compile(r"^(.+?)\s*<[^>]*>$", re.DOTALL)
_TICKS = re.compile(r"`{1,2}([^`\n]*)`{1,2}_{0,2}")
_SENTENCE_END = re.compile(
    r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)(?<! cf)(?<! al)(?<![ .][A-Z])[.!?][)\"']?\s+(?=[A-Z`\"'(*:])"
)


def split_docstring(docstring: str) -> tuple[str, str]:
    """Summary (first sentence, one line) and body (the rest) of a docstring; either may be empty.

    Signature lines before the summary, examples, "see also", underlines and version notes are dropped; roles
    and literals keep their text only. The body does not repeat the summary.
    """
    lines = _without_sections(_without_sessions(inspect.cleandoc(docstring).splitlines()))
    while lines and (not lines[0].strip() or _SIGNATURE.match(lines[0].strip())):
        lines.pop(0)
    end = next((at for at, line in enumerate(lines) if not line.strip()), len(lines))
    first = " ".join(line.strip() for line in lines[:end] if not _UNDERLINE.match(line))
    sentence = _SENTENCE_END.search(first)
    split = sentence.end() if sentence else len(first)
    summary = _plain(first[:split]).strip()
    body = _tidy([first[split:], "", *lines[end:]])
    return summary, body.replace(summary, "").strip() if summary else body


def _without_sessions(lines: list[str]) -> list[str]:
    """Drop interpreter sessions: a prompt, what continues it, and its output up to the next blank line."""
    kept: list[str] = []
    in_session = False
    for line in lines:
        in_session = line.lstrip().startswith((">>>", "# >>>", "In [")) or (in_session and bool(line.strip()))
        if not in_session:
            kept.append(line)
    return kept


def _without_sections(lines: list[str]) -> list[str]:
    """Drop sections by heading: up to the next underlined heading, or the block indented under `Example:`."""
    kept: list[str] = []
    at = 0
    while at < len(lines):
        if not _DROPPED_SECTION.match(lines[at]):
            kept.append(lines[at])
            at += 1
        elif at + 1 < len(lines) and _UNDERLINE.match(lines[at + 1]):
            at += 2
            while at < len(lines) and not (
                at + 1 < len(lines) and lines[at].strip() and _UNDERLINE.match(lines[at + 1])
            ):
                at += 1
        else:
            margin = _indent(lines[at])
            at += 1
            while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > margin):
                at += 1
            kept.append("")
    return kept


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _tidy(lines: list[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if _UNDERLINE.match(line) or _DROPPED_LINE.match(line):
            continue
        line = _DIRECTIVE.sub(r"\1", line).rstrip()
        if line or (kept and kept[-1]):
            kept.append(line)
    return _plain("\n".join(kept)).strip()


def _plain(text: str) -> str:
    """Roles and literals reduced to what a reader sees of them."""
    without_roles = _ROLE.sub(lambda match: _role_text(match[1]), text)
    return _TICKS.sub(
        lambda match: _role_text(match[1]) if match[1].startswith("~") else match[1], without_roles
    )


def _role_text(content: str) -> str:
    if match := _ROLE_TARGET.match(content):
        return match[1]
    if content.startswith("~"):
        return content.rpartition(".")[2].lstrip("~")
    return content.lstrip("!.")


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
