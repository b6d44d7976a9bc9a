def square(x):
    return x * x


def sum_of_squares(a, b):
    left = square(a)
    right = square(b)
    return left + right


def main():  # << START_OF_TRACE
    return sum_of_squares(3, 4)
