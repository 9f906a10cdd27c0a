import sys

from dash import Dash, Input, Output, dcc, html

app = Dash()
app.layout = html.Div(
    [
        dcc.Location(id="url"),
        dcc.Input(id="name"),
        html.P(id="hello"),
        html.P(id="where"),
        dcc.Link("second", href="/second"),
        dcc.Graph(figure={"data": [{"x": [1, 2], "y": [3, 4]}]}),
    ]
)


@app.callback(Output("hello", "children"), Input("name", "value"))
def hello(name):
    return f"Hello, {name}!"


@app.callback(Output("where", "children"), Input("url", "pathname"))
def where(path):
    return f"This is {path}"


app.run(host=sys.argv[1], port=int(sys.argv[2]))
