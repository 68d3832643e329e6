"""The progress bar: on a terminal, on stderr, with rate and time left; otherwise nothing at all.

Separate from put and get because it is the only part of them that cares what stderr is. Bytes are counted from any
thread; the bar is drawn at most ten times a second.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import click

from dfs.cli.show import human_size

Added = Callable[[int], None]
_REDRAW_S = 0.1
_DAYS_FROM_S = 100 * 3600
_LABEL_WIDTH = 18
_BAR_WIDTH = 12
"""With label, percent, amount, rate and time left this fits into 80 columns."""


def progress_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """-q and --no-progress, which both become the argument `quiet`."""
    function = click.option("-q", "--quiet", "quiet", is_flag=True, help="No progress bar.")(function)
    return click.option("--no-progress", "no_progress", is_flag=True, help="No progress bar.")(function)


def clock_text(seconds: float) -> str:
    """A duration as a clock shows it: 0:05, 12:34, 1:02:03, 4 d."""
    total = math.ceil(seconds)
    if total >= _DAYS_FROM_S:
        return f"{total // 86_400} d"
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shorten(label: str) -> str:
    """The label in at most _LABEL_WIDTH characters, its end kept: names differ there."""
    return label if len(label) <= _LABEL_WIDTH else f"…{label[1 - _LABEL_WIDTH :]}"


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool) -> Iterator[Added | None]:
    """Yields what to tell of each number of bytes that came through, or None where nothing is to be shown.

    total  bytes in all, as far as that is known
    """
    if quiet or not sys.stderr.isatty():
        with nullcontext():
            yield None
        return
    meter = _Meter(total)
    bar: Any = click.progressbar(
        length=total,
        label=shorten(label),
        file=sys.stderr,
        width=_BAR_WIDTH,
        show_eta=False,
        show_percent=total is not None,
        item_show_func=lambda _: meter.text(),
    )
    with bar:
        yield lambda count: meter.add(count, bar)
        meter.add(0, bar, always=True)


class _Meter:
    """Counts bytes of several threads and redraws now and then."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._count = 0
        self._drawn_count = 0

    def add(self, count: int, bar: Any, *, always: bool = False) -> None:
        with self._lock:
            self._count += count
            now = time.monotonic()
            if always or now - self._drawn_at >= _REDRAW_S:
                step, self._drawn_count = self._count - self._drawn_count, self._count
                self._drawn_at = now
                bar.update(step, current_item=self._count)

    def text(self) -> str:
        """How much came through, how fast, and how long the rest will take."""
        seconds = max(time.monotonic() - self._began, 0.001)
        shown = f"{human_size(self._count)}, {human_size(self._count / seconds)}/s"
        if not self._total or not 0 < self._count < self._total:
            return shown
        return f"{shown}, {clock_text(seconds * (self._total - self._count) / self._count)} left"


class Ticker:
    """One line on stderr that says how far something is, on a terminal; elsewhere nothing. Gone when it ends."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._drawn_at = float("-inf")

    def __enter__(self) -> "Ticker":
        return self

    def show(self, text: str) -> None:
        """Replace the line; too soon after the last time it is left as it is."""
        now = time.monotonic()
        if self._shown and now - self._drawn_at >= _REDRAW_S:
            self._drawn_at = now
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._shown and self._drawn_at > float("-inf"):
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
