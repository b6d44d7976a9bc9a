def countdown(start):
    while start > 0:
        yield start
        start -= 1


def main():  # << START_OF_TRACE
    seconds = []
    for s in countdown(3):
        seconds.append(s)
    return seconds
