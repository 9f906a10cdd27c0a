"""Objects that are read on demand, and suggestions of similar names."""

from __future__ import annotations

from hatchway.kube.lookup import similar_names


def test_similar_names_come_first() -> None:
    known = ["checkout", "check", "cart", "frontend", "checkout-canary"]
    assert similar_names("chekout", known)[0] == "checkout"
    assert "checkout-canary" in similar_names("checkout-", known)
    assert similar_names("zzz", known) == []
