"""Servers with much in them start after SIGKILL, and report everything. `make faults` takes much more."""

from pathlib import Path

from fault.startup import datanode_rows, namenode_rows

FILES = 12_000
CHUNKS = 1500


def test_a_namenode_with_many_files_starts_after_a_kill_with_all_that_it_acknowledged(tmp_path: Path) -> None:  # F19
    for what, figure in namenode_rows(str(tmp_path), FILES):
        print(f"{what}: {figure}")


def test_a_datanode_with_many_chunks_and_some_in_doubt_starts_and_reports_all(tmp_path: Path) -> None:  # F90 F96
    for what, figure in datanode_rows(str(tmp_path), CHUNKS):
        print(f"{what}: {figure}")
