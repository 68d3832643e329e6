"""Runs the chains of workloads round by round, interleaved, and tells of every sample as it comes.

Separate from what is run and from how it is shown. All that is compared within a workload is measured in each round,
one after the other, and backwards in every other round, so that a machine that becomes slower does so for all.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dfs.bench.lab import Chain, Lab, Workload
from dfs.bench.samples import Sample
from dfs.protocol.errors import DfsError

References = Mapping[str, Callable[[Lab], Sequence[Chain]]]
"""By workload: what dfs is compared with."""


@dataclass
class Results:
    """What came of a run."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Chains that ended with an error, a sentence each: their further figures are missing."""
    interrupted: bool = False
    """Somebody had enough: what was measured until then is there."""


def run(
    lab: Lab,
    workloads: Sequence[Workload],
    *,
    rounds: int,
    references: References,
    tell: Callable[[Sample], None],
) -> Results:
    """Everything, round by round. What fails is told in the results, and the rest goes on.

    An interrupt ends it, and the figures of the minutes before are not lost. What was kept is then left to those who
    made the lab, who remove the directories with all that is in them.
    """
    results = Results()
    try:
        _run(lab, workloads, rounds, references, tell, results)
    except KeyboardInterrupt:
        results.interrupted = True
    return results


def _run(
    lab: Lab,
    workloads: Sequence[Workload],
    rounds: int,
    references: References,
    tell: Callable[[Sample], None],
    results: Results,
) -> None:
    for workload in workloads:
        chains = list(workload.chains(lab))
        if workload.name in references:
            chains += references[workload.name](lab)
        for number in range(rounds):
            for chain in chains if number % 2 == 0 else reversed(chains):
                # What the one before left unwritten must not be this one's wait.
                os.sync()
                try:
                    for sample in chain(lab):
                        results.samples.append(sample)
                        tell(sample)
                except (DfsError, OSError, ValueError) as error:
                    results.failures.append(f"{workload.name}, round {number + 1}: {error}")
        try:
            lab.tidy()
        except (DfsError, OSError) as error:
            results.failures.append(f"{workload.name}, afterwards: {error}")
