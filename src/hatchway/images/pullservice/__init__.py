"""The process that pulls images for a cluster's nodes, and its client."""
