from umbel import Umbel

app = Umbel("tasks")


@app.task
def add(x: int, y: int) -> int:
    return x + y


if __name__ == "__main__":
    print(add.delay(2, 2).get(timeout=10))
