"""The HTTP gateway: authenticate, bound, validate, stamp, produce, and answer once the broker has it.

Pure logic (floor 1, values in and values out): `admission`, `event_fields`, `event_time`, `json_body`, `inflation`,
`records`, `ordinary`, `chunk`, `rate_limit`, `backpressure`, `client_address`, `origins`, `privacy`, `project_key`.
Adapters (floor 2): `events_resource`, `recordings_resource`, `service_resources`, `request_flow`, `cors`, `metrics`,
`deadline_protocol`, `log`. Wiring (floor 3): `app`, `server`, `__main__`.

Imports `schemas` and `adapters`, never another service.
"""
