"""Write the log into Postgres: every row once, whatever is retried, restarted or delivered twice.

What lives here:
- `contract`: what a sink is; `events`, `signals`, `sessions`, `recordings`, `ai_jobs`: the five of them, each with its
  SQL beside it (`*.sql`, one named sentence each).
- pure logic: `batching` (when to flush), `copy_text` (rows as COPY text), `sqlstates` (whose fault an error is),
  `page_names` (which pages are one page), `chunks` (what a recording chunk becomes), `findings` (what an issue is).
- `offsets`, `writer`: offsets in the rows' transaction, fenced by epoch; `loop`: the consumer beside it.
- `partitions`: the days that rows fall into; `export`: a whole recording as one JSON array.
- `settings`, `metrics`, `app`, `__main__`: wiring.

Imports `schemas` and `adapters`, psycopg and confluent-kafka; never `ingest_gateway` or `stream_processors`.
"""
