"""What keeps the cluster as its objects ask: one file per controller; `manager.py` runs them all."""
