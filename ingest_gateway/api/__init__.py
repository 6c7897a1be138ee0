"""The HTTP interface: requests read, answers written, nothing decided.

- `events`, `recordings`: the two routes; `request_flow`: the steps that both take; `service`: health and description;
- `request` (the body in bounds), `answers`, `middleware` (CORS, counting), `deadline_protocol` (what a client may cost
  before it is a request);
- `openapi`: the interface as a document.
"""
