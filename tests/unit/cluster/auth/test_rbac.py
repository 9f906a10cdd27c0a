"""RBAC: decisions compared with a simple model of the documentation, and the texts of reasons and errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.admission.escalation import escalation_check
from hatchway.cluster.auth.bootstrap import bootstrap_objects
from hatchway.cluster.auth.rbac import Authorizer, selects
from hatchway.cluster.auth.rules import Rule, uncovered
from hatchway.cluster.auth.user import ANONYMOUS, LOOPBACK_USER, Attributes, UserInfo
from hatchway.errors import ApiError

from .fakes import FakeSource, rule

ALICE = UserInfo("alice", ("system:authenticated",))
BOB = UserInfo("bob", ("devs", "system:authenticated"))


def check_escalation(
    authorizer: Authorizer,
    user: UserInfo,
    resource: str,
    namespace: str,
    obj: dict[str, Any],
    old: dict[str, Any] | None = None,
) -> None:
    compare = escalation_check(authorizer, user, resource, namespace, obj, old)
    if compare is not None:
        compare()


@pytest.fixture
def source() -> FakeSource:
    found = FakeSource()
    for resource, obj in bootstrap_objects():
        found.put(resource, obj)
    return found


def allowed(
    authorizer: Authorizer, user: UserInfo, verb: str, what: str = "", namespace: str = "", **more: str
) -> bool:
    resource, _, subresource = what.partition("/")
    return authorizer.decide(Attributes(user, verb, resource, subresource, namespace=namespace, **more)).allowed


# -- matching

WORDS = st.sampled_from(["a", "b", "c"])
RESOURCES = st.sampled_from(["a", "b", "a/x", "b/x", "a/y", "*/x", "*"])
URLS = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/*", "/*", "*", "/a*", "/b"])
STARRED = st.sampled_from(["a", "b", "c", "*"])


def lists(of: st.SearchStrategy[str], least: int = 1) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(of, min_size=least, max_size=3).map(tuple)


RESOURCE_RULES = st.builds(Rule, lists(STARRED), lists(STARRED), lists(RESOURCES), lists(WORDS, 0))
URL_RULES = st.builds(Rule, lists(STARRED), non_resource_urls=lists(URLS))
RULES = RESOURCE_RULES | URL_RULES
RESOURCE_REQUESTS = st.builds(
    Attributes,
    st.just(ALICE),
    WORDS,
    resource=st.sampled_from(["a", "b"]),
    subresource=st.sampled_from(["", "x", "y"]),
    api_group=WORDS,
    name=st.sampled_from(["", "a", "b"]),
)
URL_REQUESTS = st.builds(
    Attributes, st.just(ALICE), WORDS, path=st.sampled_from(["/", "/a", "/a/", "/a/b", "/ab", "/b"])
)
REQUESTS = RESOURCE_REQUESTS | URL_REQUESTS


def naive(rule: Rule, asked: Attributes) -> bool:
    """Return all combinations that a PolicyRule allows, by its documentation."""
    if not ({"*", asked.verb} & set(rule.verbs)):
        return False
    if asked.path:
        return any(
            url in ("*", asked.path) or (url.endswith("*") and asked.path.startswith(url[:-1]))
            for url in rule.non_resource_urls
        )
    if not ({"*", asked.api_group} & set(rule.api_groups)):
        return False
    spellings = (
        {"*", asked.resource}
        if not asked.subresource
        else {"*", f"{asked.resource}/{asked.subresource}", f"*/{asked.subresource}"}
    )
    if not (spellings & set(rule.resources)):
        return False
    return rule.resource_names == () or asked.name in rule.resource_names


@given(RULES, REQUESTS)
def test_a_rule_allows_what_its_documentation_says(rule: Rule, asked: Attributes) -> None:
    assert rule.allows(asked) == naive(rule, asked)


@given(st.lists(RULES, max_size=4), RULES, REQUESTS)
def test_covered_rules_grant_no_new_rights(owned: list[Rule], wanted: Rule, asked: Attributes) -> None:
    """A user with the rules `owned` may grant `wanted`, if `wanted` allows nothing more."""
    if not uncovered(owned, [wanted]) and wanted.allows(asked):
        assert any(rule.allows(asked) for rule in owned)


@given(st.lists(RULES, max_size=4))
def test_rules_cover_themselves(rules: list[Rule]) -> None:
    assert uncovered(rules, rules) == []


# -- deciding

SUBJECTS = st.lists(st.sampled_from(["User:alice", "User:bob", "Group:devs", "ServiceAccount:n1/robot"]), max_size=3)
GRANTS = st.lists(
    st.tuples(st.sampled_from(["", "n1", "n2"]), SUBJECTS, st.lists(RESOURCE_RULES, max_size=2)), max_size=4
)
USERS = st.sampled_from([ALICE, BOB, UserInfo("system:serviceaccount:n1:robot")])


@given(GRANTS, USERS, st.sampled_from(["", "n1", "n2"]), RESOURCE_REQUESTS, st.randoms())
def test_decisions_follow_every_change(
    grants: list[tuple[str, list[str], list[Rule]]], user: UserInfo, namespace: str, asked: Attributes, random: Any
) -> None:
    """Cluster bindings and bindings of the request's namespace count, after any series of changes."""
    source = FakeSource()
    authorizer = Authorizer(source)
    asked = Attributes(
        user, asked.verb, asked.resource, asked.subresource, asked.api_group, "v1", namespace, asked.name
    )
    mine = {f"User:{user.name}", *(f"Group:{group}" for group in user.groups)}
    if user.name.startswith("system:serviceaccount:"):
        mine = {"ServiceAccount:n1/robot"}
    live = dict(enumerate(grants))
    for number, (where, subjects, rules) in live.items():
        source.role(f"r{number}", *(rule.as_dict() for rule in rules), namespace=where)
        source.bind(f"b{number}", f"r{number}", *subjects, namespace=where)

    def wanted() -> bool:
        return any(
            where in ("", namespace) and mine & set(subjects) and any(naive(rule, asked) for rule in rules)
            for where, subjects, rules in live.values()
        )

    assert authorizer.decide(asked).allowed == wanted()
    for number in random.sample(sorted(live), len(live)):
        where, _, _ = live.pop(number)
        source.remove(
            f"{'rolebindings' if where else 'clusterrolebindings'}.rbac.authorization.k8s.io", where, f"b{number}"
        )
        assert authorizer.decide(asked).allowed == wanted()


