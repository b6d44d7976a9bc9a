"""A counter that two threads read, then write: how many updates are lost depends on who runs when."""

import threading

counter = 0


def add(times):
    global counter
    for _ in range(times):
        seen = counter
        counter = seen + 1


def main():
    threads = [threading.Thread(target=add, args=(20,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(counter)


main()
