"""Folders import only from below: custom_ops, then models, then builder; and runtime beside.

What commands share lies below both.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "commands": {"commands"},
    "custom_ops": {"custom_ops"},
    "models": {"models", "custom_ops"},
    "builder": {"builder", "models", "custom_ops", "commands"},
    "runtime": {"runtime", "custom_ops", "commands"},
}


def imported(path: Path) -> set[str]:
    """The folders of ferrum that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == "ferrum" and len(parts) > 1 and parts[1] in ALLOWED:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_from_below(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): imported(f) - ALLOWED[folder] for f in files}
    assert not {name: extra for name, extra in wrong.items() if extra}
