"""The two stages that turn logs into findings, `digest` and `analyze`, and the runner that they share.

A stage is a fold over one partition's log (`logic`, `facts`, `sessions`, `fold`), and a runner that keeps the fold's
results in Kafka exactly as the fold says, whoever dies when (`stage`).

- `logic`: the contract between the fold and what a stage means by a session; `digest` and `analyze` implement it;
- `facts`: what the changelog holds, and how a partition is recovered from it;
- `sessions`: the states of a partition's sessions: encoded, decoded as memory allows, restored after an error;
- `agenda`: when the clock concerns which session next; `batch`: what a stretch of the log gives;
- `fold`: the rules: order, time, closing, parking, the chain to the stage before; `chain`: what that one says of it;
- `redriven`: what a record was before it was parked; `offline`: both stages without Kafka;
- `kinds`: the two stages; `delivery`: whether what is delivered continues where the state is; `continuity`: whether the
  log is still the one that the state was made from, and the state all that there was, `source_log`: the look at it;
- `runs`, `changelog_store`, `faust_app`: Faust, shaped by its public settings;
- `dispatch`, `flights`: what batches are on the wire, each flight awaited; `stage`: the reader and the writer;
- `pulse`, `watchdog`, `failstop`, `metrics`, `settings`: what a process needs besides;
- `worker`, `__main__`: `python -m stream_processors digest|analyze`.

Floors: `runs`, `changelog_store`, `faust_app`, `dispatch`, `flights`, `source_log`, `stage`, `pulse`, `watchdog`,
`failstop`, `metrics` are drivers (2), `worker` and `__main__` wiring (3); all else is pure (1) and imports
`schemas` and no driver.
Only the drivers and the wiring may import `adapters`; nothing here imports `ingest_gateway` or `sinks`.
"""
