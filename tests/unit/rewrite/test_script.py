"""The script in browsers is put together from its frame, its parts and the lists that both rewriters share."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from hatchway.rewrite import script
from hatchway.rewrite.html import URL_ATTRIBUTES
from hatchway.rewrite.vocabulary import OF_THE_BROWSER, URLS, attributes

HOME = resources.files("hatchway.rewrite")
FRAME = HOME.joinpath("prefix.js").read_text()
PARTS = re.findall(r"^ *//= (\S+)$", FRAME, re.MULTILINE)


def test_every_file_is_a_part_of_the_script() -> None:
    files = [one.name.removesuffix(".js") for one in HOME.joinpath("browser").iterdir() if one.name.endswith(".js")]
    assert sorted(PARTS) == sorted([*files, "vocabulary"])


def test_the_script_has_no_unfilled_places() -> None:
    text = script.template().decode()
    assert "//=" not in text and "/*" not in text.replace("\\/\\*", "") and "</script" not in text.lower()
    assert "\n\n" not in text and "\n " not in text


def test_prefix_and_hosts_are_filled_in() -> None:
    text = script.script(b"/some/prefix", (b"a.localhost:80", b'"', b"a.localhost:80")).decode()
    assert text.endswith('})("/some/prefix", ["a.localhost:80"]);')


@pytest.mark.parametrize("name", OF_THE_BROWSER)
def test_shared_lists_are_in_the_script_and_are_used(name: str) -> None:
    text = script.template().decode()
    found = re.search(rf"^var {name} = (.*);$", text, re.MULTILINE)
    assert found is not None and json.loads(found[1]) == OF_THE_BROWSER[name]
    assert len(re.findall(rf"\b{name}\b", text)) > 1
    assert len(re.findall(rf"\bvar {name}\b", text)) == 1


def test_all_attributes_that_kubernetes_rewrites_are_rewritten() -> None:
    page = attributes(URLS)
    assert all(names <= page[element] for element, names in URL_ATTRIBUTES.items())
