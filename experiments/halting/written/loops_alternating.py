def settle(cells):
    while len(set_of(cells)) > 1:
        cells = [1 - cell for cell in cells]
    return cells


def set_of(cells):
    kinds = []
    for cell in cells:
        if cell not in kinds:
            kinds.append(cell)
    return kinds


def main():  # << START_OF_TRACE
    return settle([0, 1, 0, 1])
