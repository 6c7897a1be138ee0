"""The HTTP gateway: authenticate, bound, validate, stamp, produce, and answer once the broker has it.

Pure logic (floor 1, values in and values out): `admission`, `event_fields`, `event_time`, `json_body`, `inflation`,
`records`, `ordinary`, `chunk`, `rate_limit`, `fair_share`, `backpressure`, `held_bodies`, `client_address`, `origins`,
`privacy`, `project_key`, `refusal`, `openapi`, `settings`, `spool_format`, `spool_route`. Adapters (floor 2):
`request`, `answers`, `events_resource`, `recordings_resource`, `service_resources`, `request_flow`, `middleware`,
`metrics`, `deadline_protocol`, `spool`, `spool_files`, `spool_window`. Wiring (floor 3): `app`, `lanes`, `server`,
`__main__`.

Imports `schemas` and `adapters`, never another service.
"""
