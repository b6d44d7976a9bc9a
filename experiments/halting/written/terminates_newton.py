def root(x):
    guess = x
    while abs(guess * guess - x) > 1e-6:
        guess = (guess + x / guess) / 2
    return guess


def main():  # << START_OF_TRACE
    return root(9.0)
