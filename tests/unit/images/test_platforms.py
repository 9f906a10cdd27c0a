from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.images.contents import BadImage, Descriptor
from hatchway.images.documents import IndexEntry
from hatchway.images.platforms import Platform, accepted, choose, matches, normal, parse_platform, this_machine


def entry(text: str, number: int = 0, *, attestation: bool = False) -> IndexEntry:
    os, architecture, variant = (*text.split("/"), "", "")[:3]
    return IndexEntry(
        Descriptor("m", f"sha256:{number:064x}", 1), os, architecture, variant, is_attestation=attestation
    )


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64", "v1")),
        ("x86_64", Platform("linux", "amd64", "v1")),
        ("linux/aarch64", Platform("linux", "arm64", "v8")),
        ("arm", Platform("linux", "arm", "v7")),
        ("linux/arm/6", Platform("linux", "arm", "v6")),
        ("armhf", Platform("linux", "arm", "v7")),
        ("LINUX/RISCV64", Platform("linux", "riscv64")),
    ],
)
def test_spellings_of_platforms(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


@pytest.mark.parametrize("text", ["", "windows/amd64", "linux/amd64/v1/x", "linux/", "a b", "linux//v7", "../x"])
def test_texts_that_are_not_platforms(text: str) -> None:
    with pytest.raises(ValueError):
        parse_platform(text)


@given(st.text())
def test_any_text_is_a_platform_or_an_error(text: str) -> None:
    try:
        found = parse_platform(text)
    except ValueError:
        return
    assert parse_platform(str(found)) == found
    assert found in accepted(found)


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v3"], 1),
        ("linux/amd64", ["windows/amd64", "", "linux/amd64"], 2),
        ("linux/amd64", ["windows/amd64", "linux/arm64", ""], 2),
    ],
)
def test_the_best_entry_is_chosen(wanted: str, there: list[str], chosen: int) -> None:
    entries = [entry(text, number) for number, text in enumerate(there)]
    assert choose(entries, parse_platform(wanted)) is entries[chosen]


def test_no_suitable_entry() -> None:
    for entries in ([], [entry("linux/amd64", attestation=True)], [entry("unknown/unknown")]):
        with pytest.raises(BadImage, match=r"not made for linux/amd64/v1$"):
            choose(entries, parse_platform("linux/amd64"))
    with pytest.raises(BadImage, match=r"linux/a11 \.\.\.$"):
        choose([entry(f"linux/a{number}") for number in range(100)], parse_platform("linux/amd64"))


def test_platforms_of_configurations() -> None:
    here = parse_platform("linux/amd64")
    assert matches(here, "linux", "amd64")
    assert matches(here, "", "")
    assert not matches(here, "linux", "arm64")
    assert not matches(here, "windows", "amd64")


def test_this_machine() -> None:
    assert this_machine().os == "linux"
    assert normal(this_machine()) == this_machine()
