"""Controllers, which bring the cluster to the state that its objects describe.

Each controller has its own file. `manager.py` runs them all.
"""
