import sys

from pywebio import start_server
from pywebio.input import input
from pywebio.output import put_text


def main() -> None:
    put_text(f"Hello, {input('name')}!")


host, port = sys.argv[1:]
start_server(main, host=host, port=int(port), cdn=False)
