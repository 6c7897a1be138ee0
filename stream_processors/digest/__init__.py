"""The digest stage, pure: rrweb recording chunks in, small records of signals out.

`logic` is the stage as the generic fold sees it. `chunk` and `rrweb` open a chunk, `interpreter` reads it event by
event. `dom` and `tree_codec` hold the document, `windows` everything that outlives a chunk. The rules, each in a module
of its own: `clicks`, `targets` and `selector` (what was pressed), `answers`, `background` and `mutation` (what may have
answered), `pages`, `forms`, `console`, `network`.

Floor 1: imports `schemas`, `stream_processors.logic` and codecs (orjson, isal, zstandard), no driver and no Faust.
"""

from stream_processors.digest.logic import build_logic

__all__ = ["build_logic"]
