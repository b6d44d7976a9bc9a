def chop(heads):
    cuts = 0
    while heads:
        head = heads.pop()
        if head > 0:
            heads.append(head - 1)
            heads.append(head - 1)
        cuts += 1
    return cuts


def main():  # << START_OF_TRACE
    return chop([2, 1])
