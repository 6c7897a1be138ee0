"""Read typed settings from an environment that is passed in, and show them masked."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

PREFIX = "TRACEFLOW_"


class Settings(BaseModel):
    """A frozen group of settings; each field is one environment variable `TRACEFLOW_<GROUP>_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SettingsError(ValueError):
    """An environment variable is missing or cannot be read: the message names it and says what is expected."""


S = TypeVar("S", bound=Settings)


def read_settings(model: type[S], environ: Mapping[str, str], *, group: str = "") -> S:
    """Build `model` from the variables `TRACEFLOW_<GROUP>_<FIELD>`; an empty variable counts as unset.

    Raises:
        SettingsError: naming each variable that is missing or malformed.
    """
    stem = PREFIX + (f"{group}_" if group else "")
    names = {field: stem + field.upper() for field in model.model_fields}
    values = {field: environ[name] for field, name in names.items() if environ.get(name)}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"{names[str(e['loc'][0])]}: {e['msg'].lower()}" for e in error.errors(include_input=False)]
        raise SettingsError("; ".join(lines)) from None


def masked(settings: Settings) -> dict[str, Any]:
    """Show settings for the start-up log line: secrets as stars, everything else as it is."""
    return {name: "***" if isinstance(value, SecretStr) else value for name, value in settings.model_dump().items()}
