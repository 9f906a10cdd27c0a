import sys
from pathlib import Path

from traitlets.config import get_config

c = get_config()

modules = Path("node_modules").resolve()
c.ConfigurableHTTPProxy.command = ["node", str(modules / "configurable-http-proxy/bin/configurable-http-proxy")]
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "lovelace"
c.Authenticator.allow_all = True
c.JupyterHub.hub_ip = "127.0.0.1"
c.Spawner.cmd = [str(Path(sys.executable).parent / "jupyterhub-singleuser")]
c.Spawner.args = [
    "--allow-root",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
]
c.Spawner.environment = {"SHELL": "/bin/sh"}
