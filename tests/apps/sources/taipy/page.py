import sys

from taipy.gui import Gui

count = 0


def press(state):
    state.count += 1


page = "<|Press|button|on_action=press|>\n\n<|pressed {count} times|text|>"
Gui(page).run(host=sys.argv[1], port=int(sys.argv[2]), run_browser=False, use_reloader=False)
