"""Why a whole request is refused: one exception that carries the reason code, unchanged to metric and HTTP body."""

from schemas.reasons import Reason


class Refusal(Exception):
    """The request is refused: `reason` gives the HTTP status, `message` names the field or limit and what to do."""

    def __init__(self, reason: Reason, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or reason.describe)
        self.reason = reason
        self.message = message or reason.describe
        self.retry_after_s = retry_after_s
