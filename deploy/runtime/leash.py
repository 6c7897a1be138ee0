"""Run a program that dies with its parent, perhaps as another user: `leash.py PARENT_PID SIGNAL USER|- PROGRAM ARG…`.

Started as a script with `python -I -S`, so it imports nothing of this repository and costs about 15 ms. The order is
fixed by the kernel: changing the user clears the parent-death signal, so the user comes first; and the parent may have
died before the signal was asked for, so its pid is compared afterwards. The signal outlives `exec`.

On systems without `prctl` (macOS) a parent that is killed hard leaves its children; the next `traceflow up` on the same
data directory refuses with their pids.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 143
EXIT_CANNOT_START = 127


def main(arguments: list[str]) -> int:
    """Become the user, ask for the signal, and exec the program; return only if that failed."""
    parent, orphan_signal, user = int(arguments[0]), int(arguments[1]), arguments[2]
    program = arguments[3:]
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    try:
        if user != "-":
            become(user)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)
        if os.getppid() != parent:
            return EXIT_ORPHANED
        os.execvp(program[0], program)  # noqa: S606 # the whole purpose of this script
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]}: {error}\n")
        return EXIT_CANNOT_START


def become(user: str) -> None:
    """Drop root's privileges for good."""
    import pwd

    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
