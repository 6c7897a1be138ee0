"""Write the log into Postgres: every row once, whatever is retried, restarted or delivered twice.

What lives here:
- `contract`: what a sink is; `events`, `signals`, `sessions`, `recordings`, `ai_jobs`: the five of them, each with its
  SQL beside it (`*.sql`, one named sentence each).
- pure logic: `batching` (when to flush), `backoff` (when to try again), `copy_text` and `event_lines` (rows as COPY
  text), `sqlstates` (whose fault an error is), `verdicts` (what is said about a record), `days` (which have a
  partition), `hours` (rows by the hour), `page_names` (which pages are one page), `chunks` (what a recording chunk
  becomes), `issues` (what a UX issue is), `finding_kinds` (what a score is made of), `gaps` (where the log does not
  continue).
- tables that several sinks write: `session_rows`, `event_rows`, `event_hours`, `recording_rows`, `issue_tables`,
  `usage`; `record_owner` (whose a record is), `erased` (what is not stored again), `copy_rows` (lines by COPY),
  `failures` (what the driver raises).
- `offsets`, `writer`: offsets in the rows' transaction, fenced by epoch; `loop`: the consumer beside it; `watchdog`:
  ends a sink that stands still.
- `partitions`: the days that rows fall into; `retention`: what is kept no longer goes; `housekeeping`: the thread that
  does both; `export`: a whole recording as one JSON array.
- for commands: `by_hand` (a writer without its loop), `redrive` (what was parked), `restore` and `recount` (what the
  database lost), `accept_loss` (what the log lost).
- `settings`, `metrics`, `app`, `__main__`: wiring.

Imports `schemas` and `adapters`, psycopg and confluent-kafka; never `ingest_gateway` or `stream_processors`.
"""
