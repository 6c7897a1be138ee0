"""What a worker says when it cannot start."""

import pytest

from stream_processors import worker
from stream_processors.__main__ import main


@pytest.mark.parametrize("arguments", [[], ["digest", "analyze"], ["sink"]])
def test_it_is_started_with_the_name_of_one_stage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, {}) == 78
    assert capsys.readouterr().err == "usage: python -m stream_processors digest|analyze\n"


def test_it_names_the_settings_that_are_missing_or_malformed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze"], {}) == 78
    assert "TRACEFLOW_KAFKA_BOOTSTRAP" in capsys.readouterr().err
    environ = {"TRACEFLOW_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TRACEFLOW_STAGE_GROUP_SESSION_S": "1"}
    assert main(["analyze"], environ) == 78
    assert "TRACEFLOW_STAGE_GROUP_SESSION_S: input should be greater than or equal to 6" in capsys.readouterr().err


class Faust:
    """Ends as Faust's worker does, by an exit code of its own."""

    def __init__(self, code: int) -> None:
        self._code = code

    def execute_from_commandline(self) -> None:
        raise SystemExit(self._code)


@pytest.mark.parametrize(("code", "asked"), [(0, None), (1, 75)])
def test_what_faust_gives_up_asks_for_a_new_start(
    code: int, asked: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []
    monkeypatch.setattr(worker, "fail_stop", lambda _event, **fields: ended.append(fields["code"]))
    with pytest.raises(SystemExit):
        worker.execute(Faust(code))
    assert ended == ([] if asked is None else [asked])
