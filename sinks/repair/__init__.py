"""A sink's rows written by commands: the sink's own code, without its loop.

- `by_hand`: a writer for chosen records; `redrive`: what was parked; `restore`, `recount`: what the database lost;
- `accept_loss`: what the log lost.
"""
