"""Exposes programs by Services, and finds what is reachable from outside a cluster: is it safe?"""
