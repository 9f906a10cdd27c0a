"""A scene with a button: `app.py ADDRESS PORT`."""

import sys
import threading

import viser

server = viser.ViserServer(host=sys.argv[1], port=int(sys.argv[2]))
server.scene.add_box("/box", dimensions=(1, 1, 1), color=(255, 0, 0))
answer = server.gui.add_text("Answer", initial_value="none")


@server.gui.add_button("Compute").on_click
def compute(_event):
    answer.value = str(6 * 7)


threading.Event().wait()
