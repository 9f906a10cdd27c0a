from __future__ import annotations

from typing import Any, cast

from hatchway.errors import ApiError
from hatchway.remote.podcontainer import explain_refusal


async def _explained(code: int, message: str) -> tuple[str, str]:
    error = ApiError(code, "InternalError", message)
    told = await explain_refusal(error, "pod web, container main", "exec", cast(Any, None), "default")
    return told.message, told.hint


async def test_a_container_that_does_not_run_is_named_with_what_shows_why() -> None:
    # What a kubelet says (kubelet_pods.go, GetExec).
    message, hint = await _explained(500, 'container not found ("main")')
    assert message == "pod web, container main: the container does not run now"
    assert "kubectl describe pod" in hint


async def test_another_error_of_the_server_stays_as_it_is() -> None:
    message, _ = await _explained(500, "etcd is away")
    assert message == "etcd is away"
