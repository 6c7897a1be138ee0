"""The digest stage, pure: rrweb recording chunks in, small records of signals out.

- `logic` is the stage as the generic fold sees it, `records` what it reads and writes; `interpreter` reads a chunk
  event by event, `rrweb` says what their numbers mean.
- The document: `dom` (the tree, `kept`: what of it), `mutation` (how it changes), `document` and `tree_codec` (as
  bytes). `windows` holds everything that outlives a chunk, `packing` makes bytes of it, `texts` bounds what is sent.
- The rules, each in a module of its own: `clicks`, `pointer`, `targets` and `selector` (what was pressed), `answers`,
  `formers` and `background` (what may have answered), `focus` and `sheets` (what style sheets show by themselves),
  `pages`, `forms`, `console`, `network`, `cursor`.

Floor 1: imports `schemas`, `stream_processors.fold.logic` and codecs, no driver and no Faust.

What a recording cannot show stays unknown here: native dialogs, windows that open without being recorded and take no
focus, what an HTTP answer of 204 or a download does, closed shadow roots, canvases (rrweb records them on demand only),
modifier keys. Clicks in a frame have the frame's own
coordinates. A chunk that arrives after its successors is read alone; its document does not come back.
"""

from stream_processors.digest.logic import build_logic

__all__ = ["build_logic"]
