from shiny import App, render, ui


def server(input, output, session):
    @render.text
    def hello():
        return f"Hello, {input.name()}!"


app = App(ui.page_fluid(ui.input_text("name", "Name"), ui.output_text("hello")), server)
