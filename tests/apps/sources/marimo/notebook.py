import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    mo.md(f"six times seven is {6 * 7}")
    return


if __name__ == "__main__":
    app.run()
