def count(n):
    while n > 0:
        n -= 3
    return n


def main():  # << START_OF_TRACE
    return count(10**15)
