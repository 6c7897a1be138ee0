"""Where the events and chunks of each project are, counted from the log, the dead letters and the tables.

Theory.

    received = accepted + rejected
    accepted = stored + parked + duplicates + erased

*rejected*: dead letters of the gateway, one for each event that it refused in a request that it took. *accepted*:
events (chunks) in the log; one whose client was answered 503 because the acknowledgement came too late is there too.
*parked*: those that the sink refused, by its dead letters; one that was redriven is parked no more. *duplicates*: those
of the rest whose row an earlier one of the log makes. *erased*: those of sessions that were erased, whatever else they
were. *stored*: rows in the table with the ids (places) of the rest.

Each figure is counted for itself, and none is what is left of the others: a lost row leaves too few stored, a row that
was stored twice too many, a record that vanished between two stages both. The comparison is made by Postgres in
temporary tables, so that the memory of this process stays bounded.

The system may run meanwhile: the ends of the logs are noted first, then the sinks are waited for.
"""
