"""How the site is made of these pages: `make site`, or `sphinx-build -W docs build/site`."""

import re
from pathlib import Path
from typing import Any

import dfs

project = "dfs"
author = "the authors of dfs"
release = version = dfs.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"dfs {release}"
html_show_copyright = False
html_copy_source = False
exclude_patterns: list[str] = []

myst_heading_anchors = 3
default_role = "code"  # docstrings have `names` as Markdown has them
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_use_type_comments = False
suppress_warnings = ["misc.highlighting_failure"]  # shown output and "…" are no program

_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
_LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def _read_source(_app: Any, _page: str, text: list[str]) -> None:
    """Anchors in HTML are where the pages of a repository have them; here they become Sphinx's own."""
    text[0] = _ANCHOR.sub(r"(\1)=", text[0])


def _read_included(_app: Any, _path: Path, _page: str, text: list[str]) -> None:
    """Links of a page from above this directory, as they are from within it."""
    text[0] = _LINK.sub(
        lambda found: f"]({found[1].removeprefix('docs/')}{found[2] or ''})".replace(
            "](decisions/)", "](decisions.md)"
        ),
        text[0],
    )


def _read_docstring(_app: Any, _kind: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Indented lines of a docstring are shown as they are, in whatever way it was written before them."""
    shown: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith((" ", "\t"))
        if indented and not inside:
            shown += ["", "::", ""]
        elif inside and line and not indented:
            shown.append("")
        inside = indented or (inside and not line)
        # A table of names and meanings, "name     what it is", is one where its spaces stay.
        if not indented and re.match(r"\w+ {2,}\S", line):
            line = f"| {line}"
        elif not indented and shown and shown[-1].startswith("| ") and line:
            shown.append("")
        shown.append(
            line.replace("*", "\\*").replace("|", "\\|") if not indented and not line.startswith("| ") else line
        )
    lines[:] = shown


def setup(app: Any) -> None:
    app.connect("source-read", _read_source)
    app.connect("include-read", _read_included)
    app.connect("autodoc-process-docstring", _read_docstring)
