"""Why something was refused or parked: one closed enum, used unchanged in logs, metrics, dead letters and HTTP bodies.

Errors are sorted by blame: the client's (refuse or park, never stop), ours (park; too many in a row stop the stage),
and transient ones, which have no reason code in a dead letter because they are retried.
"""

from enum import StrEnum


class Blame(StrEnum):
    """Who has to act."""

    CLIENT = "client"
    OURS = "ours"
    TRANSIENT = "transient"


class Reason(StrEnum):
    """A reason code; `describe` gives the sentence, `blame` who has to act, `status` the gateway's HTTP status."""

    # the whole request is refused by the gateway
    KEY_MISSING = "key_missing"
    KEY_UNKNOWN = "key_unknown"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HTTP_MALFORMED = "http_malformed"
    HEADERS_TOO_LARGE = "headers_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "body_too_large"
    BODY_INFLATED_TOO_LARGE = "body_inflated_too_large"
    TOO_MANY_EVENTS = "too_many_events"
    ENCODING_UNSUPPORTED = "encoding_unsupported"
    ENCODING_BROKEN = "encoding_broken"
    JSON_MALFORMED = "json_malformed"
    SHAPE_WRONG = "shape_wrong"
    SESSION_ID_INVALID = "session_id_invalid"
    PARAMETER_INVALID = "parameter_invalid"
    RATE_LIMITED = "rate_limited"
    QUOTA_LIMITED = "quota_limited"
    KAFKA_UNAVAILABLE = "kafka_unavailable"
    PROJECTS_UNAVAILABLE = "projects_unavailable"
    OVERLOADED = "overloaded"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL_ERROR = "internal_error"
    # one event is refused by the gateway; its neighbours are kept
    EVENT_SHAPE_WRONG = "event_shape_wrong"
    EVENT_TYPE_MISSING = "event_type_missing"
    EVENT_TYPE_RESERVED = "event_type_reserved"
    EVENT_FIELD_INVALID = "event_field_invalid"
    EVENT_TOO_LARGE = "event_too_large"
    # a record is parked by a later stage
    CHUNK_MALFORMED = "chunk_malformed"
    CHUNK_TOO_LARGE = "chunk_too_large"
    CHUNK_NOT_RRWEB = "chunk_not_rrweb"
    EVENT_ID_TAKEN = "event_id_taken"
    SESSION_ID_TAKEN = "session_id_taken"
    DAY_NOT_KEPT = "day_not_kept"
    RECORD_MALFORMED = "record_malformed"
    SCHEMA_NEWER = "schema_newer"
    ENGINE_ERROR = "engine_error"
    ROW_REFUSED = "row_refused"
    SOURCES_LOST = "sources_lost"

    @property
    def describe(self) -> str:
        """Return the sentence for people."""
        return _TABLE[self][2]

    @property
    def blame(self) -> Blame:
        """Return who has to act."""
        return _TABLE[self][0]

    @property
    def status(self) -> int | None:
        """Return the HTTP status of a refused request; None where the reason concerns one event or a later stage."""
        return _TABLE[self][1]


_C, _O, _T = Blame.CLIENT, Blame.OURS, Blame.TRANSIENT
_TABLE: dict[Reason, tuple[Blame, int | None, str]] = {
    Reason.KEY_MISSING: (
        _C,
        401,
        "no project key: send Authorization: Bearer KEY, X-TraceFlow-Key, or key in the query or the events' body",
    ),
    Reason.KEY_UNKNOWN: (_C, 401, "the project key is unknown or revoked"),
    Reason.ORIGIN_NOT_ALLOWED: (_C, 403, "the page's origin is not on the project's list"),
    Reason.NOT_FOUND: (_C, 404, "no such path; see /openapi.json"),
    Reason.METHOD_NOT_ALLOWED: (_C, 405, "the path exists, the method does not"),
    Reason.HTTP_MALFORMED: (_C, 400, "the request is not valid HTTP/1.1"),
    Reason.HEADERS_TOO_LARGE: (_C, 431, "request line and headers are larger than the limit"),
    Reason.REQUEST_TIMEOUT: (_C, 408, "headers or body came too slowly"),
    Reason.BODY_TOO_LARGE: (_C, 413, "the body is larger than the limit"),
    Reason.BODY_INFLATED_TOO_LARGE: (_C, 413, "the body is larger than the limit once inflated"),
    Reason.TOO_MANY_EVENTS: (_C, 413, "more events in one request than the limit"),
    Reason.ENCODING_UNSUPPORTED: (_C, 415, "Content-Encoding is none of gzip, deflate, zstd, identity"),
    Reason.ENCODING_BROKEN: (_C, 400, "the compressed body is truncated or damaged"),
    Reason.JSON_MALFORMED: (_C, 400, "the body is not valid JSON"),
    Reason.SHAPE_WRONG: (_C, 400, "the body is not of the documented shape"),
    Reason.SESSION_ID_INVALID: (
        _C,
        400,
        "session_id is missing, empty, too long or holds control characters",
    ),
    Reason.PARAMETER_INVALID: (_C, 400, "a query parameter is missing or malformed"),
    Reason.RATE_LIMITED: (_C, 429, "the project sends more than its rate; retry after Retry-After"),
    Reason.QUOTA_LIMITED: (_C, 202, "the project is over its quota; nothing was stored"),
    Reason.KAFKA_UNAVAILABLE: (_T, 503, "the log cannot take events now; retry after Retry-After"),
    Reason.PROJECTS_UNAVAILABLE: (_T, 503, "projects cannot be looked up now; retry after Retry-After"),
    Reason.OVERLOADED: (_T, 503, "this gateway holds as much as it may; retry after Retry-After"),
    Reason.SHUTTING_DOWN: (_T, 503, "this gateway is stopping; retry"),
    Reason.INTERNAL_ERROR: (_O, 500, "the gateway failed on this request; its log has the cause"),
    Reason.EVENT_SHAPE_WRONG: (_C, None, "the event is not a JSON object"),
    Reason.EVENT_TYPE_MISSING: (_C, None, "event_type is missing or empty"),
    Reason.EVENT_TYPE_RESERVED: (_C, None, "event_type is the name of a finding, which only TraceFlow makes"),
    Reason.EVENT_FIELD_INVALID: (_C, None, "a field has the wrong type or a value out of range"),
    Reason.EVENT_TOO_LARGE: (_C, None, "the event, or its metadata, is larger than the limit"),
    Reason.CHUNK_MALFORMED: (_C, None, "the recording chunk cannot be inflated or is not JSON"),
    Reason.CHUNK_TOO_LARGE: (_C, None, "the recording chunk is larger than the limit once inflated"),
    Reason.CHUNK_NOT_RRWEB: (_C, None, "the recording chunk is not an array of rrweb events"),
    Reason.EVENT_ID_TAKEN: (_C, None, "another session holds an event of this id and timestamp"),
    Reason.SESSION_ID_TAKEN: (_C, None, "another project holds a session of this id"),
    Reason.DAY_NOT_KEPT: (_C, None, "the row is of a day that is kept no longer: it came later than retention allows"),
    Reason.RECORD_MALFORMED: (_O, None, "the record does not decode as its topic declares"),
    Reason.SCHEMA_NEWER: (_O, None, "the record was written by a newer version than this one reads"),
    Reason.ENGINE_ERROR: (_O, None, "the engine raised on this record; the traceback is in the detail"),
    Reason.ROW_REFUSED: (_O, None, "Postgres refuses the row; its message is in the detail"),
    Reason.SOURCES_LOST: (_O, None, "the log lost records that it had acknowledged; which, is in the detail"),
}
