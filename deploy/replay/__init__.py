"""Fold the log again, offline, with the stages' own logic and the sinks' own encoders; compare with Postgres, and mend.

Theory. What Postgres should hold is a pure function of the log. So it is computed again: `analyze` folds each partition
of `traceflow.events` as it lies (digests included), and what comes out, like every record of events and every chunk,
is encoded by the code of the sink that stored it. The encoded rows are staged in temporary tables and compared there
with the stored ones, column by column, in a transaction that is rolled back: comparing changes nothing.

What is missing is written (`restore`), if that is asked for, by the sink that stores such rows, on a connection of its
own, batch by batch; then the batch is compared again, and only what is there now counts as written. A row that is there
and otherwise than the log says is told and left alone: nobody knows which is right.

The system may run meanwhile. The end of the log is noted first; then the check waits until analyze and the sinks have
come so far (`caught_up`), and what is newer than the noted end is not judged: a session's row of a later version is
left alone.

Not judged, and counted: what the sinks parked, which is redriven and not replayed; what analyze said of sessions that
began before the log that is read, or may have, since their state at its beginning is not known; what is missing because
its session was erased. What an operator pruned from the database shows as missing.
"""
