"""Two processes share the work of a queue; their answers come in any order."""

import multiprocessing


def factor(number):
    divisor = 2
    while number % divisor:
        divisor += 1
    return divisor


def work(numbers, answers):
    for number in iter(numbers.get, None):
        answers.put((number, factor(number)))


def main():
    context = multiprocessing.get_context("fork")
    numbers, answers = context.SimpleQueue(), context.SimpleQueue()
    workers = [context.Process(target=work, args=(numbers, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in (15, 49, 22, None, None):
        numbers.put(number)
    found = [answers.get() for _ in range(3)]
    for worker in workers:
        worker.join()
    print(found)


if __name__ == "__main__":
    main()
