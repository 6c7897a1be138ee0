"""What analyze said, decoded: of what it said twice the first, as the sinks have it, of snapshots the latest."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas import topics
from schemas.messages import AiJob, Finding, SessionSnapshot, decode_message
from stream_processors.fold.logic import Output


@dataclass(slots=True)
class Said:
    """Collects the outputs of analyze."""

    findings: dict[str, tuple[Finding, Output]] = field(default_factory=dict)
    """By id, with the record that said it."""
    sessions: dict[bytes | None, SessionSnapshot] = field(default_factory=dict)
    """By record key: the latest."""
    lives: dict[tuple[bytes | None, int], SessionSnapshot] = field(default_factory=dict)
    """By record key and life: the latest of each."""
    jobs: dict[str, AiJob] = field(default_factory=dict)
    """By id."""

    def take(self, outputs: Iterable[Output]) -> None:
        """Take outputs, in any order."""
        for output in outputs:
            if output.topic == topics.SIGNALS.name:
                finding = decode_message(Finding, output.value)
                self.findings.setdefault(finding.id, (finding, output))
            elif output.topic == topics.SESSIONS.name:
                session = decode_message(SessionSnapshot, output.value)
                known = self.sessions.get(output.key)
                if known is None or known.version <= session.version:
                    self.sessions[output.key] = session
                life = output.key, session.life
                if life not in self.lives or self.lives[life].version <= session.version:
                    self.lives[life] = session
            elif output.topic == topics.AI_JOBS.name:
                job = decode_message(AiJob, output.value)
                self.jobs.setdefault(job.id, job)
