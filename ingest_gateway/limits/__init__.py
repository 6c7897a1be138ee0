"""How much is left for a request; each limit is given the time, and knows nothing of HTTP.

- `rate_limit`: events a second of a project; `fair_share`: what a project may hold of a busy gateway;
- `held_bodies`: bytes of all bodies that are being read; `backpressure`: whether the log takes more.
"""
