"""A typical operator with the `kubernetes` client. Arguments: its name, and its namespace.

Only the process that holds the Lease works. It lists and watches Greetings. Each Greeting gets a finalizer, a status,
and a ConfigMap that the Greeting owns. It prints one line for each step.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

GROUP, VERSION, PLURAL, FINALIZER = "greeter.example.com", "v1", "greetings", "greeter.example.com/forget"

identity, namespace = sys.argv[1:]
config.load_kube_config()
core, custom = client.CoreV1Api(), client.CustomObjectsApi()


def say(*words: object) -> None:
    print(*words, flush=True)


def reconcile(greeting: Any) -> None:
    metadata = greeting["metadata"]
    name, finalizers = metadata["name"], metadata.get("finalizers", [])
    where = (GROUP, VERSION, namespace, PLURAL, name)
    if "deletionTimestamp" in metadata:
        if FINALIZER in finalizers:
            core.delete_namespaced_config_map(f"{name}-outside", namespace)
            rest = [one for one in finalizers if one != FINALIZER]
            custom.patch_namespaced_custom_object(*where, {"metadata": {"finalizers": rest}})
            say("forgot", name)
        return
    if FINALIZER not in finalizers:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-outside"}})
        custom.patch_namespaced_custom_object(*where, {"metadata": {"finalizers": [*finalizers, FINALIZER]}})
        return
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Greeting",
        "name": name,
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    child = {
        "metadata": {"name": name, "ownerReferences": [owner]},
        "data": {"text": f"hello {greeting['spec']['to']}"},
    }
    try:
        core.create_namespaced_config_map(namespace, child)
    except ApiException as error:
        if error.status != 409:
            raise
        core.replace_namespaced_config_map(name, namespace, child)
    if greeting.get("status", {}).get("observedGeneration") != metadata["generation"]:
        status = {"observedGeneration": metadata["generation"], "by": identity}
        custom.patch_namespaced_custom_object_status(*where, {"status": status})
        say("greeted", name, greeting["spec"]["to"])


def work() -> None:
    listed: Any = custom.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)
    for one in listed["items"]:
        reconcile(one)
    version = listed["metadata"]["resourceVersion"]
    while True:
        stream = watch.Watch().stream(
            custom.list_namespaced_custom_object,
            *(GROUP, VERSION, namespace, PLURAL),
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=3,
        )
        for event in stream:
            version = event["raw_object"]["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                say("bookmark", version)
            elif event["type"] != "DELETED":
                reconcile(event["raw_object"])


def lead() -> None:
    say("leads")
    try:
        work()
    except Exception as error:  # noqa: BLE001  after any error, this process must not continue as the leader
        say("failed", repr(error))
        os._exit(1)


lock = LeaseLock("greeter", namespace, identity)
election = electionconfig.Config(
    lock,
    lease_duration=4,
    renew_deadline=3,
    retry_period=1,
    onstarted_leading=lambda: threading.Thread(target=lead, daemon=True).start(),
    onstopped_leading=lambda: os._exit(2),
)
leaderelection.LeaderElection(election).run()
