from locust import HttpUser, constant, task


class User(HttpUser):
    wait_time = constant(0.2)

    @task
    def ask(self):
        self.client.get("/answer")
