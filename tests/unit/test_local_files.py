"""How a local file gets its content and its name at one moment, whatever it is called."""

import os
from pathlib import Path

import pytest

from dfs.get_tree import with_temporary
from dfs.tree import temporary_name


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
