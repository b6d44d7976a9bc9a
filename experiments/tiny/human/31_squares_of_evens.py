def squares_of_evens(values):
    evens = [v for v in values if v % 2 == 0]
    return [v ** 2 for v in evens]


def main():  # << START_OF_TRACE
    return squares_of_evens([1, 2, 3, 4, 6])
