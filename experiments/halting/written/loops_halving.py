def halve(x):
    while x >= 0.0:
        x = x / 2
    return x


def main():  # << START_OF_TRACE
    return halve(1.0)
