"""The five sinks, each named like the topic that it reads: `events`, `signals`, `sessions`, `recordings`, `ai_jobs`."""
