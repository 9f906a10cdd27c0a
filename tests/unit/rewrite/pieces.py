"""Feeding a transform piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hatchway.rewrite.encoding import BodyTransform
from hatchway.rewrite.urlrules import PrefixRule

PREFIX = b"/api/v1/namespaces/default/services/web:http/proxy"
HOST = b"prefix.localhost:8001"
ENDPOINT = b"10.244.1.3:8080"


def rule() -> PrefixRule:
    return PrefixRule(PREFIX, (HOST, ENDPOINT))


def whole(make: Callable[[], BodyTransform], text: bytes) -> bytes:
    transform = make()
    return transform.feed(text) + transform.finish()


def in_pieces(make: Callable[[], BodyTransform], text: bytes, cuts: list[int]) -> bytes:
    transform = make()
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return b"".join(transform.feed(text[a:b]) for a, b in pairwise(edges)) + transform.finish()
