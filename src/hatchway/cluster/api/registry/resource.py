"""The row of the registry: everything that the server knows about one resource type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hatchway.cluster.api.connect.handler import Connect
from hatchway.cluster.api.registry.conversion import ObjectConversion
from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.custom.scaling import ScalePaths
from hatchway.cluster.api.registry.printers.base import NAME_ONLY, Printer
from hatchway.cluster.api.registry.schema.typeschema import TypeSchema, builtin_schema
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.work import HEAVY
from hatchway.cluster.auth.user import UserInfo
from hatchway.kube.api import Object

__all__ = ["CRUD", "Resource", "Subresource", "VirtualCreate"]

# A function that answers POST requests for a type or subresource whose objects are computed and not stored (reviews,
# tokens). Arguments: user, namespace, name ("" except for subresources), object.
VirtualCreate = Callable[[UserInfo, str, str, Object], Awaitable[Object]]

CRUD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

# Checking an object of a custom type takes this many times as long as checking a built-in object of the same size.
_CUSTOM_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource, such as `pods/log`.

    verbs: Kubernetes' verbs.
    kind, group, version: the type of the object that the subresource takes or returns; "" means the parent's.
    connect: the handler and rules of a subresource that connects to something (`exec`). None for other subresources,
        whose verbs are in `operations/subresources.py`.
    scale: the paths of the fields that `scale` shows, for a custom type; None for built-in types.
    """

    name: str
    verbs: tuple[str, ...]
    kind: str = ""
    group: str = ""
    version: str = ""
    connect: Connect | None = None
    scale: ScalePaths | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """One served type.

    plural, singular, kind: its names.
    verbs: Kubernetes' verbs.
    strategy: its special rules.
    printer: its table in `kubectl get`.
    storage: the group-resource under which its objects are stored; "" means the type's own. When two groups serve a
        type, one group stores the objects; in the other group's row, `to_storage` and `from_storage` convert them.
        The strategy gets objects in the stored form.
    conversion: how the objects of a custom type are read and stored; None when they are stored as they are served.
        The strategy gets objects in the row's version.
    list_kind: the kind of its lists; "" means the kind with `List` appended.
    own_schema: the schema of a custom type; None for a built-in type, whose schema is in the table.
    """

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = CRUD
    subresources: tuple[Subresource, ...] = ()
    strategy: Strategy = field(default_factory=Strategy)
    printer: Printer = NAME_ONLY
    storage: str = ""
    to_storage: Callable[[Object], Object] | None = None
    from_storage: Callable[[Object], Object] | None = None
    conversion: ObjectConversion | None = None
    list_kind: str = ""
    own_schema: CustomSchema | None = None

    @property
    def schema(self) -> TypeSchema:
        """Return the schema of the type's objects."""
        return self.own_schema or builtin_schema(self.gvk)

    @property
    def weight(self) -> int:
        """Return the size (bytes of JSON) that a small object counts as: above 0 for types whose checks take long."""
        if self.strategy.is_costly:
            return HEAVY
        return self.own_schema.weight if self.own_schema is not None else 0

    def weight_of(self, size: int) -> int:
        """Return the size (bytes of JSON) that an object counts as. For a large size, `work.run_sized` uses a thread.

        size: the object's bytes of JSON, 0 for a small object.
        """
        return max(size * _CUSTOM_FACTOR if self.own_schema is not None else size, self.weight)

    @property
    def listed_as(self) -> str:
        """Return the kind of the type's lists."""
        return self.list_kind or f"{self.kind}List"

    @property
    def api_version(self) -> str:
        """Return the group and version as objects write it: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """Return the resource as clients and error messages spell it: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def gvk(self) -> tuple[str, str, str]:
        """Return group, version and kind."""
        return self.group, self.version, self.kind

    @property
    def stored_as(self) -> str:
        """Return the group-resource under which the store keeps its objects."""
        return self.storage or self.group_resource

    @property
    def virtual(self) -> bool:
        """Return True for a type whose objects are not stored: they are computed for each request."""
        return "watch" not in self.verbs

    def subresource(self, name: str) -> Subresource | None:
        """Return the subresource with this name, or None."""
        return next((one for one in self.subresources if one.name == name), None)

    def subresource_gvk(self, subresource: Subresource) -> tuple[str, str, str]:
        """Return group, version and kind of the object that a subresource takes or returns."""
        return subresource.group or self.group, subresource.version or self.version, subresource.kind or self.kind
