import sys

import flet as ft


def main(page: ft.Page) -> None:
    text = ft.Text("pressed 0 times")

    def pressed(event: object) -> None:
        text.value = f"pressed {int(text.value.split()[1]) + 1} times"
        page.update()

    page.add(text, ft.Button("press", on_click=pressed))


host, port = sys.argv[1:]
ft.run(main, host=host, port=int(port), view=None)
