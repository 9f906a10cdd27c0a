import solara

count = solara.reactive(0)


@solara.component
def Page():
    solara.Button(f"pressed {count.value} times", on_click=lambda: count.set(count.value + 1))
