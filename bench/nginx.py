"""nginx as a peer: sendfile for reads, WebDAV for writes (it does not sync), one worker for each processor.

Its own process on a free port with its data beside the cluster's, so that both use the same disk. Where it is not
installed there are no figures of it, and the report says so.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dfs.bench.procfs import all_processes
from dfs.bench.stores import BIG, META, RANGE, SMALL, Target
from dfs.protocol.errors import Unavailable

NAME = "nginx"
_START_TIMEOUT_S = 5.0
_CONFIGURATION = """
daemon off;
worker_processes auto;
pid {top}/nginx.pid;
error_log {top}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_max_body_size 0;
    client_body_temp_path {top}/body;
    proxy_temp_path {top}/proxy;
    fastcgi_temp_path {top}/fastcgi;
    uwsgi_temp_path {top}/uwsgi;
    scgi_temp_path {top}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {top}/data;
        location / {{
            dav_methods PUT DELETE MKCOL COPY MOVE;
            create_full_put_path on;
            autoindex on;
            autoindex_format json;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A server that runs."""

    url: str
    version: str
    roles: dict[int, str]
    """Its processes."""

    @property
    def target(self) -> Target:
        return Target(
            subject="nginx (no fsync)",
            factory="bench.peers:WebDavStore",
            options={"url": self.url},
            features=(BIG, SMALL, RANGE, META),
            root="/bench",
        )


@contextmanager
def server(top: str) -> Iterator[Nginx | None]:
    """nginx with its data below `top`; None where it is not installed. Raises Unavailable: it does not start."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("curl") is None:
        yield None
        return
    os.makedirs(os.path.join(top, "data", "bench"))
    # Started by root it works as another user, who must reach its data.
    user = f"user {_user()};" if os.geteuid() == 0 else ""
    port = _free_port()
    path = os.path.join(top, "nginx.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(user + _CONFIGURATION.format(top=top, port=port))
    process = subprocess.Popen([program, "-c", path, "-e", os.path.join(top, "error.log")], stderr=subprocess.DEVNULL)
    try:
        _wait(process, port, os.path.join(top, "error.log"))
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
        workers = {one.pid: NAME for one in all_processes().values() if one.parent == process.pid}
        yield Nginx(f"http://127.0.0.1:{port}", said.strip().rpartition("/")[2], {process.pid: NAME, **workers})
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: "subprocess.Popen[bytes]", port: int, log_path: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    with open(log_path, encoding="utf-8", errors="replace") as file:
        raise Unavailable(f"nginx does not start: {file.read().strip() or 'it said nothing'}")
