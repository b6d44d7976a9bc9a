def are_anagrams(w1, w2):
    if len(w1) != len(w2):
        return False
    letters = list(w2)
    for ch in w1:
        if ch not in letters:
            return False
        letters.remove(ch)
    return True


def main():  # << START_OF_TRACE
    return are_anagrams("stone", "notes")
