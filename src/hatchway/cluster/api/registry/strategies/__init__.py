"""Strategies: the rules of each built-in type, one file per type or family; `base.py` is their contract."""
