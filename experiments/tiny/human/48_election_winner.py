def winner(votes):
    tally = {}
    for v in votes:
        tally.setdefault(v, 0)
        tally[v] += 1
    top = max(tally, key=lambda name: tally[name])
    return top, tally[top]


def main():  # << START_OF_TRACE
    return winner(["kim", "lou", "kim"])
