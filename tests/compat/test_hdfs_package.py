"""The `hdfs` package's own integration tests, from its source distribution, against us.

`make compat` fetches it; DFS_HDFS_SDIST names the file. Left out: snapshots, which dfs does not have, and two tests
whose data the distribution lacks.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dfs.testing import cluster

SDIST = os.environ.get("DFS_HDFS_SDIST", "")
MODULES = ("test_client", "test_main", "test_config", "test_util")
LEFT_OUT = "not TestSnapshot and not test_autoload_client_from"
PASSED_MIN = 200
SKIPPED_MAX = 4
"""Those that the package itself skips everywhere."""

pytestmark = pytest.mark.skipif(not SDIST, reason="DFS_HDFS_SDIST names no source distribution of hdfs")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("data", ["datanode", "namenode"])
def test_the_packages_own_tests_pass(tmp_path: Path, data: str) -> None:
    pytest.importorskip("hdfs")
    with tarfile.open(SDIST) as archive:
        archive.extractall(tmp_path, filter="data")
    (home,) = tmp_path.iterdir()
    (home / "test" / "__init__.py").touch()
    shutil.copy(Path(__file__).parent / "hdfs_suite" / "util.py", home / "test" / "util.py")
    (home / "test" / "dat").mkdir()
    for name in ("one", "two"):
        (home / "test" / "dat" / name).write_text(name)
    with cluster(datanodes=3, webhdfs_data=data) as made:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "--rootdir", ".",
             "-k", LEFT_OUT, *(f"test/{module}.py" for module in MODULES)],
            cwd=home,
            env={**os.environ, "HDFSCLI_TEST_URL": made.url, "PYTHONPATH": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= PASSED_MIN, done.stdout[-2000:]
    skipped = re.search(r"(\d+) skipped", done.stdout)
    assert skipped is None or int(skipped[1]) <= SKIPPED_MAX, done.stdout[-2000:]
