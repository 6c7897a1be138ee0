"""Fetch and check what the local runtime needs: `python -m deploy.runtime`, a part of `make install`."""

import os
import sys

from deploy.runtime import archive, jars, java, postgres
from deploy.runtime.program import RuntimeFailure


def main() -> int:
    """Print one line for each thing and return 0 if all are there."""
    try:
        found = java.find_java(os.environ)
        print(f"Java {found.version}: {found.path}")
        path = tuple(jars.classpath(os.environ, report=print))
        print(f"Apache Kafka {jars.KAFKA_VERSION}: {len(path)} jars")
        binaries = postgres.find_binaries(os.environ)
        archive.make_archive(found, path, os.environ, report=print)
        print(f"PostgreSQL {binaries.version}: {binaries.directory}")
    except RuntimeFailure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
