"""The output of `hatchway up` and `hatchway status` about settings that open a cluster to others, and about egress."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchway.cluster import settingsreport
from hatchway.cluster.network.egress import tools
from hatchway.cluster.startoptions import Options, check_host_paths, configure
from hatchway.cluster.state import EGRESS_STARTS, ClusterConfig, StateDir
from hatchway.errors import HatchwayError

NO_DEVICE = "/dev/net/tun cannot be opened: permission denied"


def test_a_default_cluster_has_no_lines() -> None:
    assert settingsreport.lines(settingsreport.settings(ClusterConfig())) == []


@pytest.mark.parametrize(
    ("config", "label", "text"),
    [
        (ClusterConfig(host_paths=["/data", "/srv"]), "host paths", "/data, /srv"),
        (ClusterConfig(publish=["192.0.2.1"]), "published", "192.0.2.1"),
        (ClusterConfig(host_programs=True), "images", "--host-programs"),
        (ClusterConfig(ephemeral=True), "ephemeral", "nothing is kept"),
    ],
)
def test_each_other_setting_has_a_line(config: ClusterConfig, label: str, text: str) -> None:
    ((told, description),) = settingsreport.lines(settingsreport.settings(config))
    assert told == label
    assert text in description


@pytest.mark.parametrize(
    ("record", "config", "told"),
    [
        (None, ClusterConfig(egress_to_host=True), ""),
        ({"tool": "pasta", "up": True, "why": ""}, ClusterConfig(), ""),
        ({"tool": "pasta", "up": False, "why": EGRESS_STARTS}, ClusterConfig(), ""),
        ({"tool": "pasta", "up": False, "why": EGRESS_STARTS}, ClusterConfig(egress_to_host=True), "--egress-to-host"),
        ({"tool": "", "up": False, "why": "switched off"}, ClusterConfig(egress="none"), ""),
        ({"tool": "", "up": False, "why": NO_DEVICE}, ClusterConfig(), f"outside the cluster: {NO_DEVICE}"),
        ({"tool": "", "up": False, "why": NO_DEVICE}, ClusterConfig(egress="pasta"), NO_DEVICE),
        ({"tool": "", "up": False, "why": tools.MISSING}, ClusterConfig(), "apt install passt"),
        ({"tool": "pasta", "up": False, "why": "it ended: no route"}, ClusterConfig(), "it ended: no route"),
    ],
)
def test_up_reports_unexpected_states_of_egress(
    record: dict[str, object] | None, config: ClusterConfig, told: str
) -> None:
    found = settingsreport.egress_at_start(record, config)
    assert told in found
    assert bool(found) == bool(told)


def test_a_chosen_egress_program_that_cannot_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "choose", lambda _: None)
    monkeypatch.setattr(tools, "obstacle", lambda *_: NO_DEVICE)
    state = StateDir(tmp_path / "c")
    with pytest.raises(HatchwayError) as caught:
        configure(state, Options(egress="pasta"))
    assert caught.value.message == f"--egress pasta: {NO_DEVICE}"
    assert "chmod 0666 /dev/net/tun" in caught.value.hint
    assert not state.path.exists()
    assert configure(state, Options(egress="auto")).egress == "auto"
    # With `--network loopback`, the program is not used, so there is no error.
    assert configure(state, Options(egress="pasta", network="loopback")).egress == "pasta"


def test_host_paths_are_kept_until_the_option_none(tmp_path: Path) -> None:
    state, opened = StateDir(tmp_path / "c"), tmp_path / "opened"
    opened.mkdir()
    config = configure(state, Options(host_paths=check_host_paths(state, [str(opened)])))
    assert config.host_paths == configure(state, Options()).host_paths == [str(opened)]
    assert configure(state, Options(host_paths=check_host_paths(state, ["none"]))).host_paths == []
    assert configure(state, Options()).host_paths == []
    with pytest.raises(HatchwayError, match="--host-path none excludes other directories"):
        check_host_paths(state, ["none", str(opened)])


def test_ephemeral_is_reported_if_the_running_cluster_is_not() -> None:
    assert Options(ephemeral=True).differing(ClusterConfig()) == ["--ephemeral"]
    assert Options(ephemeral=True).differing(ClusterConfig(ephemeral=True)) == []
    assert Options().differing(ClusterConfig(ephemeral=True)) == []
