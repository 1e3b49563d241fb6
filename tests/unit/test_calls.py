"""House rule: no call of ours has more than four positional arguments, for nobody knows which of them is which."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "neural_sparse"
# What is called by position alone: other libraries' functions, and callables whose parameters have no names to give.
OTHERS = {
    "interleaver.search",
    "logger.info",
    "logger.warning",
    "partial",
    "rename",  # of libc
    "run",  # an Engine
    "search_block_at_a_time",  # compiled: looking up names takes as long as a short search
    "search_with_bounds",
    "self.rests_on",  # any number of figures
    "worker_processes",
    "forward",  # of the module that a device has for the head
    "backward",
    "_maxima[triton.cdiv(texts, groups), triton.cdiv(vocabulary, tile.dimensions), groups]",
}


def calls(source: str) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and sum(not isinstance(one, ast.Starred) for one in node.args) > 4:
            called = node.func
            named = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Call)
            found.append((node.lineno, called.attr if named else ast.unparse(called)))  # type: ignore[attr-defined]
    return found


def test_no_call_has_more_than_four_positional_arguments() -> None:
    many = [
        f"{path.relative_to(PACKAGE)}:{line} {called}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, called in calls(path.read_text())
        if called not in OTHERS
    ]
    assert many == []


def test_the_rule_sees_one() -> None:
    assert calls("f(1, 2, 3, 4)\ng.h(1, 2, 3, 4, 5)\n") == [(2, "g.h")]
