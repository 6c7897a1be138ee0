"""The contracts between the services: everything that crosses a process border is declared here, and nothing else.

- `topics`: one declaration per Kafka topic.
- `messages`: the records in those topics; `signals`: what a digest tells about a recording.
- `ids`: the deterministic ids that make every effect idempotent.
- `reasons`: the closed enum of why something was refused or parked.
- `projects`: projects and their versioned settings.
- `json_values`: how many values JSON text holds, guessed the same way wherever a client's bytes are opened; `chunks`:
  what a recording chunk holds, and within which limits it opens.
- `connections`: settings of Kafka and Postgres; `environment`: how settings are read.
- `migrations`: the database as numbered SQL files.

Floor 0: imports the standard library, pydantic, orjson and the decoders isal and zstandard, and no other package of
this repository.
"""
