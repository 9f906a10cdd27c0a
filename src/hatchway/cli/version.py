"""`hatchway version`: the versions of Hatchway, of the Kubernetes API that it serves, and of Python."""

from __future__ import annotations

import platform

import click

from hatchway import __version__
from hatchway.cli import options
from hatchway.cli.printing import print_data


@click.command(
    short_help="Print versions.",
    epilog=options.examples("""
    hatchway version
    hatchway version -o json
    """),
)
@options.output("text", "name", "json", "yaml")
def version(output: str) -> None:
    """Print the version of Hatchway, of the Kubernetes API that its embedded cluster serves, and of Python."""
    from hatchway.cluster.release import GIT_VERSION

    found = {
        "hatchway": __version__,
        "kubernetesAPI": GIT_VERSION,
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }
    if output == "name":
        print(__version__)
    elif output == "text":
        print(f"hatchway {__version__}")
        print(f"  Kubernetes API  {found['kubernetesAPI']} (embedded cluster)")
        print(f"  Python          {found['python']}")
        print(f"  platform        {found['platform']}")
    else:
        print_data(found, output)
