"""Transfers between two accounts under one lock; the sum never changes."""

import threading

balances = {"alice": 10, "bob": 5}
lock = threading.Lock()


def transfer(giver, taker, amount):
    with lock:
        if balances[giver] < amount:
            return
        balances[giver] -= amount
        balances[taker] += amount


def main():
    orders = [("alice", "bob", 7), ("bob", "alice", 9), ("alice", "bob", 4)]
    threads = [threading.Thread(target=transfer, args=order) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(balances, sum(balances.values()))


main()
