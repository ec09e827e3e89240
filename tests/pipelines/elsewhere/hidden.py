"""Take from our own modules what a client's system lacks, and leave Python's and the other packages' theirs.

Our modules get substitutes for ``os``, ``sys``, ``signal``, ``socket`` and ``select``, and no ``fcntl`` at all: an import
statement passes on the globals of the module that imports, which show whose import it is. For the whole process, /proc and
/sys are not there, no process may be started, and on Windows no file may be removed or replaced that is open.
"""

from __future__ import annotations

import builtins
import errno
import os
import select
import signal
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

_OURS = ("runwide", "runwide_components")

_LINUX_ALONE = {
    "os": "O_PATH O_TMPFILE copy_file_range eventfd fallocate getrandom memfd_create pidfd_open posix_fadvise "
    "posix_fallocate sched_getaffinity sched_setaffinity sched_getscheduler sendfile setns splice unshare",
    "select": "epoll",
    "signal": "SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT pidfd_send_signal sigtimedwait sigwaitinfo",
    "socket": "SO_PEERCRED SOCK_CLOEXEC SOCK_NONBLOCK",
}
_POSIX_ALONE = {
    "os": "O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG WIFEXITED WEXITSTATUS chown chroot confstr "
    "ctermid fchdir fchmod fchown fork forkpty fpathconf fstatvfs fwalk get_blocking getegid geteuid getgid getgroups "
    "getloadavg getpgid getpgrp getpriority getsid getuid getresuid initgroups killpg lchown lockf major minor mkfifo "
    "mknod nice openpty pathconf posix_spawn pread preadv pwrite pwritev readv register_at_fork sched_yield set_blocking "
    "setpgid setpriority setsid statvfs sysconf tcgetpgrp ttyname uname wait wait3 wait4 waitid writev",
    "select": "poll",
    "signal": "ITIMER_REAL SIG_BLOCK SIG_SETMASK SIG_UNBLOCK alarm getitimer pause pthread_kill pthread_sigmask setitimer "
    "siginterrupt sigpending sigwait " + " ".join(
        one for one in dir(signal)
        if one.startswith("SIG") and "_" not in one
        and one not in ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM")
    ),
    "socket": "AF_UNIX CMSG_LEN SCM_RIGHTS recv_fds send_fds sendmsg socketpair",
}  # fmt: skip
_POSIX_MODULES = frozenset(
    ("crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty")
)
_RELATIVE = (
    "access",
    "chmod",
    "link",
    "mkdir",
    "open",
    "readlink",
    "remove",
    "rename",
    "rmdir",
    "stat",
    "unlink",
    "utime",
)

_really = threading.local()  # whether this thread looks at the real system


class StandIn(ModuleType):
    """A module without some of its names, and with others in their place."""

    def __init__(self, real, absent, instead):
        super().__init__(real.__name__)
        vars(self).update(_real=real, _absent=frozenset(absent), _instead=instead)

    def __getattr__(self, name):
        if name in self._absent:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return self._instead[name] if name in self._instead else getattr(self._real, name)

    def __setattr__(self, name, value):
        setattr(self._real, name, value)

    def __dir__(self):
        return [name for name in dir(self._real) if name not in self._absent]


def preload():
    """Load Python's modules and other packages that choose by the system what they do."""

    assert not any(name.partition(".")[0] in _OURS for name in sys.modules)


def hide(system):
    """Be a client on ``win32`` or ``darwin`` from here."""
    absent = {name: set(names.split()) for name, names in _LINUX_ALONE.items()}
    instead = {"sys": {"platform": system}, "os": {}}
    modules = frozenset()
    if system == "win32":
        modules = _POSIX_MODULES
        for name, names in _POSIX_ALONE.items():
            absent[name] |= set(names.split())
        instead["os"] = {"name": "nt", "supports_dir_fd": set(), "supports_fd": set(), "symlink": _no_links}
        instead["os"] |= {name: _without_folders(getattr(os, name)) for name in _RELATIVE}
        instead["os"] |= {name: _of_paths(getattr(os, name)) for name in ("listdir", "scandir")}
        _keep_open_files()
    known = {one.__name__: one for one in (os, select, signal, socket, sys)}
    _hide_from_ours(
        {name: StandIn(one, absent.get(name, ()), instead.get(name, {})) for name, one in known.items()},
        modules,
    )
    _hide_kernel()


def _hide_from_ours(stand_ins, modules):
    real = builtins.__import__

    def imported(name, *given, **named):
        known, _, fromlist, level = (*given, *(None, None, (), 0)[len(given) :])
        top = name.partition(".")[0]
        if not level and (known or {}).get("__name__", "").partition(".")[0] in _OURS:
            if top in modules:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if top in stand_ins and (name == top or not fromlist):
                return stand_ins[top]
        return real(name, *given, **named)

    builtins.__import__ = imported


def _hide_kernel():
    def is_hidden(path):
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        return not _looks() and (text.startswith(("/proc/", "/sys/")) or text in ("/proc", "/sys"))

    def hook(event, given):
        if event in ("open", "os.listdir", "os.scandir") and is_hidden(given[0]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), given[0])
        if event in ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"):
            raise AssertionError(f"a client starts no process, and this one did: {event} {given}")

    def seen(function):
        def look(path, *args, **options):
            if is_hidden(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return function(path, *args, **options)

        return look

    os.stat, os.lstat = seen(os.stat), seen(os.lstat)
    sys.addaudithook(hook)


def _keep_open_files():
    """Have files that are open stay where they are, as Windows has it."""

    def guarded(function):
        def call(path, *args, **options):
            _refuse_open(path, options)
            if args and isinstance(args[0], (str, os.PathLike)):  # what a file would replace
                _refuse_open(args[0], options)
            return function(path, *args, **options)

        return call

    for name in ("remove", "rename", "replace", "unlink"):
        setattr(os, name, guarded(getattr(os, name)))


def _refuse_open(path, options):
    if any(value is not None for name, value in options.items() if name.endswith("dir_fd")):
        return
    with _real_system():
        wanted = os.path.realpath(path)
        for one in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # by which they are listed
                if str(one.readlink()) == wanted:
                    raise PermissionError(errno.EACCES, "it is used by another process", path)


@contextmanager
def _real_system():
    before, _really.looks = _looks(), True
    try:
        yield
    finally:
        _really.looks = before


def _looks():
    return getattr(_really, "looks", False)


def _without_folders(function):
    def call(*args, **options):
        if any(value is not None for name, value in options.items() if name.endswith("dir_fd")):
            raise NotImplementedError("dir_fd unavailable on this platform")
        return function(*args, **options)

    return call


def _of_paths(function):
    def call(path=".", *args):
        if isinstance(path, int):
            raise TypeError("path should be string, bytes, os.PathLike or None, not int")
        return function(path, *args)

    return call


def _no_links(*_args, **_options):
    raise OSError(errno.EPERM, "a required privilege is not held by the client")