def test_reasons_and_refusals(source: FakeSource) -> None:
    source.role("web-proxy", rule("get", "services/proxy", names="web web:http"), namespace="team-a")
    source.bind("alice-web-proxy", "web-proxy", "User:alice", namespace="team-a")
    source.bind("devs-edit", "edit", "Group:devs", namespace="team-b", kind="ClusterRole")
    source.bind("robot", "view", "ServiceAccount:ci/robot")
    authorizer = Authorizer(source)
    asked = Attributes(ALICE, "get", "services", "proxy", namespace="team-a", name="web")
    assert (
        authorizer.decide(asked).reason
        == 'RBAC: allowed by RoleBinding "alice-web-proxy/team-a" of Role "web-proxy" to User "alice"'
    )
    asked = Attributes(BOB, "get", "pods", namespace="team-b")
    assert (
        authorizer.decide(asked).reason
        == 'RBAC: allowed by RoleBinding "devs-edit/team-b" of ClusterRole "edit" to Group "devs"'
    )
    robot = UserInfo("system:serviceaccount:ci:robot", ())
    asked = Attributes(robot, "list", "pods", namespace="any")
    assert (
        authorizer.decide(asked).reason
        == 'RBAC: allowed by ClusterRoleBinding "robot" of ClusterRole "view" to ServiceAccount "robot/ci"'
    )

    def refused(user: UserInfo, **asked: str) -> dict[str, Any]:
        with pytest.raises(ApiError) as caught:
            authorizer.require(Attributes(user, **asked))
        return caught.value.status()

    found = refused(ANONYMOUS, verb="list", resource="namespaces")
    assert found["message"] == (
        'namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces" in API group "" at the cluster scope'
    )
    assert found["details"] == {"kind": "namespaces"}
    assert found["code"] == 403
    found = refused(BOB, verb="create", resource="roles", api_group="rbac.authorization.k8s.io", namespace="team-b")
    assert found["message"] == (
        'roles.rbac.authorization.k8s.io is forbidden: User "bob" cannot create resource "roles" '
        'in API group "rbac.authorization.k8s.io" in the namespace "team-b"'
    )
    assert refused(BOB, verb="get", path="/secret")["message"] == 'forbidden: User "bob" cannot get path "/secret"'


