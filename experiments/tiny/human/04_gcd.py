def gcd(a, b):
    """Greatest common divisor, Euclid's way."""
    while b != 0:
        a, b = b, a % b
    return a


def main():  # << START_OF_TRACE
    return gcd(84, 36)
