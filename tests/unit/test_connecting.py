"""Which namenode is meant, the public names, the suspects and the threads."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import dfs
from dfs.connecting import DEFAULT_URL, namenode_urls, parse_url
from dfs.namenodes import Namenodes
from dfs.protocol import errors as e
from dfs.protocol import messages as m
from dfs.protocol.operations import COMMIT, STAT
from dfs.suspects import FORGET_AFTER_S, Suspects
from dfs.workers import Workers
from fixtures.fake_cluster import FakeClock, FakeCluster


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://nn:1234", "http://nn:1234"),
        ("nn:1234", "http://nn:1234"),
        ("nn", "http://nn:9870"),
        ("dfs://nn:1234", "http://nn:1234"),
        ("dfs://nn/some/path", "http://nn:9870"),
        ("https://nn", "https://nn:443"),
        ("http://[::1]:5/", "http://[::1]:5"),
    ],
)
def test_a_namenode_is_named_in_several_ways(text: str, url: str) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    "text", ["ftp://nn", "http://", "http://nn:x", "http://nn/path", "http://nn?x=1", "http://u@nn"]
)
def test_what_is_no_namenode_is_refused(text: str) -> None:
    with pytest.raises(e.InvalidRequest, match=r"http://host:9870|has none"):
        parse_url(text)


def test_an_argument_wins_over_the_environment_over_the_profile_over_the_default(tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert namenode_urls(None, home) == [DEFAULT_URL]
    (tmp_path / "dfs").mkdir()
    profile = tmp_path / "dfs" / "config.toml"
    profile.write_text('[client]\nnamenode = ["http://p1:1", "http://p2:2"]\n')
    assert namenode_urls(None, home) == ["http://p1:1", "http://p2:2"]
    environ = home | {"DFS_NAMENODE": "http://e1:1, http://e2:2"}
    assert namenode_urls(None, environ) == ["http://e1:1", "http://e2:2"]
    assert namenode_urls("a:1", environ) == ["http://a:1"]
    profile.write_text('[client]\nnamenod = "http://p1:1"\n')
    with pytest.raises(e.InvalidRequest, match="no setting 'namenod'"):
        namenode_urls(None, home)
    profile.write_text("not toml")
    with pytest.raises(e.InvalidRequest, match="profile"):
        namenode_urls(None, home)


def test_importing_dfs_imports_nothing_heavy() -> None:
    code = "import sys, dfs; print([m for m in ('msgspec', 'xxhash', 'http.client', 'asyncio') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout
    assert out.strip() == "[]"


def test_the_public_names_are_there() -> None:
    assert dfs.errors.FileNotFound is e.FileNotFound
    assert issubclass(dfs.errors.FileNotFound, FileNotFoundError)
    assert dfs.Entry is m.Entry
    assert callable(dfs.connect)
    assert {"connect", "Client", "errors"} <= set(dir(dfs))
    with pytest.raises(AttributeError):
        dfs.nothing  # noqa: B018


def test_every_public_error_of_the_protocol_is_exported() -> None:
    assert {kind.__name__ for kind in e.BY_CODE.values()} <= set(dfs.errors.__all__)


@pytest.mark.parametrize("name", ["DFS_NAMENODES", "DFS_NAMNODE", "DFS_NAMENODE_URL", "DFS_NAME_NODE", "dfs_namenode"])
def test_a_variable_that_is_nearly_the_namenodes_never_passes_for_the_default(name: str) -> None:
    nowhere = {"XDG_CONFIG_HOME": "/nonexistent"}
    with pytest.raises(e.InvalidRequest, match=f"{name}.*DFS_NAMENODE"):
        namenode_urls(environ={name: "http://production:9870", **nowhere})
    # Where it is known what is meant, it does no harm.
    assert namenode_urls("there", environ={name: "x"}) == ["http://there:9870"]
    assert namenode_urls(environ={name: "x", "DFS_NAMENODE": "here", **nowhere}) == ["http://here:9870"]


@pytest.mark.parametrize(
    "name", ["DFS_DATANODE_ID", "DFS_DEBUG", "DFS_TEST_SEED", "DFS_NODES", "DFS_HEARTBEAT_INTERVAL_S"]
)
def test_other_variables_are_none_of_a_clients_business(name: str) -> None:
    assert namenode_urls(environ={name: "1", "XDG_CONFIG_HOME": "/nonexistent"}) == ["http://127.0.0.1:9870"]


class TwoNamenodes:
    """The first refuses until it is told otherwise."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.down = {"http://a:1"}
        self.asked: list[str] = []

    def call(self, base_url: str, operation: object, request: object, *, timeout_s: float | None = None) -> object:
        self.asked.append(base_url)
        if base_url in self.down:
            raise e.NotSent("refused")
        return self.cluster.call(base_url, operation, request)


