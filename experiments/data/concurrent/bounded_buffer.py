"""A producer and a consumer share a buffer of two places through a condition."""

import threading


class Buffer:
    def __init__(self, size):
        self.size = size
        self.items = []
        self.changed = threading.Condition()

    def put(self, item):
        with self.changed:
            while len(self.items) == self.size:
                self.changed.wait()
            self.items.append(item)
            self.changed.notify()

    def take(self):
        with self.changed:
            while not self.items:
                self.changed.wait()
            item = self.items.pop(0)
            self.changed.notify()
            return item


def produce(buffer, count):
    for item in range(count):
        buffer.put(item)


def main():
    buffer = Buffer(2)
    producer = threading.Thread(target=produce, args=(buffer, 4))
    producer.start()
    taken = [buffer.take() for _ in range(4)]
    producer.join()
    print(taken)


main()