def test_a_binding_to_a_missing_role_is_named_in_the_error(source: FakeSource) -> None:
    source.bind("broken", "nope", "User:alice", namespace="n", kind="ClusterRole")
    authorizer = Authorizer(source)
    with pytest.raises(ApiError) as caught:
        authorizer.require(Attributes(ALICE, "get", "pods", namespace="n"))
    problem = 'in the namespace "n": RBAC: clusterrole.rbac.authorization.k8s.io "nope" not found'
    assert caught.value.message.endswith(problem)
    # When the role is created, the binding takes effect.
    source.role("nope", rule("get", "pods"))
    assert allowed(authorizer, ALICE, "get", "pods", "n")


def test_a_role_with_many_bindings_is_listed_once(source: FakeSource) -> None:
    source.role("reader", rule("get", "pods"))
    for number in range(20):
        source.bind(f"b{number}", "reader", "User:alice")
    rules, problems = Authorizer(source).rules_for(ALICE, "n")
    assert problems == ""
    assert rules.count(Rule.parse(rule("get", "pods"))) == 1


def test_default_roles(source: FakeSource) -> None:
    source.bind("ada", "admin", "User:alice", namespace="n", kind="ClusterRole")
    source.bind("viewer", "view", "User:bob", namespace="n", kind="ClusterRole")
    authorizer = Authorizer(source)
    node = UserInfo("system:node:node-1", ("system:nodes", "system:authenticated"))
    rbac_group = {"api_group": "rbac.authorization.k8s.io"}
    assert allowed(authorizer, ALICE, "create", "rolebindings", "n", **rbac_group)
    assert allowed(authorizer, ALICE, "create", "services/proxy", "n")
    assert not allowed(authorizer, ALICE, "create", "services/proxy", "other")
    assert not allowed(authorizer, ALICE, "get", "nodes/proxy")
    assert allowed(authorizer, BOB, "list", "pods", "n")
    assert not allowed(authorizer, BOB, "get", "secrets", "n")
    assert not allowed(authorizer, BOB, "get", "services/proxy", "n")
    assert allowed(authorizer, node, "patch", "pods/status", "n")
    proxy = UserInfo("system:kube-proxy", ("system:authenticated",))
    assert allowed(authorizer, proxy, "watch", "endpointslices", api_group="discovery.k8s.io")
    assert not allowed(authorizer, node, "watch", "endpointslices", api_group="discovery.k8s.io")
    assert not allowed(authorizer, node, "create", "rolebindings", "n", **rbac_group)
    assert allowed(authorizer, LOOPBACK_USER, "anything", "at-all")
    for path in ("/healthz", "/version", "/livez", "/readyz"):
        assert allowed(authorizer, ANONYMOUS, "get", path=path)
    assert not allowed(authorizer, ANONYMOUS, "get", path="/api")
    assert allowed(authorizer, ALICE, "get", path="/api")
    assert allowed(authorizer, ALICE, "get", path="/openapi/v3")
    assert not allowed(authorizer, ALICE, "get", path="/metrics")
    assert allowed(authorizer, ALICE, "create", "selfsubjectreviews", api_group="authentication.k8s.io")


