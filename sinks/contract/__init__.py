"""What a sink is, and the words in which sinks speak of records, rows and errors.

- `sink`: how a record becomes rows, and how rows are stored within a transaction that others open and end;
- `verdicts`: what is said about a record; `sqlstates`: whose fault an error is; `failures`: what the driver raises;
- `days`: the days that may have a partition; `hours`: rows by the hour.
"""
