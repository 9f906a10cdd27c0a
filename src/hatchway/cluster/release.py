"""The release of Kubernetes whose API the embedded cluster serves (the schema tables are made from it)."""

from __future__ import annotations

import hatchway

KUBERNETES_MAJOR, KUBERNETES_MINOR = "1", "37"
GIT_VERSION = f"v{KUBERNETES_MAJOR}.{KUBERNETES_MINOR}.0+hatchway.{hatchway.__version__}"
