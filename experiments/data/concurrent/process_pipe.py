"""A process gets numbers through a pipe and answers each; it ends when it is told to."""

import multiprocessing


def serve(pipe):
    total = 0
    while (number := pipe.recv()) is not None:
        total += number
        pipe.send(total)
    pipe.close()


def main():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,))
    server.start()
    totals = []
    for number in (4, 8, 15):
        ours.send(number)
        totals.append(ours.recv())
    ours.send(None)
    server.join()
    print(totals, server.exitcode)


if __name__ == "__main__":
    main()
