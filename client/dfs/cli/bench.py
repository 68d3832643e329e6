"""`dfs bench`: how fast this cluster is, from here."""

import sys
from typing import TYPE_CHECKING

import click

from dfs.cli.failures import SomeFailed
from dfs.cli.session import Session, remote_command
from dfs.cli.show import print_json
from dfs.protocol.errors import EXIT_INTERRUPTED, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from dfs.bench.samples import Sample

ROUNDS = 3


@remote_command("bench")
@click.argument("workloads", metavar="[WORKLOAD…]", nargs=-1)
@click.option("--rounds", type=click.IntRange(1, 100), default=ROUNDS, show_default=True, help="Of every measurement.")
@click.option("--quick", is_flag=True, help="Less of everything, for a first look.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every sample.")
def bench_command(session: Session, workloads: tuple[str, ...], rounds: int, quick: bool, as_json: bool) -> None:
    """Measure the speed of the cluster, and what it costs.

    Workloads: big parallel tree small ranges names commits listing start (all if none is named), and namespace, which
    starts namenodes of its own. They work in a directory that is removed at the end; what they stored takes space until
    its grace is over. Medians and spreads of all rounds; clients are processes; CPU seconds are those of the clients
    and of the servers that run on this machine. Ctrl-C ends it, and shows what was measured until then.
    """
    from dfs.bench import report
    from dfs.bench.goals import GOALS
    from dfs.bench.lab import Scale
    from dfs.bench.samples import rows
    from dfs.bench.session import chosen, measure

    scale = Scale.quick() if quick else Scale()
    wanted = chosen(workloads)
    facts, results = measure(session.fs.url, wanted, rounds=rounds, scale=scale, tell=_tell)
    found = rows(results.samples)
    # Goals are of the full amount of work.
    goals = () if quick else GOALS
    if as_json:
        print_json(report.document(facts, found, goals, results.failures))
    else:
        sys.stdout.write("\n".join([*report.heading(facts), *report.lines(found, goals, results.failures)]) + "\n")
    if results.interrupted:
        raise SomeFailed(EXIT_INTERRUPTED)
    if results.failures:
        raise SomeFailed(EXIT_SOME_FAILED)


def _tell(sample: "Sample") -> None:
    """A line for each sample while one waits, if somebody looks."""
    if sys.stderr.isatty():
        from dfs.bench.report import number

        figure = sample.figure
        sys.stderr.write(f"{figure.workload}: {figure.case}, {figure.subject}: {number(sample.value)} {figure.unit}\n")
