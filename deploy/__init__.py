"""Everything around the services: the `traceflow` command and what it does, the local runtime, containers, docs.

Floor 3: may import everything. Each package below says what lives there.
"""
