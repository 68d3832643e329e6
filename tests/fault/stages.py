"""`make faults`: one stage after the other, each with its figures; all of them for `docs/reliability.md`.

    PYTHONPATH=tests python -m fault.stages --minutes 30 --cuts 200 --kills 500 [--seed N] [--write docs/reliability.md]

A stage that fails is told, and the others go on; the exit code is 1 at the end. The suite's stages are pytest in a
process of its own, whose tests write their figures into a file (`fixtures.faults.note`); the others are called. What
takes long and needs no repetition is left out of short runs, and so is the page: it shows a long run or none.

With `--keep DIRECTORY` each outcome is kept there, and a stage that is kept is not run again: a long run that was
interrupted goes on, and its stages may be spread over several calls with `--only`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from fault import crowd, noticing, startup, thrasher
from fixtures.faults import FIGURES_VARIABLE
from fixtures.page import Section, machine, page_text, table, today, write_page

LONG_MINUTES = 10.0
"""From so many minutes of the thrasher on, a run is a long one."""
SLOW_CLIENTS = 1000
SLOW_CLIENTS_S = 60.0
FILES = 1_000_000
CHUNKS = 100_000
HERE = os.path.dirname(os.path.abspath(__file__))


class StageFailed(Exception):
    """A stage has found something wrong; `section` has the figures that there are all the same."""

    def __init__(self, why: str, section: Section | None = None) -> None:
        super().__init__(why)
        self.section = section


@dataclass(frozen=True)
class Stage:
    name: str
    run: Callable[[], Section]
    only_long: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    name: str
    seconds: float
    failure: str
    """Empty: it passed."""
    section: Section | None


def main() -> int:
    """Run the stages as the command line says; the exit code."""
    options = parse()
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    command = f"make faults MINUTES={options.minutes:g} CUTS={options.cuts} KILLS={options.kills} SEED={seed}"
    print(f"repeat with {command}", flush=True)
    is_long = options.minutes >= LONG_MINUTES
    chosen = options.only.split(",") if options.only else None
    outcomes = []
    for stage in stages(options, seed):
        if stage.name in chosen if chosen else is_long or not stage.only_long:
            outcomes.append(
                kept_or_run(stage, os.path.join(options.keep, f"{stage.name}.json") if options.keep else "")
            )
    text = summary(command, outcomes, options.remark)
    print(f"\n{text}\n")
    if options.write and is_long and not chosen:
        write_page(options.write, text)
        print(f"the figures are in {options.write}")
    failed = [outcome.name for outcome in outcomes if outcome.failure]
    print(f"FAILED: {', '.join(failed)} (seed {seed})" if failed else "all promises were kept")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Everything that is tried against failures, and its figures.")
    parser.add_argument("--minutes", type=float, default=2, help="of the thrasher")
    parser.add_argument("--cuts", type=int, default=20, help="of the power")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of servers")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", default="", help="names of stages, with commas between them")
    parser.add_argument(
        "--keep", default="", help="a directory for the outcome of each stage; what is there is not run again"
    )
    parser.add_argument("--remark", default="", help="a sentence about this run, for the page")
    parser.add_argument("--write", default="", help="the page that gets the figures of a long run")
    return parser.parse_args()


def stages(options: argparse.Namespace, seed: int) -> list[Stage]:
    """All of them, in the order in which they run: what says most about a broken tree comes first."""
    environ = {
        "DFS_TEST_LONG": "1",
        "DFS_TEST_SEED": str(seed),
        "DFS_TEST_CUTS": str(options.cuts),
        "DFS_TEST_KILLS": str(options.kills),
    }

    def tests(title: str, expression: str, *paths: str) -> Callable[[], Section]:
        return lambda: run_tests(title, expression, paths, environ)

    loops, counter = "takes_nothing_that_was_acknowledged", "the_same_with"
    return [
        Stage("suite", tests("The fault suite", f"not {loops} and not {counter}", "")),
        Stage("counter-tests", tests("Counter-tests: what must be noticed", counter, "")),
        Stage("power-cuts", tests("Power cuts", loops, "test_power_cut.py")),
        Stage("kills", tests("SIGKILLs", loops, "test_kill_loop.py")),
        Stage("thrasher", lambda: thrash(options.minutes, seed)),
        Stage("slow-clients", lambda: crowd.measure(SLOW_CLIENTS, SLOW_CLIENTS_S), only_long=True),
        Stage("losses", noticing.measure, only_long=True),
        Stage("start-up", lambda: startup.measure(FILES, CHUNKS), only_long=True),
    ]


def kept_or_run(stage: Stage, path: str) -> Outcome:
    """The outcome that is kept at `path`, or that of running the stage, which is kept then. "": nothing is kept."""
    if path and os.path.exists(path):
        print(f"\n=== {stage.name}: kept in {path}", flush=True)
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Outcome)
    outcome = run(stage)
    if path:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.new", "wb") as file:
            file.write(msgspec.json.encode(outcome))
        os.rename(f"{path}.new", path)
    return outcome


def run(stage: Stage) -> Outcome:
    """Run one stage, whatever happens in it."""
    print(f"\n=== {stage.name}", flush=True)
    began = time.monotonic()
    failure, section = "", None
    try:
        section = stage.run()
    except StageFailed as error:
        failure, section = str(error), error.section
    except Exception as error:
        # The other stages still say something; this one has failed, and is told as failed.
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}".splitlines()[0]
    seconds = time.monotonic() - began
    print(f"=== {stage.name}: {'FAILED: ' + failure if failure else 'passed'} after {seconds:.0f} s", flush=True)
    return Outcome(stage.name, seconds, failure, section)


def run_tests(title: str, expression: str, paths: tuple[str, ...], environ: dict[str, str]) -> Section:
    """Tests of the fault suite as a stage, with the figures that they note."""
    with tempfile.NamedTemporaryFile("r", prefix="dfs-figures-", suffix=".jsonl") as noted:
        report = f"{noted.name}.xml"
        command = [sys.executable, "-m", "pytest", "-v", "-rfE", "-k", expression, f"--junit-xml={report}"]
        command += [os.path.join(HERE, path) for path in paths]
        done = subprocess.run(command, env={**os.environ, **environ, FIGURES_VARIABLE: noted.name}, check=False)
        try:
            counts = counted(report)
        finally:
            if os.path.exists(report):
                os.unlink(report)
        rows = [("tests", counts), *((figure["what"], figure["figure"]) for figure in map(json.loads, noted))]
    section = Section(title, table(("what", "figure"), rows))
    if done.returncode != 0:
        raise StageFailed(f"pytest ended with {done.returncode} ({counts})", section)
    return section


def counted(report_path: str) -> str:
    """What pytest's report counts."""
    import xml.etree.ElementTree as ElementTree

    if not os.path.exists(report_path):
        return "no report"
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(report_path).getroot().iter("testsuite"):
        for name in totals:
            totals[name] += int(suite.get(name, "0"))
    bad = totals["failures"] + totals["errors"]
    return f"{totals['tests'] - bad - totals['skipped']} passed, {bad} failed, {totals['skipped']} not possible here"


def thrash(minutes: float, seed: int) -> Section:
    """The thrasher as a stage."""
    logs = os.path.join(tempfile.gettempdir(), f"dfs-thrasher-{seed}-logs")
    figures = thrasher.thrash(thrasher.parse(["--minutes", str(minutes), "--seed", str(seed), "--keep", logs]))
    section = Section("The thrasher", figures.text())
    if not figures.good:
        raise StageFailed("promises were broken", section)
    return section


def summary(command: str, outcomes: list[Outcome], remark: str = "") -> str:
    """All figures of a run, as the page has them."""
    sections = [outcome.section for outcome in outcomes if outcome.section is not None]
    return "\n\n".join(
        [
            f"Run of {today()}. Machine: {machine()}. {remark}".rstrip() + f"\n\nRepeat it: `{command}`",
            table(("stage", "outcome", "took"), list(_outcome_rows(outcomes))),
            page_text(sections),
        ]
    )


def _outcome_rows(outcomes: list[Outcome]) -> Iterator[tuple[str, str, str]]:
    for outcome in outcomes:
        verdict = f"**failed**: {outcome.failure}" if outcome.failure else "passed"
        yield outcome.name, verdict.replace("|", "/"), f"{outcome.seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
