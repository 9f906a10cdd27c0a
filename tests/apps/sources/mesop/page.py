import mesop
from mesop import create_wsgi_app


@mesop.stateclass
class State:
    count: int


def press(_: mesop.ClickEvent):
    mesop.state(State).count += 1


@mesop.page(path="/")
def page():
    mesop.button(f"pressed {mesop.state(State).count} times", on_click=press)


wsgi = create_wsgi_app()
