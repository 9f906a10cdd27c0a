from airflow.sdk import dag, task


@dag(dag_id="hello", schedule=None)
def hello():
    @task
    def say():
        print("hello")

    say()


hello()
