"""`find`, `tree`, `concat`, `truncate`, `du -h`, profiles and completion, as people and scripts use them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from dfs.testing import Cluster
from fixtures.command import Run, clean_environ, run_dfs

_NUMBERS = count()


@pytest.fixture(name="base")
def a_path_with_a_few_files(dfs_command: Run) -> str:
    path = f"/everyday-{next(_NUMBERS)}"
    assert dfs_command("mkdir", "-p", f"{path}/d/e", f"{path}/.hidden").code == 0
    for name, data in (("a.txt", b"one"), ("B.TXT", b"x" * 5000), ("d/c.txt", b""), ("d/e/f g", b"two")):
        assert dfs_command("put", "-", f"{path}/{name}", stdin=data).code == 0
    return path


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], ["", "/.hidden", "/B.TXT", "/a.txt", "/d", "/d/c.txt", "/d/e", "/d/e/f g"]),
        (["-name", "*.txt"], ["/a.txt", "/d/c.txt"]),
        (["-iname", "*.txt"], ["/B.TXT", "/a.txt", "/d/c.txt"]),
        (["-path", "*/d/*f*"], ["/d/e/f g"]),
        (["-type", "d"], ["", "/.hidden", "/d", "/d/e"]),
        (["-type", "f", "-size", "+1KiB"], ["/B.TXT"]),
        (["-size", "-5000"], ["/a.txt", "/d/c.txt", "/d/e/f g"]),
        (["-size", "3"], ["/a.txt", "/d/e/f g"]),
        (["-empty"], ["/d/c.txt"]),
        (["-maxdepth", "1", "-type", "f"], ["/B.TXT", "/a.txt"]),
        (["--mindepth", "2", "--type", "d"], ["/d/e"]),
        (["-mtime", "+1"], []),
        (["-mtime", "-1", "-name", "a*"], ["/a.txt"]),
        (["-newer", "2999-01-01"], []),
        (["-newer", "2000-01-01T10:00", "-name", "a*"], ["/a.txt"]),
    ],
)
def test_find_shows_what_passes_all_tests(dfs_command: Run, base: str, options: list[str], found: list[str]) -> None:
    ended = dfs_command("find", base, *options)
    assert (ended.code, ended.error) == (0, "")
    assert ended.lines == [base + name for name in found]


def test_find_is_for_programs_too(dfs_command: Run, base: str) -> None:
    assert dfs_command("find", base, "-name", "f g", "-print0").out == f"{base}/d/e/f g\0".encode()
    [record] = [json.loads(line) for line in dfs_command("find", base, "-name", "B*", "--json").lines]
    assert (record["path"], record["size"], record["kind"]) == (f"{base}/B.TXT", 5000, "file")
    newer = dfs_command("find", base, "-newer", f"{base}/B.TXT", "-type", "f").lines
    assert newer == [f"{base}/d/c.txt", f"{base}/d/e/f g"]
    assert dfs_command("find", f"{base}/nope").code == 3
    assert dfs_command("find", base, "-size", "many").code == 2
    assert dfs_command("find", base, "-newer", "yesterday").code == 2


def test_a_tree_is_drawn_and_counted(dfs_command: Run, base: str) -> None:
    assert dfs_command("tree", "-s", base).lines == [
        base,
        "├── B.TXT  4.9 KiB",
        "├── a.txt  3 B",
        "└── d",
        "    ├── c.txt  0 B",
        "    └── e",
        "        └── f g  3 B",
        "",
        "2 directories, 4 files, 4.9 KiB",
    ]
    assert dfs_command("tree", "-L", "1", "-a", "-d", base).lines[1:3] == ["├── .hidden", "└── d"]
    records = [json.loads(line) for line in dfs_command("tree", "--json", base).lines]
    assert [(record["name"], record["depth"]) for record in records[1:]] == [
        ("B.TXT", 1), ("a.txt", 1), ("d", 1), ("c.txt", 2), ("e", 2), ("f g", 3)
    ]  # fmt: skip
    assert dfs_command("tree", f"{base}/nope").code == 3


def test_files_are_joined_and_cut(dfs_command: Run, base: str) -> None:
    assert dfs_command("concat", f"{base}/a.txt", f"{base}/d/e/*").code == 0
    assert dfs_command("cat", f"{base}/a.txt").out == b"onetwo"
    assert dfs_command("test", "-e", f"{base}/d/e/f g").code == 1
    ended = dfs_command("concat", f"{base}/new", f"{base}/a.txt")
    assert ended.code == 3
    assert "--create" in ended.error
    assert dfs_command("concat", "--create", f"{base}/new", f"{base}/a.txt").code == 0
    assert dfs_command("concat", f"{base}/new", f"{base}/nope").code == 3
    assert dfs_command("truncate", "-s", "4", f"{base}/new").code == 0
    assert dfs_command("cat", f"{base}/new").out == b"onet"
    assert dfs_command("truncate", "-s", "1KiB", f"{base}/new").code == 2
    assert dfs_command("truncate", f"{base}/new").code == 2
    assert dfs_command("truncate", "-s", "0", base).code == 4


@pytest.mark.parametrize("command", [["du", "-h", "-s"], ["ls", "-lh"], ["df", "-h"]])
def test_the_h_of_habit_is_no_call_for_help(dfs_command: Run, base: str, command: list[str]) -> None:
    ended = dfs_command(*command, *([base] if command[0] != "df" else []))
    assert (ended.code, ended.error) == (0, "")
    assert "KiB" in ended.text or "B" in ended.text
    assert "Usage" not in ended.text


def test_a_profile_says_which_cluster_and_how(dfs_cluster: Cluster, base: str, tmp_path: Path) -> None:
    (tmp_path / "dfs").mkdir()
    (tmp_path / "dfs" / "config.toml").write_text(
        f'profile = "away"\n[profiles.here]\nnamenode = "{dfs_cluster.url}"\nreplication = 2\n'
        '[profiles.away]\nnamenode = "http://127.0.0.1:1"\n'
    )
    environ = clean_environ(XDG_CONFIG_HOME=str(tmp_path))
    assert run_dfs("ls", base, environ=environ).code == 5
    assert run_dfs("--profile", "here", "ls", base, environ=environ).code == 0
    assert run_dfs("put", "--profile", "here", "-", f"{base}/p", stdin=b"x", environ=environ).code == 0
    assert dfs_cluster.connect().stat(f"{base}/p").replication == 2
    assert run_dfs("ls", base, environ=environ | {"DFS_PROFILE": "here"}).code == 0
    assert run_dfs("ls", base, environ=environ | {"DFS_NAMENODE": dfs_cluster.url}).code == 0
    ended = run_dfs("ls", "--profile", "nowhere", base, environ=environ)
    assert ended.code == 2
    assert "there are away, here" in ended.error


# --- completion -------------------------------------------------------------------------------------------------


def complete(line: str, **environ: str) -> list[str]:
    ended = run_dfs("completion", "--line", environ=clean_environ(COMP_LINE=line, **environ))
    assert (ended.code, ended.error) == (0, "")
    return ended.lines


def test_commands_options_and_paths_are_completed(dfs_cluster: Cluster, base: str, tmp_path: Path) -> None:
    at = {"DFS_NAMENODE": dfs_cluster.url}
    place = dfs_cluster.url.removeprefix("http://")
    assert complete("dfs tr") == ["tree", "truncate"]
    assert complete("dfs admin de") == ["decommission"]
    assert complete("dfs ls --re") == []
    assert complete("dfs put --re") == ["--replication", "--resume"]
    assert complete(f"dfs ls {base}/", **at) == [f"{base}/B.TXT", f"{base}/a.txt", f"{base}/d/"]
    assert complete(f"dfs ls {base}/.", **at) == [f"{base}/.hidden/"]
    assert complete(f"dfs get -r {base}/d/e/f", **at) == [f"{base}/d/e/f g"]
    assert complete(f"dfs cat {base}/d/e/f\\ ", **at) == [f"{base}/d/e/f g"]
    assert complete(f"dfs cat '{base}/d/e/f ", **at) == [f"{base}/d/e/f g"]
    assert complete(f"dfs ls dfs:{base}/a", **at) == [f"dfs:{base}/a.txt"]
    assert complete(f"dfs ls dfs://{place}{base}/a") == [f"dfs://{place}{base}/a.txt"]
    assert complete(f"dfs --namenode {dfs_cluster.url} ls {base}/a") == [f"{base}/a.txt"]
    assert complete(f"dfs put x {base}/a", **at) == [f"{base}/a.txt"]
    assert complete("dfs put ", **at) == [":files"]
    assert complete(f"dfs get {base}/a.txt loc", **at) == [":files"]
    assert complete(f"dfs sync {base}", **at) == [":files"]
    assert complete(f"dfs chmod 644 {base}/a", **at) == [f"{base}/a.txt"]
    (tmp_path / "dfs").mkdir()
    (tmp_path / "dfs" / "config.toml").write_text("[profiles.work]\n[profiles.home]\n")
    assert complete("dfs --profile w", XDG_CONFIG_HOME=str(tmp_path)) == ["work"]


def test_completion_is_silent_when_there_is_nothing_to_ask() -> None:
    assert complete("dfs ls /a", DFS_NAMENODE="127.0.0.1:1") == []
    assert complete("dfs ls /a", DFS_NAMENODE="not a url") == []
    assert complete("dfs nonsense /a") == []
    assert "put" in complete("")


def test_completion_does_not_wait_for_a_namenode_that_answers_byte_by_byte() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                for _ in range(200):
                    connection.sendall(b" ")
                    time.sleep(0.2)

        threading.Thread(target=drip, daemon=True).start()
        started_s = time.monotonic()
        assert complete("dfs ls /a", DFS_NAMENODE=f"http://127.0.0.1:{server.getsockname()[1]}") == []
        assert time.monotonic() - started_s < 20


def test_only_names_that_begin_so_are_asked_for(dfs_cluster: Cluster, base: str) -> None:
    fs = dfs_cluster.connect()
    with fs.transaction() as changes:
        for number in range(1500):
            changes.write_bytes(f"{base}/many/n{number:04}", b"", parents=True)
    assert complete(f"dfs ls {base}/many/n149", DFS_NAMENODE=dfs_cluster.url) == [
        f"{base}/many/n149{digit}" for digit in range(10)
    ]


_IN_BASH = """\
eval "$(dfs completion bash)"
COMP_WORDBREAKS="$1"; COMP_LINE="dfs ls $2"; COMP_POINT=${#COMP_LINE}
COMP_WORDS=(dfs ls "$2"); COMP_CWORD=2
if [[ $2 == dfs:* ]]; then COMP_WORDS=(dfs ls dfs : "${2#dfs:}"); COMP_CWORD=4; fi
compopt() { :; }
_dfs_complete dfs "$2" ls
printf "%s\\n" "${COMPREPLY[@]}"
"""
_IN_ZSH = """\
compdef() { :; }
compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -rl -- "$@"; }
eval "$(dfs completion zsh)"
words=(dfs ls "$2"); CURRENT=3; PREFIX="$2"
_dfs_complete
"""
_IN_FISH = 'dfs completion fish | source; complete -C "dfs ls $argv[2]"'
SHELLS = {
    "bash": ["bash", "--norc", "-c", _IN_BASH, "sh"],
    "fish": ["fish", "--no-config", "-c", _IN_FISH],
    "zsh": ["zsh", "-f", "-c", _IN_ZSH, "sh"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_offers_remote_paths(shell: str, dfs_cluster: Cluster, base: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")

    def offered(word: str) -> Sequence[str]:
        arguments = [*SHELLS[shell], " :", word]
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        environ = clean_environ(DFS_NAMENODE=dfs_cluster.url, PATH=path)
        done = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:-1]

    assert set(offered(f"{base}/d/")) == {f"{base}/d/c.txt", f"{base}/d/e/"}
    name = f"{base}/d/e/f g"
    assert list(offered(f"{base}/d/e/f")) == [name.replace(" ", "\\ ") if shell == "bash" else name]
    dfs_cluster.connect().write_bytes(f"{base}/odd/$a:'b*", b"", parents=True)
    if shell == "bash":
        # Within quotes as they need it; what stands before a colon that was typed stays, and no star is expanded.
        assert list(offered(f'"{base}/odd/')) == [f"{base}/odd/\\$a:'b*"]
        assert list(offered(f"'{base}/odd/")) == [f"{base}/odd/$a:'\\''b*"]
        assert list(offered(f"{base}/odd/")) == [f"{base}/odd/\\$a:\\'b\\*"]
        assert list(offered(f"dfs:{base}/odd/")) == [f"{base}/odd/\\$a:\\'b\\*"]
    else:
        assert f"{base}/odd/$a:'b*" in [one.replace("\\", "") for one in offered(f"{base}/odd/")]
