def topple(piles):
    while max(piles) >= 2:
        for i in range(len(piles)):
            if piles[i] >= 2:
                piles[i] -= 2
                piles[i - 1] += 1
                piles[(i + 1) % len(piles)] += 1
    return piles


def main():  # << START_OF_TRACE
    return topple([4, 0, 4, 0])
