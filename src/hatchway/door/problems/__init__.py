"""The door's descriptions of problems, for people and programs. Pure.

problem.py      what a problem is, and its form as a Kubernetes `Status`
absent.py       the target exists, and nothing behind it can answer
notfound.py     the target, its namespace or its port does not exist
refused.py      the door, the cluster or the route does not let a request through
unanswered.py   a program listens there, and gives no useful answer
unreached.py    the API server cannot be reached, or refuses the credentials

Each function makes the problem of one cause; `diagnosis.py` and `targetdiagnosis.py` find out which one it is.
"""
