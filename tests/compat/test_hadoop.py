"""Hadoop's own shell, and Spark, over `webhdfs://`: the jars that the `pyspark` package brings (3.5: 4.x lacks one)."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dfs.testing import Cluster, cluster

BIG = b"".join(b"%07d\n" % number for number in range(300_000))
CONFIGURATION = """<configuration>
<property><name>hadoop.security.authentication</name><value>simple</value></property>
</configuration>
"""

Shell = Callable[..., str]


def jars() -> str:
    """Where Hadoop's jars are; "" if they are not."""
    found = importlib.util.find_spec("pyspark")
    return str(Path(found.origin).parent / "jars") if found is not None and found.origin else ""


pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None or not jars(), reason="needs Java and pyspark"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", params=["datanode", "namenode"])
def made(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(datanodes=3, webhdfs_data=request.param, chunk_size_bytes=1 << 20) as running:
        yield running


@pytest.fixture
def shell(made: Cluster, tmp_path: Path) -> Shell:
    """Runs a command of `hadoop fs`; what it printed."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "core-site.xml").write_text(CONFIGURATION)

    def run(*arguments: str, code: int = 0, options: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-cp", f"{tmp_path}/conf:{jars()}/*",
             "org.apache.hadoop.fs.FsShell", *options, "-fs", made.url.replace("http://", "webhdfs://"), *arguments],
            capture_output=True,
            env={**os.environ, "HADOOP_USER_NAME": "ann", "LC_ALL": "C.UTF-8"},
            check=False,
        )  # fmt: skip
        assert done.returncode == code, (arguments, done.stderr.decode()[-2000:])
        return done.stdout.decode()

    return run


def test_the_shell_does_what_it_does_with_hdfs(made: Cluster, shell: Shell, tmp_path: Path) -> None:
    local, more, back = tmp_path / "big", tmp_path / "more", tmp_path / "back"
    local.write_bytes(BIG)
    more.write_bytes(b"more\n")
    shell("-mkdir", "-p", "/h/ä%b", "/user/ann")
    shell("-put", str(local), "/h/ä%b/ü f")
    assert "/h/ä%b/ü f" in shell("-ls", "/h/ä%b")
    assert shell("-cat", "/h/ä%b/ü f").encode() == BIG
    shell("-get", "/h/ä%b/ü f", str(back))
    assert back.read_bytes() == BIG
    shell("-appendToFile", str(more), "/h/ä%b/ü f")
    assert made.connect().read_bytes("/h/ä%b/ü f") == BIG + b"more\n"
    assert shell("-tail", "/h/ä%b/ü f").endswith("more\n")
    shell("-cp", "/h/ä%b/ü f", "/h/copy")
    shell("-mv", "/h/copy", "/h/moved")
    assert made.connect().read_bytes("/h/moved") == BIG + b"more\n"
    assert shell("-du", "-s", "/h").split()[0] == str(2 * (len(BIG) + 5))
    assert shell("-count", "/h").split()[:2] == ["2", "2"]
    assert "webhdfs://" in shell("-df", "/")
    shell("-setrep", "2", "/h/moved")
    shell("-chmod", "640", "/h/moved")
    shell("-chown", "bob:staff", "/h/moved")
    assert shell("-stat", "%r %a %u %g", "/h/moved").split() == ["2", "640", "bob", "staff"]
    shell("-test", "-e", "/h/moved")
    shell("-test", "-e", "/h/nothing", code=1)
    assert "MD5-of-" in shell("-checksum", "/h/moved")
    shell("-setfattr", "-n", "user.a", "-v", "one", "/h/moved")
    assert 'user.a="one"' in shell("-getfattr", "-d", "/h/moved")
    shell("-setfacl", "-m", "user:eve:r--", "/h/moved")
    assert "user:eve:r--" in shell("-getfacl", "/h/moved")
    shell("-truncate", "8", "/h/moved")
    assert shell("-cat", "/h/moved") == "0000000\n"
    shell("-rm", "-skipTrash", "/h/moved")
    shell("-rm", "/h/ä%b/ü f", options=("-Dfs.trash.interval=10",))
    assert made.connect().read_bytes("/user/ann/.Trash/Current/h/ä%b/ü f") == BIG + b"more\n"
    shell("-rm", "/h/nothing", code=1)
    shell("-rm", "-r", "-skipTrash", "/h")
    assert not made.connect().exists("/h")


SPARK = """
import sys
from pyspark.sql import SparkSession
url = sys.argv[1]
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate())
table = spark.range(100000).selectExpr("id", "id % 7 as part", "concat('name ', id) as name")
table.write.partitionBy("part").parquet(url + "/spark/table")
table.limit(10).write.mode("overwrite").parquet(url + "/spark/table2")
table.limit(20).write.mode("overwrite").parquet(url + "/spark/table2")
again = spark.read.parquet(url + "/spark/table")
assert again.count() == 100000
assert again.where("part = 3").agg({"id": "sum"}).first()[0] == sum(range(3, 100000, 7))
assert spark.read.parquet(url + "/spark/table2").count() == 20
print("done")
"""


def test_spark_writes_and_reads_parquet(made: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(SPARK)
    done = subprocess.run(
        [sys.executable, str(script), made.url.replace("http://", "webhdfs://")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HADOOP_USER_NAME": "ann", "SPARK_LOCAL_IP": "127.0.0.1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert made.connect().exists("/spark/table/_SUCCESS")
