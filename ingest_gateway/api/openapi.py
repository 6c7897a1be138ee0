"""The HTTP interface as an OpenAPI 3.1 document, made from the rules that the code follows."""

from typing import Any

import orjson

from ingest_gateway.admission.event_fields import (
    DEPTH_LIMIT,
    EVENT_TYPE_LIMIT,
    INT4_MAX,
    INT4_MIN,
    INTEGERS,
    METADATA_LIMIT,
    RESERVED_EVENT_TYPES,
    TEXT_LIMITS,
)
from ingest_gateway.admission.events import CUSTOM_PROPERTIES_LIMIT, ID_LIMIT
from ingest_gateway.admission.inflation import ENCODINGS
from ingest_gateway.settings import GatewaySettings
from schemas.reasons import Reason

Schema = dict[str, Any]

EVENT_REASONS = (
    Reason.EVENT_SHAPE_WRONG,
    Reason.EVENT_TYPE_MISSING,
    Reason.EVENT_TYPE_RESERVED,
    Reason.EVENT_FIELD_INVALID,
    Reason.EVENT_TOO_LARGE,
    Reason.SESSION_ID_INVALID,
)
"""Reasons of one event's verdict."""

REQUEST_REASONS = tuple(reason for reason in Reason if reason.status is not None and reason.status >= 400)
"""Reasons of a whole request's refusal."""

_TIME = {
    "description": "ISO 8601 (UTC without a zone), or epoch milliseconds as a number or as digits",
    "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}],
}
_ID = {"type": "string", "minLength": 1, "maxLength": ID_LIMIT}


def openapi_document(settings: GatewaySettings, *, version: str) -> bytes:
    """Return the document as JSON."""
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "TraceFlow ingest gateway",
            "version": version,
            "description": "Events and session recordings in. 202 means that Kafka has what `accepted` counts. "
            "A 503 or a lost answer leaves open what was stored: send the same again, ids make it count once.",
        },
        "security": [{"bearer": []}, {"header": []}, {"query": []}],
        "paths": {
            "/v1/events": {"post": _events_operation(settings)},
            "/v1/recordings": {"post": _recordings_operation(settings)},
            "/healthz": {"get": _plain("Alive", {"200": {"description": "alive"}})},
            "/readyz": {"get": _plain("Ready", {"200": _readiness("ready"), "503": _readiness("not ready")})},
            "/openapi.json": {"get": _plain("This document", {"200": {"description": "this document"}})},
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-TraceFlow-Key"},
                "query": {"type": "apiKey", "in": "query", "name": "key"},
            },
            "schemas": {
                "Event": _event(),
                "Events": _envelope(settings),
                "Accepted": _accepted(),
                "Error": _error(),
            },
        },
    }
    return orjson.dumps(document)


def _events_operation(settings: GatewaySettings) -> Schema:
    return {
        "operationId": "sendEvents",
        "summary": "Send events of one session, or of several",
        "description": f"JSON whatever the Content-Type says, at most {settings.max_body_bytes} bytes as sent and "
        f"{settings.max_inflated_bytes} inflated. A good event is never refused for a bad neighbour.",
        "parameters": [_encoding_parameter(), _encoding_header()],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Events"}},
                "text/plain": {"schema": {"type": "string"}},
            },
        },
        "responses": _responses(),
    }


def _recordings_operation(settings: GatewaySettings) -> Schema:
    parameters = [
        _parameter("session_id", _ID, required=True),
        _parameter("window_id", _ID, required=True, text="one per page load or tab"),
        _parameter("seq", {"type": "integer", "minimum": 0, "maximum": INT4_MAX}, required=True, text="counts from 0"),
        _parameter("visitor_id", {**_ID, "minLength": 0}),
        _encoding_parameter(),
        _encoding_header(),
    ]
    return {
        "operationId": "sendRecordingChunk",
        "summary": "Send one chunk of a recording",
        "description": f"A JSON array of rrweb events, at most {settings.max_chunk_bytes} bytes as sent, "
        "plain or compressed. Its content is judged later; what cannot be used goes to the dead letters.",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": _responses(),
    }


def _plain(summary: str, responses: Schema) -> Schema:
    return {"summary": summary, "security": [], "responses": responses}


def _readiness(text: str) -> Schema:
    schema = {
        "type": "object",
        "required": ["ready", "reasons"],
        "properties": {"ready": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
    }
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, schema: Schema, *, required: bool = False, text: str = "") -> Schema:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": text}


