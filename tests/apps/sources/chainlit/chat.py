import chainlit


@chainlit.on_message
async def answer(message):
    await chainlit.Message(f"You said: {message.content}").send()
