"""A project's settings as a person wrote them, checked."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from deploy.command.failure import CommandFailure, Exit
from ingest_gateway.admission.origins import can_match
from schemas.projects import ProjectSettings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def validated(settings: Mapping[str, Any]) -> ProjectSettings:
    """Check settings as a person wrote them, the detectors' thresholds too.

    Raises:
        CommandFailure: naming each field that is unknown or out of range.
    """
    from stream_processors.analyze.config import parse_detectors

    try:
        found = ProjectSettings.model_validate(settings)
        parse_detectors(found.detectors)
    except ValidationError as error:
        raise CommandFailure("; ".join(map(_told, error.errors(include_input=False))), Exit.USAGE) from error
    except ValueError as error:
        raise CommandFailure(str(error), Exit.USAGE) from error
    for origin in found.origins:
        if not can_match(origin):
            raise CommandFailure(
                f"origins: no page is of {origin!r}: like https://shop.example or https://*.shop.example", Exit.USAGE
            )
    return found


def _told(error: "ErrorDetails") -> str:
    """Return one line about a field; about one that there is not, those that there are."""
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"{field}: there is no such setting; there are {', '.join(ProjectSettings.model_fields)}"
    return f"{field}: {error['msg'].lower()}"
