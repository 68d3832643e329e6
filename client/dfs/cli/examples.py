"""The examples that `dfs COMMAND --help` and docs/commands.md show.

A table of its own, beside that of the commands, because both show it and a test wants every command to have one.
"""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "put": (
        "dfs put big.iso /data/",
        "dfs put -r photos /photos           # small files are packed by themselves",
        "dfs put --resume big.iso /data/       # goes on where it was interrupted",
        "dfs put -r src /src --exclude .git --exclude '*.pyc'",
        "tar c . | dfs put - /backup/today.tar",
        "dfs put https://example.org/x.csv /x.csv",
    ),
    "get": (
        "dfs get /data/big.iso .",
        "dfs get -r /photos copy-of-photos",
        "dfs get '/logs/*.gz' logs/",
        "dfs get -r /photos . --include '*.jpg'",
        "dfs get --resume /data/big.iso .      # keeps what has come",
        "dfs get /backup/today.tar - | tar x",
    ),
    "sync": (
        "dfs sync photos dfs:/photos                # from here",
        "dfs sync dfs:/photos photos                # to here",
        "dfs sync -n --delete src dfs:/src --exclude .git",
        "dfs sync --checksum /srv/data dfs://nn1:9870/data",
    ),
    "tree": ("dfs tree /data", "dfs tree -L 2 -d /"),
    "find": (
        "dfs find /logs -name '*.gz' -mtime +30",
        "dfs find / -type f -size +1GiB --json | jq -r .path",
        "dfs find /tmp -newer /tmp/mark -print0 | xargs -0 -n 1 dfs cat",
    ),
    "ls": (
        "dfs ls -l /data",
        "dfs ls -ltr /logs                         # the newest last",
        "dfs ls --json -R / | jq -r .path",
    ),
    "cat": ("dfs cat /a.txt /b.txt", "dfs cat '/logs/2026-*.gz' | zcat | grep error"),
    "head": ("dfs head -n 3 /data/x.csv", "dfs head -c 1MiB /data/x.bin > first"),
    "tail": ("dfs tail -n 20 /logs/today", "dfs tail -c 100 /data/x.bin | xxd"),
    "mkdir": ("dfs mkdir /data", "dfs mkdir -p /a/b/c"),
    "rm": ("dfs rm /data/old.bin", "dfs rm -r /tmp", "dfs rm '/logs/*.gz'"),
    "rmdir": ("dfs rmdir /data/empty",),
    "mv": ("dfs mv /a /b", "dfs mv /x.csv /y.csv /data/", "dfs mv -f /new.csv /current.csv"),
    "cp": ("dfs cp /a /b", "dfs cp -r /photos /photos-before"),
    "touch": ("dfs touch /data/_SUCCESS",),
    "append": ("dfs append today.log /logs/all", "date | dfs append --create - /logs/dates"),
    "concat": ("dfs concat /logs/all '/logs/part-*'", "dfs concat --create /all /a /b"),
    "truncate": ("dfs truncate -s 0 /logs/today", "dfs truncate -s 64MiB /data/x.bin"),
    "stat": ("dfs stat /data/big.iso", "dfs stat --chunks /data/big.iso", "dfs stat --json /a | jq .etag"),
    "du": ("dfs du /data", "dfs du -h -s /data", "dfs du -s --bytes /data"),
    "df": ("dfs df",),
    "checksum": ("dfs checksum /a /b",),
    "setrep": ("dfs setrep 2 /tmp", "dfs setrep 5 /precious.bin"),
    "chmod": ("dfs chmod 640 /a", "dfs chmod -R go-w /data"),
    "chown": ("dfs chown ann /a", "dfs chown -R ann:staff /data"),
    "test": ("dfs test -f /data/_SUCCESS && echo done",),
    "url": ('curl -L "$(dfs url /data/big.iso)" -o big.iso', 'curl -L -T x.csv "$(dfs url /data/x.csv)"'),
    "status": ("dfs status", "dfs status --json | jq .health"),
    "fsck": (
        "dfs fsck",
        "dfs fsck /data --files --locations",
        "dfs fsck --repair                 # what is wrong before other work",
        "dfs fsck --json | jq .unhealthy_files",
    ),
    "doctor": ("dfs doctor", "dfs doctor --json | jq -r '.findings[].fix'"),
    "admin": (
        "dfs admin gc --now",
        "dfs admin decommission datanode-3        # then stop and forget it",
        "dfs admin maintenance datanode-2 --for 30m",
        "dfs admin balance --threshold 5",
        "dfs admin scrub                          # verify everything now",
        "dfs admin safemode on",
        "dfs admin backup --output store.backup   # a copy for another place",
        "dfs admin restore --dir NEWDIR --from-datanodes http://dn1:9864",
        "dfs admin rebuild --from-datanodes       # bring lost files back",
    ),
    "bench": (
        "dfs bench --quick                 # a first look, about two minutes",
        "dfs bench big small --rounds 5",
        "dfs bench --json > today.json",
    ),
    "mini": (
        "dfs mini",
        "dfs mini /srv/dfs --datanodes 5",
        "dfs mini /tmp/try --port 0 --datanode-port 0    # any free ports",
    ),
    "namenode": (
        "dfs namenode --dir /srv/dfs",
        "dfs namenode --dir /srv/dfs --listen 10.0.0.1:9870 --insecure \\",
        "    --join-secret SECRET",
    ),
    "datanode": (
        "dfs datanode --dir /srv/disk1 --dir /srv/disk2",
        "dfs datanode --dir /srv/disk1 --listen 10.0.0.2:9864 \\",
        "    --namenode http://10.0.0.1:9870 --insecure --join-secret SECRET",
    ),
    "completion": (
        'eval "$(dfs completion bash)"            # in ~/.bashrc',
        'eval "$(dfs completion zsh)"             # in ~/.zshrc',
        "dfs completion fish | source             # in config.fish",
    ),
    "version": ("dfs version",),
}


def epilog(name: str) -> str:
    """The examples of a command as the end of its help; click leaves the lines of a paragraph with \\b alone."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in EXAMPLES[name])])
