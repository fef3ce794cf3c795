"""Which rows share a model call, and when: the policy, the queue and the engine threads."""
