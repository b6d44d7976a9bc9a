"""Two workers take numbers from one queue and put their squares into another."""

import queue
import threading


def work(tasks, results):
    while True:
        number = tasks.get()
        if number is None:
            return
        results.put(number * number)


def main():
    tasks, results = queue.Queue(), queue.Queue()
    workers = [threading.Thread(target=work, args=(tasks, results), name=f"worker-{n}") for n in (1, 2)]
    for worker in workers:
        worker.start()
    for number in (3, 5, 7):
        tasks.put(number)
    for _ in workers:
        tasks.put(None)
    for worker in workers:
        worker.join()
    print(sorted(results.get() for _ in range(3)))


main()
