"""How a local file gets its content and its name at one moment, whatever it is called."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dfs.get_tree import with_temporary
from dfs.protocol.errors import FileExists, NoSpace
from dfs.protocol.messages import Entry
from dfs.reader import reserve
from dfs.tree import temporary_name
from dfs.unnamed import UnnamedFiles


def an_entry(*, mode: int, mtime_ns: int) -> Entry:
    return Entry(
        path="/f", name="f", kind="file", size=5, mtime_ns=mtime_ns, mode=mode, owner="o", group="g", replication=3,
        version=1, etag="", inode=1,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["x", "a" * 255, "\u8a9e" * 85, "\U0001f600" * 63, "\u00e9" * 127, "x\udcff"])
def test_every_name_that_a_disk_takes_has_a_temporary_one(tmp_path: Path, name: str) -> None:
    target = str(tmp_path / name)
    assert len(os.fsencode(os.path.basename(temporary_name(target)))) <= 255
    with_temporary(target, lambda descriptor: _write(descriptor, b"x"), entry=None, overwrite=False)
    assert (tmp_path / name).read_bytes() == b"x"
    assert len(os.listdir(tmp_path)) == 1


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    target = str(tmp_path / "none" / "f")
    with pytest.raises(FileNotFoundError) as caught:
        with_temporary(target, lambda _: None, entry=None, overwrite=False)
    assert (caught.value.filename, caught.value.filename2) == (target, None)


def test_a_file_does_not_replace_a_directory_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    target = str(tmp_path / "d")
    with pytest.raises(IsADirectoryError) as caught:
        with_temporary(target, lambda descriptor: _write(descriptor, b"x"), entry=None, overwrite=True)
    assert caught.value.filename == target
    assert os.listdir(tmp_path) == ["d"]


def _write(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)


@pytest.fixture(name="files")
def unnamed_files() -> UnnamedFiles:
    return UnnamedFiles()


def test_an_unnamed_file_gets_its_name_with_its_bytes_mode_and_time(files: UnnamedFiles, tmp_path: Path) -> None:
    target = tmp_path / "f"
    entry = an_entry(mode=0o640, mtime_ns=1_600_000_000_123_456_789)
    assert files.write(str(target), b"bytes", entry=entry, overwrite=False)
    assert target.read_bytes() == b"bytes"
    found = target.stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns, found.st_nlink) == (0o640, entry.mtime_ns, 1)
    assert os.listdir(tmp_path) == ["f"]


def test_an_unnamed_file_respects_the_umask(files: UnnamedFiles, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert files.write(str(tmp_path / "f"), b"", entry=None, overwrite=False)
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_what_is_there_is_not_replaced_without_being_told(files: UnnamedFiles, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("f", "dangling"):
        with pytest.raises(FileExists):
            files.write(str(tmp_path / name), b"x", entry=None, overwrite=False)
    assert not files.write(str(tmp_path / "f"), b"x", entry=None, overwrite=True), "another way replaces it"
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "f"]


def test_a_file_that_can_not_be_filled_gets_no_name(
    files: UnnamedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoSpace):
        files.write(str(tmp_path / "f"), b"x", entry=None, overwrite=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR])
def test_a_file_system_without_unnamed_files_is_asked_once(
    files: UnnamedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked = []

    def refuse(path: str, *_: object) -> int:
        asked.append(path)
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "open", refuse)
    assert not files.write(str(tmp_path / "f"), b"x", entry=None, overwrite=False)
    assert not files.write(str(tmp_path / "f"), b"x", entry=None, overwrite=False)
    assert len(asked) == 1


def test_without_proc_or_a_directory_the_other_way_is_left_to_say_what_is_wrong(
    files: UnnamedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not files.write(str(tmp_path / "none" / "f"), b"x", entry=None, overwrite=False)

    def no_proc(source: str, target: str, **_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "not here", source, None, target)

    monkeypatch.setattr(os, "link", no_proc)
    assert not files.write(str(tmp_path / "f"), b"x", entry=None, overwrite=False)
    assert os.listdir(tmp_path) == []


def test_a_reserved_file_has_its_size_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reserved", "only sized"):
        descriptor = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT)
        try:
            reserve(descriptor, 3 << 20, name)
        finally:
            os.close(descriptor)
        assert (tmp_path / name).stat().st_size == 3 << 20
        monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    assert (tmp_path / "reserved").stat().st_blocks * 512 >= 3 << 20
    assert (tmp_path / "only sized").stat().st_blocks == 0


def test_more_than_there_is_room_for_is_not_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt would take all that is left, from everybody, before it fails."""
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=10, f_frsize=4096))
    descriptor = os.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(NoSpace, match="the local disk is full"):
            reserve(descriptor, 1 << 20, "f")
    finally:
        os.close(descriptor)
    assert ((tmp_path / "f").stat().st_size, (tmp_path / "f").stat().st_blocks) == (0, 0)


def test_a_disk_that_fills_up_is_noticed_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: SimpleNamespace(fallocate=lambda *_: -1))
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.ENOSPC)
    descriptor = os.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(NoSpace, match="the local disk is full"):
            reserve(descriptor, 1 << 20, "f")
    finally:
        os.close(descriptor)
