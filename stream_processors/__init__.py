"""The two stages that turn logs into findings, `digest` and `analyze`, and the runner that they share.

A stage is a fold over one partition's log (`logic`, `facts`, `sessions`, `fold`), and a runner that keeps the fold's
results in Kafka exactly as the fold says, whoever dies when (`stage`).

- `logic`: the contract between the fold and what a stage means by a session; `digest` and `analyze` implement it;
- `facts`: what the changelog holds, and how a partition is recovered from it;
- `sessions`: the states of a partition's sessions: encoded, decoded as memory allows, restored after an error;
- `fold`: the rules: order, time, closing, parking, the chain to the stage before;
- `progress`: where a partition stands, and when a stage is stuck: policies that are given the time;
- `run_scheduler`, `changelog_store`, `stage_app`: Faust, shaped by its public settings; nothing else imports it;
- `durable_writer`: flights of records, each awaited; `stage`: positions, batches, ticks;
- `settings`, `metrics`, `watchdog`, `fail_stop`: what a process needs besides;
- `worker`, `__main__`: `python -m stream_processors digest|analyze`.

Floors: `logic`, `facts`, `sessions`, `fold`, `progress` and the logic in `digest` and `analyze` are pure (1): they
import `schemas` and no driver. The rest is drivers (2) and wiring (3), and may import `adapters`. Nothing here imports
`ingest_gateway` or `sinks`.
"""
