def to_binary(number):
    if number == 0:
        return "0"
    bits = ""
    while number:
        bits = str(number % 2) + bits
        number = number // 2
    return bits


def main():  # << START_OF_TRACE
    return to_binary(13)
