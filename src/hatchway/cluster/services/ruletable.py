"""The rules of all Services and host ports. They are kept up to date with changes in the API. Pure."""

from __future__ import annotations

from collections.abc import Callable

from hatchway.cluster.services.endpointpools import ParsedSlice, parse_slice
from hatchway.cluster.services.servicerules import POD, Frontend, MadeRules, RuleMaker, ServiceRule, Size
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of
from hatchway.kube.wellknown import SERVICE_NAME

# The largest size of the rules of one namespace: Services and host ports together.
MOST = Size(4096, 100_000)
# The maximum work of one call of `take_changes`, in addresses and references to addresses. It takes a few milliseconds.
_WORK = 5000

Age = tuple[str, str, str]


class RuleTable:
    """The rules of all Services, kept up to date.

    The cost of a change depends only on the changed Service, not on the number of Services. When two Services claim the
    same frontend, the older Service gets it. But a frontend that the cluster has assigned to a Service is never given
    to an external address, because any Service may claim any external address. When a namespace has more ports or
    endpoints than `most`, some ports of its newest Services get no rules until there is room.

    Args:
        maker: makes the rules of one Service.
        most: the largest size of the rules of one namespace.
        on_cut: called with a Service's key and the number of its frontends without rules, when this number changes.
    """

    def __init__(
        self,
        maker: RuleMaker,
        *,
        most: Size = MOST,
        on_cut: Callable[[Key, int], None] = lambda key, count: None,
    ) -> None:
        self._maker = maker
        self._most = most
        self._on_cut = on_cut
        # By namespace: the size of all rules, and the numbers of frontends without rules by their Service.
        self._taken: dict[str, Size] = {}
        self._cut: dict[str, dict[Key, int]] = {}
        self._services: dict[Key, Object] = {}
        # The slices of each Service, by their names; and the Service of each slice.
        self._slices: dict[Key, dict[str, ParsedSlice]] = {}
        self._owners: dict[Key, Key] = {}
        # The rules of each Service; all rules of each frontend (`_precedence` chooses one of them).
        self._own: dict[Key, MadeRules] = {}
        self._claims: dict[Frontend, dict[Key, tuple[Age, ServiceRule]]] = {}
        self._changed: set[Key] = set()
        # The namespaces with changes since the last call of `take_changes`.
        self._changed_namespaces: set[str] = set()

    def service_changed(self, kind: str, service: Object) -> None:
        """Apply an informer's event about a Service. kind: ADDED, MODIFIED or DELETED."""
        self._object_changed(kind, key_of(service), service)

    def pod_changed(self, kind: str, pod: Object) -> None:
        """Apply an informer's event about a pod, which may have host ports."""
        namespace, name = key_of(pod)
        key = namespace, POD + name
        has_ports = any(
            port.get("hostPort") for c in pod["spec"].get("containers") or () for port in c.get("ports") or ()
        )
        if has_ports or key in self._services:
            self._object_changed(kind, key, pod)

    def _object_changed(self, kind: str, key: Key, obj: Object) -> None:
        if kind == "DELETED":
            self._services.pop(key, None)
        else:
            self._services[key] = obj
        self._note(key)

    def slice_changed(self, kind: str, found: Object) -> None:
        """Apply an informer's event about an EndpointSlice."""
        key = namespace, name = key_of(found)
        before = self._owners.pop(key, None)
        if before is not None:
            self._note(before)
            others = self._slices[before]
            others.pop(name, None)
            if not others:
                del self._slices[before]
        owner = (found["metadata"].get("labels") or {}).get(SERVICE_NAME)
        if kind != "DELETED" and owner and found.get("addressType", "IPv4") == "IPv4":
            self._owners[key] = namespace, owner
            others = self._slices.setdefault((namespace, owner), {})
            others[name] = parse_slice(found, next(iter(others.values()), None))
            self._note((namespace, owner))

    def _note(self, key: Key) -> None:
        self._changed.add(key)
        self._changed_namespaces.add(key[0])

    @property
    def has_changes(self) -> bool:
        """Return True while there are changes for `take_changes`."""
        return bool(self._changed)

    def take_changes(self, work: int = _WORK) -> dict[Frontend, ServiceRule | None]:
        """Apply recorded changes; return the frontends whose rules may have changed.

        work: the call ends after this much work, so that it does not block the event loop. If changes are left,
            `has_changes` remains True.

        Returns:
            The current rule of each of these frontends; None for a frontend without a rule.
        """
        touched: set[Frontend] = set()
        # Try again the Services that lack rules, because the changes may have made room.
        self._changed.update(*(self._cut.get(namespace, ()) for namespace in self._changed_namespaces))
        self._changed_namespaces.clear()
        # The oldest Services get room first.
        for key in sorted(self._changed, key=self._order):
            self._changed.discard(key)
            before = self._take_out(key)
            for frontend in before:
                claims = self._claims[frontend]
                del claims[key]
                if not claims:
                    del self._claims[frontend]
            touched |= before.keys()
            service = self._services.get(key)
            if service is not None:
                age = _age(service)
                own = self._put_in(key, service)
                for frontend, rule in own.rules.items():
                    self._claims.setdefault(frontend, {})[key] = age, rule
                touched |= own.rules.keys()
                work -= own.work + len(own.rules)
            work -= 1 + len(before)
            if work <= 0:
                break
        return {frontend: self._rule(frontend) for frontend in touched}

    def _order(self, key: Key) -> Age:
        service = self._services.get(key)
        # Deleted Services come first, because they make room.
        return _age(service) if service is not None else ("", *key)

    def _take_out(self, key: Key) -> dict[Frontend, ServiceRule]:
        """Remove the rules of a Service, and return them."""
        if key not in self._services and key in (cut := self._cut.get(key[0], {})):
            del cut[key]
        before = self._own.pop(key, None)
        if before is None:
            return {}
        taken = self._taken.pop(key[0])
        left = Size(taken.frontends - before.size.frontends, taken.entries - before.size.entries)
        if left.frontends:
            self._taken[key[0]] = left
        return before.rules

    def _put_in(self, key: Key, service: Object) -> MadeRules:
        """Make the rules of a Service, as far as there is room for them, and return them."""
        taken = self._taken.get(key[0], Size(0, 0))
        room = Size(self._most.frontends - taken.frontends, self._most.entries - taken.entries)
        if key[1].startswith(POD):
            made = self._of_pod(service, room)
        else:
            made = self._maker.of_service(service, self._slices.get(key, {}).values(), room)
        if made.rules:
            self._own[key] = made
            self._taken[key[0]] = Size(taken.frontends + made.size.frontends, taken.entries + made.size.entries)
        self._note_cut(key, made.cut)
        return made

    def _of_pod(self, pod: Object, room: Size) -> MadeRules:
        rules = self._maker.of_pod(pod)
        if len(rules) > min(room):
            return MadeRules({}, cut=len(rules))
        return MadeRules(rules, Size(len(rules), len(rules)))

    def _note_cut(self, key: Key, count: int) -> None:
        known = self._cut.setdefault(key[0], {})
        if known.get(key, 0) != count:
            self._on_cut(key, count)
        if count:
            known[key] = count
        else:
            known.pop(key, None)
            if not known:
                del self._cut[key[0]]

    def _rule(self, frontend: Frontend) -> ServiceRule | None:
        claims = self._claims.get(frontend)
        return min(claims.values(), key=_precedence)[1] if claims else None


def _precedence(claim: tuple[Age, ServiceRule]) -> tuple[bool, Age]:
    age, rule = claim
    return rule.place == "external", age


def _age(service: Object) -> Age:
    metadata = service["metadata"]
    return metadata.get("creationTimestamp") or "", metadata.get("namespace", ""), metadata["name"]
