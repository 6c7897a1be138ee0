"""Both stages without Kafka: what the gateway would have written, laid out as logs and folded, in one process.

- `flushes` cuts what happened into what an SDK sends; `timetable` lays out arrivals, and the ticks of every second, as
  the two logs of one partition;
- `stages` folds them: recordings to digests, both to findings, sessions and AI jobs; `said` reads what they gave.

The stages are the ones that run on Faust, so the result is that of the running system for the same log. Time of the log
is the arrivals' own: floor 1, pure.
"""
