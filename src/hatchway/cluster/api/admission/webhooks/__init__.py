"""Admission webhooks: servers outside the API server that change or refuse writes."""
