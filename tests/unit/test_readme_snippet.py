"""The snippet of the README, which `deploy/demo/try_snippet.mjs` runs in a browser as it is printed."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SNIPPET = re.search(r"```js\n(import \{ record }.*?)```", README, re.DOTALL)


def test_the_script_finds_the_snippet_and_what_it_replaces() -> None:
    assert SNIPPET is not None
    script = (ROOT / "deploy/demo/try_snippet.mjs").read_text()
    assert r"/```js\n(import { record }.*?)```/s" in script
    for placeholder in ("http://127.0.0.1:8100", "tfk_…"):
        assert (SNIPPET[1].count(placeholder), placeholder in script) == (1, True)


def test_the_snippet_can_be_read_at_a_glance() -> None:
    assert SNIPPET is not None
    lines = SNIPPET[1].splitlines()
    assert (len(lines) <= 34, max(map(len, lines)) <= 120) == (True, True)
