"""The rules of custom objects (apiextensions-apiserver `pkg/registry/customresource`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.custom.embedded import embedded_errors
from hatchway.cluster.api.registry.custom.jsonpath import JSONPath
from hatchway.cluster.api.registry.custom.listkinds import repeated_items
from hatchway.cluster.api.registry.custom.node import MISSING
from hatchway.cluster.api.registry.custom.samevalue import same_value
from hatchway.cluster.api.registry.custom.scaling import ScalePaths
from hatchway.cluster.api.registry.custom.valuecheck import BLOCKING, check_value
from hatchway.cluster.api.registry.strategies.base import FieldReader, Strategy, WriteContext, keep
from hatchway.errors import ApiError, Cause
from hatchway.kube.api import Object

__all__ = ["CustomStrategy"]

_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)
_STANDARD_FINALIZERS = frozenset(("orphan", "foregroundDeletion", "kubernetes"))


class CustomStrategy(Strategy):
    """The rules of one version of a custom type.

    Args:
        schema: its schema.
        has_status: the type has the subresource `status`, which alone may change the status.
        scale: the paths of the fields of its Scale; None if it has no Scale.
        selectable: the paths of its selectable fields.
        deprecation: the warning that every client of the version gets; "" for none.
        is_ending: the definition is being deleted. Objects cannot be created then.
    """

    generation = True
    unconditional_update = False
    qualifies_finalizers = False

    def __init__(
        self,
        schema: CustomSchema,
        *,
        has_status: bool,
        scale: ScalePaths | None,
        selectable: Sequence[str] = (),
        deprecation: str = "",
        is_ending: bool = False,
    ) -> None:
        self._schema = schema
        self._has_status = has_status
        self._scale = scale
        self._is_ending = is_ending
        # The object that `validate` checked last, and the warnings about its unchanged values that break rules.
        self._unchanged: tuple[Object | None, list[str]] = (None, [])
        self.deprecation = deprecation
        self.selectable: Mapping[str, FieldReader] = MappingProxyType(
            {path.removeprefix("."): _reader(path) for path in selectable}
        )

    def has_status(self, obj: Object) -> bool:
        """Return True when the type has the subresource `status`."""
        return self._has_status

    def admit(self, ctx: WriteContext, obj: Object, old: Object | None) -> None:
        """Refuse new objects while the definition is being deleted. Raises ApiError 405."""
        if old is None and self._is_ending:
            message = "create not allowed while custom resource definition is terminating"
            raise ApiError(405, "MethodNotAllowed", message, {"group": ctx.group, "kind": ctx.plural})

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the status, if the type has the subresource `status`."""
        if self._has_status:
            keep(obj, old, "status")

    def prepare_status(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Undo all changes outside of the status."""
        for key in set(obj) | set(old):
            if key != "status":
                keep(obj, old, key)

    def changed(self, obj: Object, old: Object) -> bool:
        """Return True when anything except metadata has changed."""
        return any(not same_value(obj.get(key), old.get(key)) for key in set(obj) | set(old) if key != "metadata")

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the values, the Scale's fields, the embedded objects and the lists of an object."""
        causes = check_value(obj, self._schema.node, "")
        if self._scale is not None:
            causes += self._scale.errors(obj, spec=True)
        causes += embedded_errors(obj, self._schema.node) + repeated_items(obj, self._schema.node)
        return causes + self._broken_rules(causes, obj, None)

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in an update. Unchanged values are not checked against the schema."""
        causes = check_value(obj, self._schema.node, "", old)
        if self._scale is not None:
            causes += self._scale.errors(obj, spec=True)
        causes += embedded_errors(obj, self._schema.node) + self._new_repetitions(obj, old)
        return causes + self._broken_rules(causes, obj, old)

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a changed status."""
        causes: list[Cause] = []
        node = self._schema.node.properties.get("status")
        if node is not None and "status" in obj:
            causes += check_value(obj["status"], node, "status", old.get("status", MISSING))
        if self._scale is not None:
            causes += self._scale.errors(obj, spec=False)
        causes += self._new_repetitions(obj, old)
        return causes + self._broken_rules(causes, obj, old)

    def _broken_rules(self, causes: list[Cause], obj: Object, old: Object | None) -> list[Cause]:
        """Return the errors of the type's rules. causes: all other errors; after some errors, rules are not run."""
        rules = self._schema.rules()
        if rules is None:
            return []
        if any(one.reason in BLOCKING for one in causes):
            return [v.invalid("<nil>", None, _NOT_CHECKED)]
        found, warnings = rules.errors(obj, old)
        # Writes of types with rules are checked one after the other on one thread. No other write can therefore come
        # between the calls of `validate` and `warnings`.
        self._unchanged = (obj, warnings)
        return found

    def _new_repetitions(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors about duplicate items; [] when the stored object also has duplicate items."""
        found = repeated_items(obj, self._schema.node)
        return found if found and not repeated_items(old, self._schema.node) else []

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return warnings about new finalizers whose names may collide, and about unchanged values that break rules."""
        before = set((old or {}).get("metadata", {}).get("finalizers") or ())
        judged, found = self._unchanged
        self._unchanged = (None, [])
        if judged is not obj:
            found = []
        for name in sorted(set(obj["metadata"].get("finalizers") or ()) - before):
            at = f"metadata.finalizers: {v.quote(name)}"
            found += [f"{at}: {message}" for message in v.qualified_name(name)]
            if "/" not in name and name not in _STANDARD_FINALIZERS:
                path = " including a path (/)" if "." in name else ""
                found.append(
                    f"{at}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other "
                    "finalizer writers"
                )
        return found


def _reader(path: str) -> FieldReader:
    found = JSONPath(path)

    def read(obj: Object) -> str:
        value = found.first(obj)
        if value is None:
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)

    return read
