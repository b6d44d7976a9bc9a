def to_roman(num):
    table = [(10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    roman = ""
    for value, symbol in table:
        while num >= value:
            roman += symbol
            num -= value
    return roman


def main():  # << START_OF_TRACE
    return to_roman(27)
