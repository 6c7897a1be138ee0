"""How rows are made and stored, table by table; several sinks may write one.

- events: `event_lines` (a record's rows), `event_rows` (each stored once), `event_hours` (counted by the
  hour), `finding_kinds` (which of them make a score);
- sessions and recordings: `session_rows`, `recording_rows`, `chunks` (what a recording chunk becomes);
- UX issues: `issues` (what one is), `page_names` (which pages are one page), `issue_tables`;
- `usage`: what projects use of their plans;
- for all: `copy_text` and `copy_rows` (lines by COPY), `record_owner` (whose a record is), `erased` (what is not stored
  again).
"""
