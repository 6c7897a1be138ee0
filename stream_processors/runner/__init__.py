"""Run a fold on Kafka: read with Faust, write in flights, recover, and stop rather than go on wrongly.

- `stage`: the reader and the writer; `dispatch`: what batches are on the wire; `flights`: each acknowledged before the
  next;
- `faust_app`, `runs`, `changelog_store`: Faust, shaped by its public settings;
- `delivery`: whether what is delivered continues where the state is; `continuity`: whether the log is still the one
  that the state was made from; `source_log`: the look at it;
- `pulse`, `watchdog`, `failstop`: what a process needs besides.
"""
