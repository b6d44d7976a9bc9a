def dedupe(lst):
    unique = []
    for x in lst:
        if x in unique:
            continue
        unique.append(x)
    return unique


def main():  # << START_OF_TRACE
    return dedupe([1, 2, 2, 3, 1])
