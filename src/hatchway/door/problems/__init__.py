"""The door's descriptions of problems, for users and programs. Pure.

problem.py      the type of a problem, and its form as a Kubernetes `Status`
absent.py       the target exists, but has no endpoint that can answer
notfound.py     the target, its namespace or its port does not exist
refused.py      the door, the cluster or the route refuses a request
unanswered.py   the target's program gives no useful answer, or no program listens
unreached.py    the API server or an SSH node cannot be reached; credentials are missing or refused

Each function describes one cause. `diagnosis.py` and `targetdiagnosis.py` find out which cause applies.
"""
