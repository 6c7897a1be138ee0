"""Drivers that several services share, one a module: what only one service needs lives in that service.

- `kafka_producer`: the producer's configuration and a producer whose acknowledgements can be awaited.
- `projects`: the snapshot of projects by key, and how a project is made and changed.

Floor 2: a module imports `schemas` and its one driver, never a service.
"""
