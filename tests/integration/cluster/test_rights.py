"""Rights and tokens are removed while a connection is open."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import Cluster

_RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/rights"
_BINDINGS = f"{_RBAC}/rolebindings"
_ACCOUNTS = "/api/v1/namespaces/rights/serviceaccounts"


def test_a_removed_right_has_no_effect_on_the_next_request(cluster: Cluster) -> None:
    def create(path: str, body: dict[str, Any]) -> Any:
        kind = {"Content-Type": "application/json"}
        answer = cluster.request("POST", path, headers=kind, body=json.dumps(body).encode())
        assert answer.status == 201, answer.text
        return answer.json

    binding = {
        "metadata": {"name": "robot"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "proxy"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot"}],
    }
    create("/api/v1/namespaces", {"metadata": {"name": "rights"}})
    create(_ACCOUNTS, {"metadata": {"name": "robot"}})
    rule = {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}
    create(f"{_RBAC}/roles", {"metadata": {"name": "proxy"}, "rules": [rule]})
    create(_BINDINGS, binding)
    token = create(f"{_ACCOUNTS}/robot/token", {"spec": {}})["status"]["token"]

    where = urlsplit(cluster.server)
    assert where.hostname is not None
    connection = http.client.HTTPSConnection(
        where.hostname, where.port, context=ssl.create_default_context(cafile=str(cluster.ca)), timeout=10
    )
    connection.connect()
    first = connection.sock

    def status() -> int:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("GET", "/api/v1/namespaces/rights/services/none/proxy/", headers=headers)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status

    # 404: the user is authorized, but the service does not exist.
    assert [status(), status()] == [404, 404]
    assert cluster.request("DELETE", f"{_BINDINGS}/robot").status == 200
    assert [status(), status()] == [403, 403]
    create(_BINDINGS, binding)
    assert [status(), status()] == [404, 404]
    assert cluster.request("DELETE", f"{_ACCOUNTS}/robot").status == 200
    assert [status(), status()] == [401, 401]
    assert connection.sock is first
    connection.close()
