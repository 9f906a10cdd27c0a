"""Admission policies: rules in CEL that refuse or change writes."""
