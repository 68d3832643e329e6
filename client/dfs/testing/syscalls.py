"""A system call of a running server that fails, or is the last thing it does. By strace, which must be installed.

    with inject(datanode.pid, "fsync", error="EIO"):
        fs.write_bytes("/a", data)

    with inject(namenode.pid, "pwrite64", kill=True, at=7): ...

Separate from the faults of disks: a call can fail on a disk that is well, and at an exact moment.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dfs.testing.impossible import Impossible

_ATTACH_TIMEOUT_S = 10.0


def why_no_injection() -> str | None:
    """Why this machine can't inject faults into system calls; None if it probably can."""
    if shutil.which("strace") is None:
        return "there is no strace"
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            if int(file.read()) > 0 and os.geteuid() != 0:
                return "tracing another process needs root here"
    except OSError:
        return None
    return None


@contextmanager
def inject(
    pid: int,
    call: str,
    *,
    error: str | None = None,
    kill: bool = False,
    lie: bool = False,
    at: int = 1,
    every: bool = True,
) -> Iterator[None]:
    """While the `with` block runs: let system calls of a process fail, or kill it at one.

    call    its name, or several with commas between them
    error   an errno by name ("EIO"): the call fails with it and does nothing
    kill    SIGKILL just before the call is done
    lie     the call does nothing, and says that it worked
    at      from which such call on, counted for each thread by itself
    every   False: only that one call fails
    Raises  Impossible: not on this machine, or not this process
    """
    assert sum((error is not None, kill, lie)) == 1, "an error, the kill, or a lie"
    reason = why_no_injection()
    if reason is not None:
        raise Impossible(reason)
    effect = "signal=KILL" if kill else "retval=0" if lie else f"error={error}"
    with tempfile.NamedTemporaryFile("w+", prefix="dfs-strace-") as said:
        tracer = subprocess.Popen(
            [
                *("strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid)),
                *("-e", f"trace={call}", "-e", f"inject={call}:{effect}:when={at}{'+' if every and not kill else ''}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            _wait_attached(tracer, pid, said.name)
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            try:
                tracer.wait(_ATTACH_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()


def _wait_attached(tracer: "subprocess.Popen[bytes]", pid: int, said: str) -> None:
    """Return once every thread of the process is traced."""
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while time.monotonic() < deadline:
        if tracer.poll() is not None:
            with open(said, encoding="utf-8", errors="replace") as file:
                raise Impossible(f"strace can't attach: {file.read().strip() or tracer.returncode}")
        try:
            if all(_is_traced(pid, int(thread)) for thread in os.listdir(f"/proc/{pid}/task")):
                return
        except (FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.01)
    raise Impossible("strace did not attach in time")


def _is_traced(pid: int, thread: int) -> bool:
    with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8", errors="replace") as file:
        return not any(line.split() == ["TracerPid:", "0"] for line in file)
