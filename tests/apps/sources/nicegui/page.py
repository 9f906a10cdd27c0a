import sys

from nicegui import ui


@ui.page("/")
def page():
    count = ui.label("pressed 0 times")
    pressed = []

    def press():
        pressed.append(1)
        count.set_text(f"pressed {len(pressed)} times")

    ui.button("Press", on_click=press)
    hello = ui.label()
    ui.input("Name", on_change=lambda event: hello.set_text(f"Hello, {event.value}!"))


ui.run(host=sys.argv[1], port=int(sys.argv[2]), show=False, reload=False)
