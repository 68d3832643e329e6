"""How soon lost datanodes are noticed and made up for, with the times that `dfs mini` has.

    PYTHONPATH=tests python -m fault.noticing

The thrasher does the same with times so short that a run of minutes sees many losses; here they are what people get.
"""

import random
import time

from dfs.mini import SETTINGS
from dfs.testing import cluster
from fixtures.page import Section, table
from fixtures.recovery import GIVEN_UP, NOTICED, replicas_again, watch_recovery

DATANODES = 6
"""Two of fewer are more than a third: then nothing is repaired, on purpose."""
FILES = 60
FILE_BYTES = 2 << 20
DEFAULTS = {"heartbeat_interval_s": 3, "stale_after_s": 15, "probe_interval_s": 3}
"""What `dfs.testing` makes shorter and mini does not."""
TIMEOUT_S = 300.0


def lose(count: int) -> dict[str, float]:
    """Lose so many datanodes at once; seconds until what. Raises AssertionError: a step was never reached."""
    rng = random.Random(count)
    with cluster(DATANODES, 3, **(SETTINGS | DEFAULTS)) as running:
        fs = running.connect()
        contents = {f"/{number}": rng.randbytes(FILE_BYTES) for number in range(FILES)}
        for path, data in contents.items():
            fs.write_bytes(path, data)
        victims = rng.sample(running.datanodes, count)
        for victim in victims:
            victim.kill()
        began = time.monotonic()
        marks = watch_recovery(
            running.namenode.url, list(contents), {victim.id for victim in victims}, began=began, timeout_s=TIMEOUT_S
        )
        for path, data in contents.items():
            assert fs.read_bytes(path) == data, f"{path} is wrong"
    missing = {NOTICED, GIVEN_UP, replicas_again(2), replicas_again(3)} - set(marks)
    assert not missing, f"not within {TIMEOUT_S:.0f} s: {sorted(missing)}"
    return marks


def measure() -> Section:
    """The stage of `make faults`."""
    rows = []
    for count in (1, 2):
        marks = lose(count)
        print(f"  {count} of {DATANODES} lost: {marks}", flush=True)
        what = f"{count} datanode{'s' if count > 1 else ''} of {DATANODES} lost"
        rows += [(f"{what}: {mark}", f"{seconds:.1f} s") for mark, seconds in marks.items()]
    intro = (
        f"{FILES} files of {FILE_BYTES >> 20} MiB, three replicas; heartbeats every 3 s, stale after 15 s, dead after "
        "30 s. With one datanode lost every chunk keeps two replicas."
    )
    return Section("Loss of datanodes, with the times of `dfs mini`", f"{intro}\n\n{table(('what', 'after'), rows)}")


if __name__ == "__main__":
    print(measure().text)
