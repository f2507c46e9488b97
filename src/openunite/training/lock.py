"""A lock, so that only one process at a time trains in a run folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # everywhere else
    msvcrt = None  # type: ignore[assignment]

_HELD: set[int] = set()  # file descriptors of the locks this process holds


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises a ValueError that names the process already holding it.

    The kernel frees the lock however this process ends; the file `.lock` that stays behind has no
    meaning of its own. File systems without locks, such as some network disks, give no protection.
    """
    path = folder / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _take(descriptor):
            holder = path.read_text(errors="replace").strip("\n\0 ") or "another process"
            raise ValueError(
                f"{folder} is being trained by {holder}; wait until it ends, or choose another "
                "--output"
            )
        _HELD.add(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        _HELD.discard(descriptor)
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Try to take the lock without waiting; False if another process holds it."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            # Lock a byte far behind the text, so that other processes can read the holder's name.
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # this file system has no locks
        return True
    return True


def _leave_to_parent() -> None:
    """Close the locks in a forked worker, which may outlive its parent."""
    while _HELD:
        os.close(_HELD.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
