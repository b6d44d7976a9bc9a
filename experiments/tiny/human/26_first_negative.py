def first_negative(numbers):
    for position, number in enumerate(numbers):
        if number < 0:
            return position, number
    return None


def main():  # << START_OF_TRACE
    return first_negative([8, 3, 0, -5, 2, -1])
