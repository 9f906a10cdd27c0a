"""The order of the tests, and their distribution among the workers of pytest-xdist."""

from __future__ import annotations

from collections.abc import Iterable

from xdist.scheduler.loadscope import LoadScopeScheduling

_FAST = "tests/unit/"
# This file is split into one unit for each application: each test needs only one application, and takes long.
_APPLICATIONS = "tests/apps/test_apps.py"
# The units that take a worker more than about 10 seconds. Units that mostly wait stand between units that compute.
LONG = (
    "tests/integration/test_documents.py",
    "tests/apps/test_apps.py[jupyterlab",
    "tests/integration/cluster/test_real_images.py",
    "tests/integration/cluster/test_killed.py",
    "tests/integration/testing/test_plugin.py",
    "tests/integration/door/test_flags_like_kubectl.py",
    "tests/integration/cluster/test_lifecycle.py",
    "tests/integration/cluster/test_first_use.py",
    "tests/apps/test_apps.py[gradio",
    "tests/browser/test_hostile_pages.py",
    "tests/integration/door/test_like_kubectl_proxy.py",
    "tests/integration/cluster/test_command_line.py",
    "tests/browser/test_dashboards.py",
    "tests/integration/operators/test_helm.py",
    "tests/apps/test_apps.py[node-red",
    "tests/integration/cluster/test_published_applications.py",
    "tests/integration/cluster/test_reach.py",
    "tests/integration/network/test_entering.py",
    "tests/integration/remote/test_cp.py",
    "tests/integration/network/test_imageroots.py",
    "tests/integration/cluster/test_disk_full.py",
    "tests/browser/test_prefix_script.py",
    "tests/integration/cluster/test_loopback.py",
    "tests/apps/test_apps.py[streamlit",
    "tests/browser/test_portal.py",
    "tests/integration/door/test_told.py",
    "tests/integration/network/test_private.py",
    "tests/integration/proxy/test_resets.py",
    "tests/integration/forward/test_relay.py",
    "tests/apps/test_apps.py[django-admin",
    "tests/integration/api/test_limits_of_work.py",
    "tests/browser/test_prefix_applications.py",
    "tests/integration/cluster/test_rewriting.py",
    "tests/browser/test_log_explorer.py",
    "tests/integration/cluster/test_service_tutorials.py",
    "tests/integration/test_logging_addon.py",
    "tests/browser/test_prefix_policies.py",
    "tests/integration/network/test_races.py",
    "tests/integration/node/test_kubelet.py",
    "tests/integration/network/test_imageusers.py",
    "tests/integration/forward/test_forward.py",
    "tests/integration/network/test_terminals.py",
    "tests/integration/services/test_kept_settings.py",
    "tests/integration/kube/test_view.py",
    "tests/integration/network/test_sharing.py",
    "tests/integration/services/test_service_types.py",
    "tests/integration/cluster/test_kubectl_day.py",
    "tests/integration/cluster/test_jobs.py",
    "tests/integration/door/test_clients.py",
    "tests/browser/test_dashboards_paths.py",
    "tests/integration/cluster/test_down.py",
    "tests/integration/monitoring/test_scrapes_like_prometheus.py",
    "tests/integration/monitoring/test_prometheus_scrapes.py",
    "tests/integration/services/test_network_policies.py",
    "tests/integration/cluster/test_cluster_info.py",
    "tests/integration/cluster/test_statefulsets.py",
    "tests/integration/cluster/test_conformance_live.py",
    "tests/integration/api/test_podforward.py",
    "tests/browser/test_portal_objects.py",
    "tests/integration/network/test_serviceproxy.py",
    "tests/integration/operators/test_operator.py",
    "tests/integration/exposure/test_exposure.py",
    "tests/integration/door/test_targets.py",
)


def unit_of(nodeid: str) -> str:
    """Return the unit of a test: its file, or its application. One worker runs a whole unit, to share fixtures."""
    path, _, test = nodeid.partition("::")
    if path == _APPLICATIONS:
        # test_it_works[MODE-APPLICATION]
        return f"{path}[{test.partition('-')[2]}".removesuffix("]")
    return path


def ordered_units(units: Iterable[str]) -> list[str]:
    """Return units in the order in which they run.

    Unit tests come first, so that most failures are reported early. Then come the units of `LONG`: if they were last,
    one worker would still run for a long time after the other workers have ended.
    """
    long = {unit: place for place, unit in enumerate(LONG)}
    return sorted(units, key=lambda unit: -1 if unit.startswith(_FAST) else long.get(unit, len(LONG)))


class FileScheduling(LoadScopeScheduling):
    """Give each worker one unit after another, in the order of the units."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
