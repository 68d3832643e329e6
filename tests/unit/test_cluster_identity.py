"""The cluster's secret and the store belong together (F64)."""

import os
from pathlib import Path

import pytest

from dfs.protocol.clock import SystemClock
from dfs.protocol.errors import Conflict
from dfs_namenode import keys
from dfs_namenode.founding import found
from dfs_namenode.steady_clock import SteadyClock
from dfs_namenode.store import meta
from dfs_namenode.store.sqlite import SqliteStore


def start(directory: Path) -> tuple[str, bytes, int]:
    clock = SteadyClock(SystemClock())
    store = SqliteStore.open(str(directory), clock=clock)
    try:
        founded = found(store, str(directory), clock)
        return founded.cluster, founded.keys.secret, founded.epoch
    finally:
        store.close()


def test_a_cluster_keeps_its_identity_and_every_start_has_a_higher_epoch(tmp_path: Path) -> None:
    cluster, secret, epoch = start(tmp_path)
    assert start(tmp_path) == (cluster, secret, epoch + 1)
    assert os.stat(tmp_path / "secret").st_mode & 0o777 == 0o600
    assert secret.hex().encode() not in (tmp_path / "namenode.db").read_bytes()


def test_a_kill_between_the_store_and_the_secret_is_finished_by_the_next_start(tmp_path: Path) -> None:
    cluster, secret, _ = start(tmp_path)
    os.rename(tmp_path / "secret", tmp_path / "secret.new")
    assert start(tmp_path)[:2] == (cluster, secret)


def test_a_kill_before_the_store_knew_the_cluster_begins_anew(tmp_path: Path) -> None:
    keys.prepare_secret(str(tmp_path), "a" * 32)
    assert start(tmp_path)[0] != "a" * 32


def test_a_secret_beside_an_empty_store_is_refused(tmp_path: Path) -> None:
    start(tmp_path)
    for name in os.listdir(tmp_path):
        if name.startswith("namenode.db"):
            os.unlink(tmp_path / name)
    with pytest.raises(Conflict, match="empty store"):
        start(tmp_path)


@pytest.mark.parametrize("damage", [None, b"{", b'{"cluster": "x", "secret": "00"}'])
def test_a_store_without_its_secret_is_refused(tmp_path: Path, damage: bytes | None) -> None:
    start(tmp_path)
    if damage is None:
        os.unlink(tmp_path / "secret")
    else:
        (tmp_path / "secret").write_bytes(damage)
    with pytest.raises(Conflict, match=r"restore it|belongs to"):
        start(tmp_path)


def test_a_store_that_forgot_something_starts_at_that_time_at_the_earliest(tmp_path: Path) -> None:
    start(tmp_path)
    clock = SteadyClock(SystemClock())
    ahead = clock.wall_ms() + 3_600_000
    store = SqliteStore.open(str(tmp_path), clock=clock)
    store.write_blocking(lambda tx: meta.forgot_at(tx, ahead))
    found(store, str(tmp_path), clock)
    store.close()
    assert clock.wall_ms() >= ahead
