"""Controllers, which bring the cluster to the state that its objects describe.

Each has a file of its own; `manager.py` runs them all.
"""
