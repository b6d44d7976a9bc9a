def count_letter(word, letter):
    """How often a letter occurs in a word."""
    n = 0
    for i in range(len(word)):
        if word[i] == letter:
            n = n + 1
    return n


def main():  # << START_OF_TRACE
    word = "success"
    return f"{count_letter(word, 's')} times s"
