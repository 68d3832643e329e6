"""The namenode's store is lost, and comes back from what the datanodes have of it: a real cluster, real kills."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dfs.client import Client
from dfs.errors import DfsError, FileNotFound
from dfs.protocol.capability import metadata_proof
from dfs.protocol.errors import NotPermitted
from dfs.protocol.messages import MetadataParts, ReadMetadata
from dfs.protocol.metadata_log import BackupReader
from dfs.protocol.metadata_parts import MetadataSource
from dfs.protocol.operations import METADATA_PARTS, READ_METADATA
from dfs.protocol.transport import Transport
from dfs.testing import cluster
from dfs.testing.clusters import Cluster
from fixtures.command import run_dfs

SECRET = "only for joining"


def wait_for(what: Callable[[], bool], why: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


def backed_up_to(fs: Client) -> int:
    backup = fs.status().backup
    return 0 if backup is None else backup.seq


def all_backed_up(fs: Client) -> bool:
    backup = fs.status().backup
    return backup is not None and backup.seq > 0 and backup.behind_s == 0


def put_some(fs: Client, directory: str, count: int) -> dict[str, bytes]:
    files = {f"{directory}/{number}": os.urandom(1 + 7000 * number) for number in range(count)}
    for path, data in files.items():
        fs.write_bytes(path, data, parents=True)
    return files


def datanode_urls(made: Cluster) -> str:
    return ",".join(datanode.url for datanode in made.datanodes)


def all_joined(fs: Client, count: int) -> bool:
    nodes = fs.status().datanodes
    return len(nodes) == count and all(node.seconds_since_heartbeat is not None for node in nodes)


def chunk_files(made: Cluster) -> set[str]:
    return {chunk for datanode in made.datanodes for chunk in datanode.chunk_paths()}


def lose_and_restore(made: Cluster, *how: str) -> Client:
    """The namenode dies with its directory; it is restored as told, started, and all datanodes are back."""
    made.namenode.kill()
    shutil.rmtree(made.namenode.dir)
    done = run_dfs("admin", "restore", "--dir", made.namenode.dir, *how)
    assert done.code == 0, done.error
    assert "dfs admin rebuild --from-datanodes" in done.text
    made.namenode.start()
    made.namenode.wait_ready()
    again = made.connect()
    wait_for(lambda: all_joined(again, len(made.datanodes)), "the datanodes did not come back under the new secret")
    return again


def test_a_lost_store_comes_back_from_the_datanodes_with_every_file_that_was_backed_up() -> None:  # F63 F71
    with cluster(3, backup_interval_s=0.5, join_secret=SECRET) as made:
        fs = made.connect()
        files = put_some(fs, "/old", 6)
        wait_for(lambda: backed_up_to(fs) > 0, "no snapshot was made")
        files |= put_some(fs, "/new", 6)
        fs.rename("/old", "/moved")
        files = {path.replace("/old/", "/moved/"): data for path, data in files.items()}
        fs.remove("/new/3")
        del files["/new/3"]
        wait_for(lambda: all_backed_up(fs), "the changes were not backed up")
        before = fs.status()
        chunks = chunk_files(made)
        again = lose_and_restore(made, "--from-datanodes", datanode_urls(made), "--join-secret", SECRET)
        for path, data in files.items():
            assert again.read_bytes(path) == data
        for gone in ("/old", "/new/3"):
            with pytest.raises(FileNotFound):
                again.stat(gone)
        again.write_bytes("/after", b"the cluster goes on")
        assert again.read_bytes("/after") == b"the cluster goes on"
        now = again.status()
        assert now.cluster == before.cluster
        assert now.seq > before.seq
        assert any("resolve-history" in why for why in now.safe_modes)
        # Nothing that the store does not know is deleted: the newer backups, say.
        again.collect_garbage()
        assert chunks <= chunk_files(made)
        assert oct(os.stat(os.path.join(made.namenode.dir, "secret")).st_mode & 0o777) == "0o600"
        # A datanode has its new key now, and proves it in its next life.
        made.datanodes[0].restart()
        wait_for(lambda: all_joined(again, 3), "a datanode could not register with its new key")
        # Those that have not been restarted since are no worse off when the namenode is.
        made.namenode.restart()
        wait_for(lambda: all_joined(again, 3), "the datanodes did not come back to a restarted namenode")
        assert {node.state for node in again.status().datanodes} == {"live"}
        again.write_bytes("/later", b"three replicas")
        # The new history is backed up at once, with a snapshot of its own.
        wait_for(lambda: all_backed_up(again), "the restored store is not backed up")


def test_a_namenode_killed_while_it_ships_backups_leaves_nothing_wrong() -> None:
    with cluster(2, backup_interval_s=0.05, backup_snapshot_interval_s=1, monitor_interval_s=0.05) as made:
        fs = made.connect()
        files: dict[str, bytes] = {}
        for turn in range(5):
            files |= put_some(fs, f"/{turn}", 4)
            made.namenode.kill()
            made.namenode.start()
            made.namenode.wait_ready()
            made.wait_writable()
        files |= put_some(fs, "/last", 2)
        wait_for(lambda: all_backed_up(fs), "backups did not go on after the kills")
        assert not os.path.exists(os.path.join(made.namenode.dir, "backup.tmp"))
        report = run_dfs("--namenode", made.url, "fsck", "--json")
        assert report.code == 0, report.text + report.error
        again = lose_and_restore(made, "--from-datanodes", datanode_urls(made))
        for path, data in files.items():
            assert again.read_bytes(path) == data


def test_an_operator_gets_a_backup_now_and_restores_it_from_a_file(tmp_path: Path) -> None:
    with cluster(1) as made:
        fs = made.connect()
        files = put_some(fs, "/d", 3)
        output = tmp_path / "store.backup"
        done = run_dfs("--namenode", made.url, "admin", "backup", "--output", str(output), "--json")
        assert done.code == 0, done.error
        with output.open("rb") as file:
            reader = BackupReader(file)
            assert reader.header.kind == "snapshot"
            assert sum(len(frame) for frame in reader.frames()) > 0
        refused = run_dfs("admin", "restore", "--dir", made.namenode.dir, "--from-file", str(output))
        assert refused.code != 0
        assert "not empty" in refused.error
        again = lose_and_restore(made, "--from-file", str(output))
        for path, data in files.items():
            assert again.read_bytes(path) == data


def test_without_any_backup_an_empty_store_of_the_same_cluster_is_made() -> None:  # F64
    with cluster(2) as made:
        fs = made.connect()
        fs.write_bytes("/lost", b"only its chunk is left")
        before, chunks = fs.status(), chunk_files(made)
        again = lose_and_restore(made, "--from-datanodes", datanode_urls(made))
        now = again.status()
        assert (now.cluster, now.files) == (before.cluster, 0)
        assert now.seq > before.seq
        assert now.safe_modes
        again.collect_garbage()
        assert chunks <= chunk_files(made)


def test_only_who_knows_the_join_secret_reads_backups_and_nobody_reads_files_that_way() -> None:
    with cluster(1, join_secret=SECRET) as made:
        fs = made.connect()
        fs.write_bytes("/file", b"of a user")
        fs.admin.backup()
        url = made.datanodes[0].url
        transport = Transport()
        for proof in ("", "0" * 64):
            with pytest.raises(NotPermitted) as refused:
                transport.call(url, METADATA_PARTS, MetadataParts(proof=proof))
        proof = metadata_proof(SECRET, refused.value.detail["challenge"])
        found = transport.call(url, METADATA_PARTS, MetadataParts(proof=proof))
        assert [part.what for part in found.parts] == ["snapshot"]
        (other,) = chunk_files(made) - {part.chunk for part in found.parts}
        with pytest.raises(NotPermitted):
            transport.call(url, READ_METADATA, ReadMetadata(proof=proof, chunk=other, offset=0, length=1))
        with pytest.raises(NotPermitted):
            MetadataSource(transport, [url], join_secret="wrong").find()
        # Also before it has registered: a datanode that was started while there is no namenode.
        made.namenode.kill()
        made.datanodes[0].kill()
        made.datanodes[0].start()
        source = MetadataSource(transport, [url], join_secret=SECRET)

        def answers() -> bool:
            try:
                return bool(source.find().backups)
            except DfsError:
                return False

        wait_for(answers, "a datanode without a namenode does not give its backups out")
