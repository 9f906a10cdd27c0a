"""`hatchway up --addons LIST`: accepted values, the value that a cluster stores, and shell completion."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.addonnames import ADDONS, ALL, enabled, parse_list
from hatchway.cluster.startoptions import Options
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError
from tests.conftest import BIN


@given(st.lists(st.sampled_from(ADDONS), min_size=1))
def test_a_list_has_each_name_once_and_in_a_fixed_order(names: list[str]) -> None:
    kept = parse_list(" , ".join(name.upper() for name in names))
    assert set(enabled(kept)) == set(names)
    assert enabled(kept) == tuple(name for name in ADDONS if name in names)


def test_all_and_none() -> None:
    assert enabled(parse_list("all")) == ADDONS
    assert enabled(parse_list("none")) == ()
    # A list of all names is stored as `all`, so the cluster also gets add-ons of later releases.
    assert parse_list(",".join(ADDONS)) == [ALL]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dns,fog", 'there is no add-on "fog"'),
        ("", "a name is missing"),
        ("dns,,metrics", "a name is missing"),
        ("all,dns", '"all" excludes other names'),
        ("dns,none", '"none" excludes other names'),
    ],
)
def test_errors_list_the_names(text: str, message: str) -> None:
    with pytest.raises(HatchwayError) as error:
        parse_list(text)
    assert error.value.message == message
    for name in (*ADDONS, "all", "none"):
        assert name in error.value.hint


@pytest.mark.parametrize(("stored", "found"), [(True, ADDONS), (False, ()), (["dns"], ("dns",)), (["all"], ADDONS)])
def test_stored_values_of_earlier_releases_are_accepted(tmp_path: Path, stored: object, found: tuple[str, ...]) -> None:
    state = StateDir(tmp_path / "c")
    state.create()
    state.config_file.write_text(json.dumps({"name": "c", "addons": stored}))
    config = state.load_config()
    assert config is not None
    assert enabled(config.addons) == found
    assert Options(addons=list(config.addons)).differing(config) == []
    assert Options(addons=["logging"]).differing(config) == ["--addons"]


def hatchway(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), **environment}
    return subprocess.run([BIN / "hatchway", *arguments], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--addons", "dns,fog"], 'hatchway: --addons: there is no add-on "fog"; choose from dns, logging'),
        (["--addons="], "hatchway: --addons: a name is missing; choose from dns, logging"),
        (["--addons", "dns", "--no-addons"], "hatchway: --addons and --no-addons exclude each other"),
    ],
)
def test_the_command_line_refuses(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = hatchway("up", *arguments, home=tmp_path)
    assert done.returncode
    assert done.stderr.startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("d", {"dns", "dashboards"}),
        ("dns,", {"dns,logging", "dns,metrics", "dns,ingress", "dns,dashboards"}),
        ("dns,lo", {"dns,logging"}),
        ("n", {"none"}),
    ],
)
def test_the_shell_completes_lists(tmp_path: Path, typed: str, found: set[str]) -> None:
    line = f"hatchway up --addons {typed}"
    asked = {"_HATCHWAY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "3"}
    lines = hatchway(home=tmp_path, **asked).stdout.split()
    assert {line.partition(",")[2] for line in lines} == found
