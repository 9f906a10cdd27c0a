import time

import gradio


def count():
    for step in range(1, 4):
        yield f"step {step}"
        time.sleep(0.1)


with gradio.Blocks() as page:
    name = gradio.Textbox(label="name")
    hello = gradio.Textbox(label="hello")
    gradio.Button("Submit").click(lambda text: f"Hello, {text}!", name, hello)
    steps = gradio.Textbox(label="steps")
    gradio.Button("Count").click(count, None, steps)

page.queue().launch()
