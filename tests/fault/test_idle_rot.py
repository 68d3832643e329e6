"""Bits that rot where nobody reads: the scrub finds them, and the cluster heals without a command."""

import os

from dfs.testing import cluster
from fixtures.faults import MIB, datanode_of, good_replicas, healthy, seeded, wait_until, wrong_replicas


def test_bits_that_rot_in_idle_chunks_are_found_and_their_replicas_replaced() -> None:  # F39
    """Two replicas on three datanodes: one is made anew elsewhere, the bad one dropped. Three: it is made beside it."""
    rng = seeded("idle")
    with cluster(datanodes=3, scrub_period_s=4) as running, running.connect() as fs:
        files = {f"/{copies}": (copies, rng.randbytes(2 * MIB)) for copies in (2, 3)}
        kept = {}
        for path, (copies, data) in files.items():
            fs.write_bytes(path, data, replication=copies)
            [chunk] = fs.places(path).chunks
            victim = datanode_of(running, chunk.replicas[0].datanode)
            victim.flip(chunk.id, offset=rng.randrange(len(data)), bit=rng.randrange(8))
            with open(victim.chunk_path(chunk.id), "rb") as file:
                kept[os.path.join(victim.dir, "quarantine", f"{chunk.id}.chunk")] = file.read()

        def healed() -> bool:
            return (
                all(os.path.exists(path) for path in kept)
                and all(
                    [len(good) for good in good_replicas(fs, path)] == [copies]
                    and not wrong_replicas(running, fs, path, data)
                    for path, (copies, data) in files.items()
                )
                and healthy(fs.status(), 3)
            )

        took = wait_until(healed, 60, "the bad replicas are replaced and in quarantine, and all is well")
        print(f"healed after {took:.1f} s")
        for path, rotten in kept.items():
            with open(path, "rb") as file:
                assert file.read() == rotten
        assert {path: fs.read_bytes(path) for path in files} == {path: data for path, (_, data) in files.items()}
        ages = [volume.scrub_age_s for node in fs.status().datanodes for volume in node.volumes]
        assert all(0 <= age < 60 for age in ages)
