"""What a sink process does for the database beside its rows.

- `partitions`: the days that rows fall into; `retention`: what is kept no longer goes;
- `housekeeping`: the thread that does both.
"""
