"""The local runtime: a real Kafka and a real Postgres on this machine, and the supervisor of everything that runs here.

- `java`, `jars`, `kafka`: Apache Kafka (KRaft, one node) from Maven Central, on the machine's Java or the wheel's.
- `postgres`: a PostgreSQL server from the machine or from the wheel, also when started by root.
- `program`, `leash`: how a child process is described, started, and tied to the life of its parent.
- `restart`: the policy of restarts, a pure state machine.
- `supervisor`: starts in order, restarts, shuts down in order.
- `instance`: what lies in a data directory: lock, ports, key, state file.

Floor 3, except `restart`, `ports` and the descriptions, which are pure. Used by the `traceflow` command and the tests.
"""
