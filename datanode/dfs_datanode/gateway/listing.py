"""How a directory looks over HTTP: a JSON array, or a page for browsers. Pure: pages of entries in, bytes out.

Separate from the transfer so that escaping can be tested alone. Both forms stream: a directory may have millions of
entries. The keys are those that `dfs ls --json` prints, one entry a line.
"""

import json
from collections.abc import Sequence
from html import escape

from dfs.cli.show import entry_record, human_size, time_text
from dfs.protocol.http_files import files_target
from dfs.protocol.messages import Entry

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:56rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td{padding:.15rem .8rem .15rem 0}td.n{text-align:right}"
)


class JsonListing:
    """An array with one entry a line."""

    content_type = JSON_TYPE

    def __init__(self) -> None:
        self._first = True

    def begin(self) -> bytes:
        return b"["

    def page(self, entries: Sequence[Entry]) -> bytes:
        lines = [json.dumps(entry_record(entry), ensure_ascii=False) for entry in entries]
        if not lines:
            return b""
        before = "\n" if self._first else ",\n"
        self._first = False
        return (before + ",\n".join(lines)).encode()

    def end(self) -> bytes:
        return b"\n]\n"


class HtmlListing:
    """A page with a link for each entry. Every name is escaped; nothing on it can run."""

    content_type = HTML_TYPE

    def __init__(self, path: str) -> None:
        self._path = path

    def begin(self) -> bytes:
        title = escape(self._path)
        parent = ""
        if self._path != "/":
            above = files_target(self._path.rpartition("/")[0] + "/")
            parent = f'<tr><td><a href="{escape(above)}">..</a></td><td></td><td></td></tr>'
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1><table>{parent}\n"
        ).encode()

    def page(self, entries: Sequence[Entry]) -> bytes:
        return "".join(map(self._row, entries)).encode()

    def _row(self, entry: Entry) -> str:
        slash = "/" if entry.is_directory else ""
        target = escape(files_target(entry.path) + slash)
        size = "" if entry.is_directory else human_size(entry.size)
        return (
            f'<tr><td><a href="{target}">{escape(entry.name)}{slash}</a></td>'
            f'<td class="n">{size}</td><td>{time_text(entry.mtime_ns)}</td></tr>\n'
        )

    def end(self) -> bytes:
        return b"</table></body></html>\n"


Form = JsonListing | HtmlListing


def choose_form(path: str, accept: str | None) -> Form:
    """A page for those who ask for HTML by name, as browsers do; JSON for everybody else."""
    return HtmlListing(path) if accept is not None and "text/html" in accept.lower() else JsonListing()
