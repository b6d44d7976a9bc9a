def sum_valid(tokens):
    total, skipped = 0, 0
    for token in tokens:
        try:
            total += int(token)
        except ValueError:
            skipped += 1
    return total, skipped


def main():  # << START_OF_TRACE
    return sum_valid(["12", "x", "7", ""])
