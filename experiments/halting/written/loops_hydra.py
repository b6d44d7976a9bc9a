def chop(heads):
    cuts = 0
    while heads:
        head = heads.pop()
        if head > 0:
            heads.append(head)
        cuts = head
    return cuts


def main():  # << START_OF_TRACE
    return chop([1])
