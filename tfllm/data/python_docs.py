"""The English text that every CPython carries: its documentation.

A corpus of about 2 MB for a first run on a machine without a network: the language reference that
`help()` shows, and the docstrings of the standard library.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tfllm.errors import InputError

__all__ = ["read_python_documentation"]

# Tests, vendored packages and generated tables are no documentation.
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "lib2to3", "ensurepip", "pydoc_data"}
_LEAST_CHARACTERS = 200


def read_python_documentation() -> list[str]:
    """Read this Python's documentation, one document a topic or module.

    A paragraph that stood before, in this document or an earlier one, is left out: it would put
    validation text into training.

    Raises:
        InputError: if this Python was installed without the sources of its library.
    """
    seen: set[str] = set()
    documents = []
    for text in (*_topics(), *_modules()):
        paragraphs = []
        for paragraph in text.split("\n\n"):
            if paragraph.strip() and paragraph.strip() not in seen:
                seen.add(paragraph.strip())
                paragraphs.append(paragraph.rstrip())
        document = "\n\n".join(paragraphs).strip("\n")
        if len(document) >= _LEAST_CHARACTERS:
            documents.append(document)
    if len(documents) < 50:
        raise InputError(
            f"the Python at {sys.executable} carries only {len(documents)} documents of "
            "documentation. Give text files with --train"
        )
    return documents


def _topics() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for name in sorted(topics):
        yield topics[name]


def _modules() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if _LEFT_OUT.isdisjoint(parts) and not path.name.startswith("test_"):
            yield "\n\n".join(_docstrings(path))


def _docstrings(path: Path) -> Iterator[str]:
    """Each docstring under the name of what it documents, in the order of the source."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a few old sources hold invalid escapes
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                name = path.stem if isinstance(node, ast.Module) else node.name
                yield f"{name}: {docstring}"
