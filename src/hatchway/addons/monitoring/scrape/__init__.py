"""Scraping: finds targets in a cluster, fetches and parses their metrics, and appends the samples to the store."""
