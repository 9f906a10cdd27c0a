from __future__ import annotations

from typing import Any, cast

from hatchway.errors import ApiError
from hatchway.remote.podcontainer import explain_refusal


async def _explained(code: int, message: str) -> tuple[str, str]:
    error = ApiError(code, "InternalError", message)
    told = await explain_refusal(error, "pod web, container main", "exec", cast(Any, None), "default")
    return told.message, told.hint


async def test_the_error_about_a_container_that_does_not_run_suggests_a_command() -> None:
    # The kubelet's message (kubelet_pods.go, GetExec).
    message, hint = await _explained(500, 'container not found ("main")')
    assert message == "pod web, container main: the container does not run now"
    assert "kubectl describe pod" in hint


async def test_other_errors_of_the_server_are_not_changed() -> None:
    message, _ = await _explained(500, "etcd is away")
    assert message == "etcd is away"
