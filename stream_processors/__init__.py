"""The two stages that turn logs into findings, `digest` and `analyze`, and the runner that they share.

- `digest`: recordings become facts; `analyze`: facts and events become findings, sessions and AI jobs;
- `fold`: how any stage folds one partition's log; pure;
- `runner`: keeps the fold's results in Kafka exactly as the fold says, whoever dies when;
- `offline`: both stages without Kafka;
- `kinds`: the two stages, and which log each folds; `settings`, `metrics`;
- `worker`, `__main__`: `python -m stream_processors digest|analyze`.

Floors: the drivers (2) are in `runner`, and `metrics`; `worker` and `__main__` are wiring (3); all else is pure (1),
imports `schemas` and no driver. Only drivers and wiring may import `adapters`; nothing here imports `ingest_gateway` or
`sinks`.
"""
