"""Free TCP ports below the range from which the kernel takes the ports of outgoing connections."""

import random
import socket

# Linux gives 32768-60999 to outgoing connections (macOS 49152 up): a server that restarts on a port from there can find
# it taken by a client's connection, even by a client's connection to itself.
LOWEST = 20_000
HIGHEST = 32_000


def is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket() as probe:
        # as servers do: a port in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(*, taken: frozenset[int] = frozenset()) -> int:
    """Return a port that is free now, at random so that two runtimes that start together rarely meet."""
    while True:
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311 # no secret
        if port not in taken and is_free(port):
            return port