def _encoding_parameter() -> Schema:
    return _parameter(
        "encoding", {"type": "string", "enum": list(ENCODINGS)}, text="instead of Content-Encoding, without preflight"
    )


def _encoding_header() -> Schema:
    return {"name": "Content-Encoding", "in": "header", "schema": {"type": "string", "enum": list(ENCODINGS)}}


def _responses() -> Schema:
    """Return every status with the reasons that it stands for."""
    responses: Schema = {
        "202": {
            "description": "Kafka has what `accepted` counts",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
        }
    }
    by_status: dict[int, list[Reason]] = {}
    for reason in REQUEST_REASONS:
        by_status.setdefault(reason.status or 0, []).append(reason)
    for status, reasons in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "; ".join(f"{reason}: {reason.describe}" for reason in reasons),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        if status in (429, 503):
            responses[str(status)]["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return responses


def _event() -> Schema:
    texts: Schema = {
        name: {"type": ["string", "null"], "description": f"cut at {limit} bytes"}
        for name, limit in TEXT_LIMITS.items()
    }
    integers: Schema = {
        name: {"type": ["number", "null"], "minimum": INT4_MIN, "maximum": INT4_MAX, "description": "rounded"}
        for name in sorted(INTEGERS)
    }
    return {
        "type": "object",
        "required": ["event_type"],
        "description": "A field that is no column goes to metadata.",
        "properties": {
            "event_type": {
                "type": "string",
                "minLength": 1,
                "maxLength": EVENT_TYPE_LIMIT,
                "not": {"enum": sorted(RESERVED_EVENT_TYPES)},
            },
            "id": {"type": ["string", "null"], "format": "uuid", "description": "else made from the request"},
            "timestamp": _TIME,
            "session_id": {**_ID, "type": ["string", "null"]},
            "visitor_id": {**_ID, "type": ["string", "null"]},
            **texts,
            **integers,
            "metadata": {
                "type": ["object", "null"],
                "description": f"at most {METADATA_LIMIT} bytes and {DEPTH_LIMIT} levels",
            },
        },
    }


def _envelope(settings: GatewaySettings) -> Schema:
    context: Schema = {
        "type": ["object", "null"],
        "properties": {
            "screen_resolution": {"type": ["string", "null"]},
            "referrer": {"type": ["string", "null"]},
            "device_fingerprint": {"type": ["string", "null"]},
            "custom_properties": {
                "type": ["object", "null"],
                "description": f"at most {CUSTOM_PROPERTIES_LIMIT} bytes",
            },
        },
    }
    return {
        "type": "object",
        "required": ["events"],
        "properties": {
            "session_id": {**_ID, "type": ["string", "null"], "description": "unless every event names its own"},
            "visitor_id": {**_ID, "type": ["string", "null"]},
            "sent_at": _TIME,
            "context": context,
            "key": {"type": "string", "description": "where no header or query can carry it"},
            "events": {
                "type": "array",
                "maxItems": settings.max_events,
                "items": {"$ref": "#/components/schemas/Event"},
            },
        },
    }


def _accepted() -> Schema:
    verdict = {
        "type": "object",
        "required": ["index", "reason", "message"],
        "properties": {
            "index": {"type": "integer", "minimum": 0},
            "reason": {"type": "string", "enum": [reason.value for reason in EVENT_REASONS]},
            "message": {"type": "string"},
        },
    }
    return {
        "type": "object",
        "required": ["accepted", "rejected"],
        "properties": {
            "accepted": {"type": "integer", "minimum": 0},
            "rejected": {"type": "array", "items": verdict},
            "restamped": {
                "type": "integer",
                "minimum": 1,
                "description": "so many of the accepted events have a timestamp that cannot be theirs (seconds instead "
                "of milliseconds, a clock far off): they have the time of receipt",
            },
            "quota_limited": {
                "type": "boolean",
                "description": "the plan is used up for what this path takes, until the next billing period at the "
                "latest: stop sending it. Recordings may be used up while events are still taken",
            },
            "privacy_signal": {"type": "boolean", "description": "the user asked not to be tracked: stop sending"},
        },
    }


def _error() -> Schema:
    return {
        "type": "object",
        "required": ["error", "message"],
        "properties": {
            "error": {"type": "string", "enum": [reason.value for reason in REQUEST_REASONS]},
            "message": {"type": "string"},
        },
    }
