def label(celsius: float) -> str:
    if celsius < 0:
        return "freezing"
    elif celsius < 15:
        return "cold"
    elif celsius < 25:
        return "mild"
    return "hot"


def main():  # << START_OF_TRACE
    labels = []
    for temp in [-4, 18, 31]:
        labels.append(label(temp))
    return labels
