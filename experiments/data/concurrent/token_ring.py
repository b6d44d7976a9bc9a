"""A token goes round a ring of threads until it has been passed often enough."""

import queue
import threading


def pass_on(number, inbox, outbox, visits):
    while (token := inbox.get()) > 0:
        visits.append(number)
        outbox.put(token - 1)
    outbox.put(0)


def main():
    boxes = [queue.Queue() for _ in range(3)]
    visits = []
    ring = [
        threading.Thread(target=pass_on, args=(n, boxes[n], boxes[(n + 1) % 3], visits), name=f"ring-{n}")
        for n in range(3)
    ]
    for thread in ring:
        thread.start()
    boxes[0].put(5)
    for thread in ring:
        thread.join()
    print(visits)


main()
