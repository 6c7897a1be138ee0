import pytest

from adapters.postgres import parse_queries


def test_queries_are_found_by_name() -> None:
    text = "-- A file.\n\n-- first --\n-- Do this.\nSELECT 1\n  -- within\n;\n\n-- second --\n-- Do that.\nSELECT 2;\n"
    assert parse_queries(text) == {
        "first": b"-- Do this.\nSELECT 1\n  -- within\n",
        "second": b"-- Do that.\nSELECT 2",
    }


@pytest.mark.parametrize(
    "text",
    ["", "SELECT 1;\n", "-- a --\nSELECT 1;\n", "-- a --\n-- x\nSELECT 1;\n-- a --\n-- x\nSELECT 1;\n"],
)
def test_a_query_needs_a_name_of_its_own_and_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        parse_queries(text)
