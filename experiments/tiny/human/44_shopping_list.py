def shopping_list(items):
    lines = []
    for i, (name, qty) in enumerate(items, start=1):
        lines.append(f"{i}. {qty}x {name}")
    return "; ".join(lines)


def main():  # << START_OF_TRACE
    return shopping_list([("egg", 6), ("milk", 1)])
