"""The scheduler's rules: the facts about nodes and pods, filters, scores and preemption. Pure."""
