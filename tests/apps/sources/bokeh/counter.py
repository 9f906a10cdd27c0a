from bokeh.io import curdoc
from bokeh.layouts import column
from bokeh.models import Button
from bokeh.plotting import figure

button = Button(label="pressed 0 times")
count = 0


def press():
    global count
    count += 1
    button.label = f"pressed {count} times"


button.on_click(press)
plot = figure(height=200)
plot.line([1, 2], [3, 4])
curdoc().add_root(column(button, plot))
