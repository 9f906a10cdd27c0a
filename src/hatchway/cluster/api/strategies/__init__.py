"""What is special about each built-in type, one file per type or family; `base.py` says what a strategy may decide."""
