import panel

panel.extension()
button = panel.widgets.Button(name="Press")
panel.Column(button, panel.bind(lambda clicks: f"pressed {clicks} times", button.param.clicks)).servable()
