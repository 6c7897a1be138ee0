"""The HTTP gateway: authenticate, bound, validate, stamp, produce, and answer once the broker has it.

- `admission`: what is decided about a request, its events and its chunk, and what becomes of them in the log;
- `limits`: how much of the gateway a project, a moment or the log itself leaves to a request;
- `api`: the HTTP interface;
- `spool`: the disk that takes what the broker cannot;
- `settings`, `metrics`; `lanes`, `app`, `server`, `__main__`: wiring.

Floors: `admission`, `limits` and `settings` are pure logic (1). `metrics`, `api` but for the document of its interface,
and `spool` but for what it decides and how its bytes look are adapters (2). The wiring is 3.
Imports `schemas` and `adapters`, never another service.
"""
