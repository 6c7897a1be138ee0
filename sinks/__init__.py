"""Write the log into Postgres: every row once, whatever is retried, restarted or delivered twice.

- `contract`: what a sink is, and what can be said about a record, a row and an error;
- `topics`: the five sinks, a module for each topic that is read;
- `tables`: how rows of a table are made and stored, for all sinks that write it;
- `commit`: rows, offset and dead letters in one order, and the loop that keeps at it;
- `lifecycle`: days made ahead, and what is kept no longer let go;
- `repair`: the same rows by hand: redriven, restored, recounted; `export`: a whole recording as one JSON array;
- `settings`, `metrics`, `app`, `__main__`: wiring.

SQL lies beside the module that speaks it (`*.sql`, one named sentence each).
Imports `schemas` and `adapters`, psycopg and confluent-kafka; never `ingest_gateway` or `stream_processors`.
"""