def test_a_namenode_that_is_down_is_replaced_by_the_next_which_stays_in_use() -> None:
    clock = FakeClock()
    two = TwoNamenodes(FakeCluster())
    urls = ["http://a:1", "http://b:1"]
    namenodes = Namenodes(urls, two, clock=clock, rng=random.Random(1), wait=clock.wait)  # type: ignore[arg-type]
    namenodes.facts()
    namenodes.refresh()
    assert two.asked == ["http://a:1", "http://b:1", "http://b:1"]
    two.down = {"http://b:1"}
    namenodes.refresh()
    assert two.asked[3:] == ["http://b:1", "http://a:1"]


class Refusing:
    """Meets the same error whatever is called."""

    def __init__(self, error: e.DfsError) -> None:
        self.error = error

    def call(self, _base_url: str, _operation: object, _request: object, *, timeout_s: float | None = None) -> object:
        raise self.error


@pytest.mark.parametrize(
    ("error", "write", "words"),
    [
        (e.NotSent("refused"), False, "is it running?"),
        (e.OutcomeUnknown("silence"), False, "is a namenode there"),
        (e.OutcomeUnknown("silence"), True, "whether it was done is not known"),
        (e.BadAnswer("<html>\n" + "x" * 500), False, "no dfs namenode that this client understands (<html> xxx"),
    ],
)
def test_no_usable_answer_is_one_sentence_that_says_what_to_do(error: e.DfsError, write: bool, words: str) -> None:
    clock = FakeClock()
    namenodes = Namenodes(["http://a:1"], Refusing(error), clock=clock, rng=random.Random(1), wait=clock.wait)  # type: ignore[arg-type]
    operation, request = (COMMIT, m.Commit(op_id="0" * 32, actions=[])) if write else (STAT, m.Stat(path="/"))
    with pytest.raises(type(error)) as caught:
        namenodes.call(operation, request)  # type: ignore[arg-type]
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250


def test_a_suspect_is_forgotten_after_a_while_and_when_it_answers() -> None:
    clock = FakeClock()
    suspects = Suspects(clock)
    suspects.add(["a", "b"])
    suspects.clear("b")
    assert suspects.now() == {"a"}
    clock.wait(FORGET_AFTER_S)
    assert suspects.now() == frozenset()


def test_results_come_in_order_and_a_failure_waits_for_what_is_under_way() -> None:
    workers = Workers(3)
    assert list(workers.map(lambda number: number * 2, range(50))) == [number * 2 for number in range(50)]
    done: list[int] = []
    gate = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            gate.wait(5)
            raise ZeroDivisionError
        gate.set()
        done.append(number)

    with pytest.raises(ZeroDivisionError):
        list(workers.map(work, range(3)))
    assert set(done) <= {1, 2}
    workers.close()
    assert list(workers.map(str, [1])) == ["1"]
    workers.close()


def test_the_threads_work_again_in_a_forked_child() -> None:
    code = (
        "import os\nfrom dfs.workers import Workers\nw = Workers(2)\nassert w.submit(str, 1).result() == '1'\n"
        "pid = os.fork()\nif pid == 0:\n"
        "    ok = w.submit(str, 2).result(timeout=10) == '2'\n    os._exit(0 if ok else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\nw.close()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.strip() == "0", run.stderr
