import builtins
import os
import runpy
import sys

import pgadmin4

home = next(iter(pgadmin4.__path__))
sys.path.insert(0, home)
import config  # noqa: E402

config.DATA_DIR = os.environ["WORK"] + "/data"
config.SQLITE_PATH = config.DATA_DIR + "/pgadmin4.db"
config.SESSION_DB_PATH = config.DATA_DIR + "/sessions"
config.STORAGE_DIR = config.DATA_DIR + "/storage"
config.AZURE_CREDENTIAL_CACHE_DIR = config.DATA_DIR + "/azure"
config.KERBEROS_CCACHE_DIR = config.DATA_DIR + "/kerberos"
config.LOG_FILE = config.DATA_DIR + "/pgadmin4.log"
config.SERVER_MODE = False
config.MASTER_PASSWORD_REQUIRED = False
config.UPGRADE_CHECK_ENABLED = False
config.DEFAULT_SERVER = sys.argv[1]
config.DEFAULT_SERVER_PORT = int(sys.argv[2])
builtins.SERVER_MODE = False
os.makedirs(config.DATA_DIR, exist_ok=True)
os.chdir(home)
sys.argv = ["pgAdmin4.py"]
runpy.run_path("pgAdmin4.py", run_name="__main__")
