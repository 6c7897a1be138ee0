"""`traceflow up`: what it prints once everything accepts work."""

from collections.abc import Mapping
from typing import Any

from deploy.runtime.instance import Instance


def summary(state: Mapping[str, Any], instance: Instance) -> str:
    """Return what a person needs to send the first event and to ask for it."""
    lines = {
        "gateway": state["gateway"],
        "project key": f"{state['project_key']}   (also in {instance.path / 'project.key'})",
        "project": state["project_id"],
        "database": state["database_url"],
        "kafka": state["kafka_bootstrap"],
        "data": instance.path,
    }
    told = "\n".join(f"  {name:<12} {value}" for name, value in lines.items())
    first = '{"session_id": "first", "events": [{"event_type": "pageview", "page_url": "https://shop.example/"}]}'
    ask = "SELECT session_id, event_count, frustration_score FROM traceflow_sessions"
    key = instance.path / "project.key"
    return (
        f"\nTraceFlow accepts work. Ctrl-C stops it.\n\n{told}\n\n"
        f'  curl -sS {state["gateway"]}/v1/events -H "Authorization: Bearer $(cat {key})" \\\n'
        f"    -d '{first}'\n"
        f'  traceflow sql "{ask}"\n'
    )
