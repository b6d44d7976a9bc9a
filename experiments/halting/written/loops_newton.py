def root(x):
    guess = 1.0
    while guess * guess != x:
        guess = (guess + x / guess) / 2
    return guess


def main():  # << START_OF_TRACE
    return root(10.0)
