from dagster import Definitions, asset


@asset
def answer():
    return 42


definitions = Definitions(assets=[answer])
