def factorial(n):
    # base case
    if n <= 1:
        return 1
    return n * factorial(n - 1)


def main():  # << START_OF_TRACE
    return factorial(5)
