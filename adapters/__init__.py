"""Drivers that several services share, one a module: what only one service needs lives in that service.

- `kafka_producer`: the producer's configuration, and a producer whose acknowledgements can be awaited;
  `kafka_consumer`, `kafka_admin`: reading with positions of our own, topics made and checked.
- `dead_letters`, `dead_letter_reader`, `dead_letter_marks`: parking what cannot be processed, looking at it, and what
  was done about it; `dead_letter_memory`: a limit of parking that holds over restarts.
- `postgres`, `migrations`: connections, named queries, the schema brought up to date; `day_partitions`: its days;
  `partitioned_indexes`: an index for what is being written to; `retention`: what is kept of days and sessions;
  `erasures`: what was erased, and how.
- `projects`, `project_snapshot`: projects, keys and settings, and what the gateway holds of them in memory; `users`,
  `subscriptions`: who owns projects, and on which terms.
- `logs`, `metrics_server`: one log shape, and the admin port.

Floor 2: a module imports `schemas`, its one driver, and other adapters; never a service.
"""
