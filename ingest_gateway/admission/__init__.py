"""What is decided about a request: values in, values out.

- who sends it: `project_key`, `origins` (from which pages), `client_address` (behind which proxies), `privacy` (what of
  it may be kept);
- what its body is: `inflation` (unpacked in bounds), `json_body` (decoded, and repaired where browsers are known to
  break it), `chunk` (of a recording);
- what becomes of its events: `events` (each accepted or refused), `event_fields`, `event_time`, `records` (as the log
  has them); `ordinary` gives the same in one pass for requests without peculiarities;
- `refusal`: why a whole request is refused.
"""
