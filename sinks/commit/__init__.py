"""Rows and offsets in one transaction, fenced by epoch, and the loop beside it.

- `writer`: the order of a batch's steps; `offsets`: who owns a partition, and where it stands;
- `loop`: the consumer that keeps a writer busy; `batching`: when a batch is full; `backoff`: when to try again;
- `gaps`: where the log does not continue what is stored; `watchdog`: ends a sink that stands still.
"""
