def digit_sum(n: int) -> int:
    total = 0
    while n > 0:
        total += n % 10
        n //= 10
    return total


def main():  # << START_OF_TRACE
    return digit_sum(947)
