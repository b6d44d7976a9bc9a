"""A child process writes its result into a pipe and ends with a status."""

import os


def triangle(n):
    total = 0
    for number in range(1, n + 1):
        total += number
    return total


def main():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(triangle(4)).encode())
        os._exit(3)
    os.close(writer)
    text = os.read(reader, 100)
    _, status = os.waitpid(child, 0)
    print(text, os.waitstatus_to_exitcode(status))


main()
