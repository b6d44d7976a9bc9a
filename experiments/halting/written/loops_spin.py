def spin(xs):
    total = 0
    for x in xs:
        total = x
        while total % 2 == 0:
            total += 2
    return total


def main():  # << START_OF_TRACE
    return spin([4, 2])
