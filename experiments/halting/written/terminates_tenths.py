def tenths():
    x = 0.0
    while x < 1.0:
        x += 0.125
    return x


def main():  # << START_OF_TRACE
    return tenths()
