"""Where the sinks stand in the log, and how they go on where the log lost something.

What lives here:
- `run`: asks broker and database, for `traceflow offsets` and `traceflow up`. The rule is `sinks.commit.gaps`.
"""
