"""Two threads work in phases: nobody enters the second before both have done the first."""

import threading

log = []
barrier = threading.Barrier(2)


def phases(name):
    log.append(f"{name}1")
    barrier.wait()
    log.append(f"{name}2")


def main():
    threads = [threading.Thread(target=phases, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(log, sorted(log[:2]) == ["a1", "b1"])


main()
