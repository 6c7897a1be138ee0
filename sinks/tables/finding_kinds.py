"""The kinds of finding: the values of `event_type` that a session's score is made of.

The same list as the weights of the SQL function `traceflow_frustration_score`; an integration test compares them.
"""

FINDING_KINDS = frozenset(
    {
        "error",
        "rage_click",
        "error_click",
        "form_abandonment",
        "dead_click",
        "slow_load",
        "quick_back",
        "thrashed_cursor",
    }
)
