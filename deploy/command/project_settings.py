"""A project's settings as a person wrote them, checked."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from deploy.command.failure import CommandFailure, Exit
from schemas.projects import ProjectSettings


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
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors(include_input=False)]
        raise CommandFailure("; ".join(told), Exit.USAGE) from error
    except ValueError as error:
        raise CommandFailure(str(error), Exit.USAGE) from error
    return found
