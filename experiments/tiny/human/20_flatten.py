def flatten(nested):
    flat = []
    for item in nested:
        if isinstance(item, list):
            flat.extend(flatten(item))
        else:
            flat.append(item)
    return flat


def main():  # << START_OF_TRACE
    return flatten([1, [2, [3]], 4])
