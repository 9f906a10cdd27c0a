"""A counter: `app.py ADDRESS PORT`."""

import sys

import remi.gui as gui
from remi import App, start


class Counter(App):
    def main(self, name=""):
        self.count = 0
        self.label = gui.Label("pressed 0 times")
        button = gui.Button("press")
        button.onclick.do(self.pressed)
        return gui.VBox(children=[self.label, button])

    def pressed(self, _widget):
        self.count += 1
        self.label.set_text(f"pressed {self.count} times")


address, port = sys.argv[1:]
start(
    Counter,
    address=address,
    port=int(port),
    start_browser=False,
    multiple_instance=True,
    username="ada",
    password="lovelace",
)
