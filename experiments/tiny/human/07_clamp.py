def clamp(value, low, high):
    if value < low:
        return low
    if value > high:
        return high
    return value


def main():  # << START_OF_TRACE
    a = clamp(15, 0, 10)
    b = clamp(-3, 0, 10)
    return a + b