def test_default_objects_are_valid_and_made_anew_at_each_call() -> None:
    objects = bootstrap_objects()
    names = [(resource, obj["metadata"]["name"]) for resource, obj in objects]
    assert len(set(names)) == len(names)
    roles = {name for resource, name in names if "roles" in resource}
    for _, obj in objects:
        assert obj["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
        if "roleRef" in obj:
            assert obj["roleRef"]["name"] in roles
        else:
            for found in obj["rules"]:
                assert found["verbs"]
                assert ("nonResourceURLs" in found) != ("resources" in found and "apiGroups" in found)
    objects[0][1]["rules"].clear()
    assert bootstrap_objects()[0][1]["rules"]


def test_aggregation_follows_labels_and_survives_cycles(source: FakeSource) -> None:
    source.bind("viewer", "view", "User:alice", namespace="n", kind="ClusterRole")
    authorizer = Authorizer(source)
    assert not allowed(authorizer, ALICE, "get", "widgets", "n")
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    source.role("widgets", rule("get", "widgets"), labels=label)
    assert allowed(authorizer, ALICE, "get", "widgets", "n")
    source.role("widgets", rule("get", "widgets"), labels={})
    assert not allowed(authorizer, ALICE, "get", "widgets", "n")
    selector = {"clusterRoleSelectors": [{"matchLabels": {"ring": "1"}}]}
    source.role("one", labels={"ring": "1"}, aggregationRule=selector)
    source.role("two", labels={"ring": "1"}, aggregationRule=selector)
    source.role("three", rule("get", "rings"), labels={"ring": "1"})
    source.bind("ring", "one", "User:alice")
    assert allowed(authorizer, ALICE, "get", "rings")


@pytest.mark.parametrize(
    ("operator", "values", "labels", "wanted"),
    [
        ("In", ["a"], {"k": "a"}, True),
        ("In", ["a"], {}, False),
        ("NotIn", ["a"], {"k": "a"}, False),
        ("NotIn", ["a"], {}, True),
        ("Exists", [], {"k": ""}, True),
        ("Exists", [], {}, False),
        ("DoesNotExist", [], {}, True),
        ("DoesNotExist", [], {"k": ""}, False),
        ("Nonsense", [], {"k": ""}, False),
    ],
)
def test_label_selectors(operator: str, values: list[str], labels: dict[str, str], wanted: bool) -> None:
    selector = {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    assert selects(selector, labels) == wanted


def test_the_number_of_cached_decisions_is_limited(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    for number in range(20_000):
        authorizer.decide(Attributes(ALICE, "get", path=f"/{number}"))
    assert len(authorizer._decisions) <= 8192


def test_close_ends_the_subscriptions(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    authorizer.close()
    assert not any(source.callbacks.values())


# -- escalation

ROLE = {"metadata": {"name": "esc", "namespace": "n"}, "rules": [rule("get list", "secrets pods")]}


def test_users_cannot_grant_rights_that_they_do_not_have(source: FakeSource) -> None:
    source.role("some", rule("get list", "pods"), rule("create", "roles", "rbac.authorization.k8s.io"), namespace="n")
    source.bind("some", "some", "User:alice", namespace="n")
    authorizer = Authorizer(source)
    with pytest.raises(ApiError) as caught:
        check_escalation(authorizer, ALICE, "roles", "n", ROLE)
    assert caught.value.message == (
        'roles.rbac.authorization.k8s.io "esc" is forbidden: user "alice" (groups=["system:authenticated"]) is attempting '
        'to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
    )
    # Users may grant the rights that they have.
    check_escalation(authorizer, ALICE, "roles", "n", {"metadata": {"name": "x"}, "rules": [rule("get", "pods")]})
    # Members of system:masters and users with the verb `escalate` are not restricted.
    check_escalation(authorizer, LOOPBACK_USER, "roles", "n", ROLE)
    source.role("free", rule("escalate", "roles", "rbac.authorization.k8s.io", names="esc"), namespace="n")
    source.bind("free", "free", "User:alice", namespace="n")
    check_escalation(authorizer, ALICE, "roles", "n", ROLE, {**ROLE, "rules": []})
    # A right that is limited to names does not apply to create, because the request has no name yet.
    with pytest.raises(ApiError):
        check_escalation(authorizer, ALICE, "roles", "n", ROLE)


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "cluster-admin", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        {"name": "cluster-admin", "labels": {}},
        {"name": "cluster-admin", "annotations": {"a": "b"}},
    ],
)
def test_every_change_of_a_role_needs_its_rights(source: FakeSource, metadata: dict[str, Any]) -> None:
    """A change of labels needs them, too: labels decide to which aggregated roles the rules are added."""
    authorizer = Authorizer(source)
    old = source.objects["clusterroles.rbac.authorization.k8s.io"]["", "cluster-admin"]
    with pytest.raises(ApiError) as caught:
        check_escalation(authorizer, ALICE, "clusterroles", "", {**old, "metadata": metadata}, old)
    assert caught.value.code == 403
    # The garbage collector's changes grant no rights.
    collected = {**old["metadata"], "finalizers": ["a/b"], "ownerReferences": [{"uid": "x"}], "resourceVersion": "7"}
    check_escalation(authorizer, ALICE, "clusterroles", "", {**old, "metadata": collected}, old)


def test_aggregation_rules_need_all_rights(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    role = {"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    plain = {"metadata": {"name": "all"}}
    for new, old in ((role, None), (role, plain), (plain, role)):
        with pytest.raises(ApiError, match="must have cluster-admin privileges to use the aggregationRule"):
            check_escalation(authorizer, ALICE, "clusterroles", "", new, old)
    source.bind("root", "cluster-admin", "User:alice")
    check_escalation(authorizer, ALICE, "clusterroles", "", role)


def test_the_work_of_a_check_does_not_grow_with_the_product_of_lists(source: FakeSource) -> None:
    source.role("some", rule("get list", "pods"))
    source.bind("some", "some", "User:alice")
    authorizer = Authorizer(source)
    values = [f"v{number}" for number in range(2000)]
    huge = {"apiGroups": values, "resources": values, "verbs": values, "resourceNames": values}
    role = {"metadata": {"name": "huge"}, "rules": [huge]}
    with pytest.raises(ApiError, match="not currently held") as caught:
        check_escalation(authorizer, ALICE, "clusterroles", "", role)
    assert len(caught.value.message) < 200_000
    source.bind("root", "cluster-admin", "User:alice")
    check_escalation(authorizer, ALICE, "clusterroles", "", role)


def binding(role: str, kind: str = "ClusterRole", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "rb", "namespace": "n"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": "eve"}],
        **more,
    }


def test_binding_a_role_needs_its_rights_or_bind(source: FakeSource) -> None:
    source.bind("editor", "edit", "User:alice", namespace="n", kind="ClusterRole")
    authorizer = Authorizer(source)
    check_escalation(authorizer, ALICE, "rolebindings", "n", binding("view"))
    with pytest.raises(ApiError) as caught:
        check_escalation(authorizer, ALICE, "rolebindings", "n", binding("cluster-admin"))
    assert caught.value.code == 403
    with pytest.raises(ApiError) as caught:
        check_escalation(authorizer, ALICE, "rolebindings", "n", binding("nope", "Role"))
    assert caught.value.message == 'roles.rbac.authorization.k8s.io "nope" not found'
    with pytest.raises(ApiError):
        check_escalation(authorizer, ALICE, "clusterrolebindings", "", binding("view"))
    source.role(
        "binder", rule("bind", "clusterroles", "rbac.authorization.k8s.io", names="cluster-admin"), namespace="n"
    )
    source.bind("binder", "binder", "User:alice", namespace="n")
    check_escalation(authorizer, ALICE, "rolebindings", "n", binding("cluster-admin"))
    old = binding("admin")
    finalized = {**old, "metadata": {**old["metadata"], "finalizers": ["a/b"]}}
    check_escalation(authorizer, ALICE, "rolebindings", "n", finalized, old)
    for change in (
        {"subjects": [{"kind": "User", "name": "alice"}]},
        {"metadata": {"name": "rb", "labels": {"x": "y"}}},
    ):
        with pytest.raises(ApiError):
            check_escalation(authorizer, ALICE, "rolebindings", "n", {**old, **change}, old)
