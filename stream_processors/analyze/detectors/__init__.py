"""The detectors: one module a finding, its theory first; pure, floor 1.

- `detector`: the contract; `verdict`: what a detector says; `thresholds`: how its numbers are declared and overridden;
- `rage_click`, `dead_click`, `slow_response`, `error_click`: four rules that `clicks` runs over one `click_memory`,
  which keeps each `known_click` as a row (`click_rows`);
- `error` (with `fingerprint`), `slow_load`, `form_abandonment`, `quick_back`, `thrashed_cursor`: rules with a
  memory of their own;
- `panel`: all of them for one project's configuration.

A new detector is a module here, a line in `panel`, a field of `DetectorConfig` in `stream_processors.analyze.config`
and, for a new kind of finding, a weight in `stream_processors.analyze.score`.
"""
