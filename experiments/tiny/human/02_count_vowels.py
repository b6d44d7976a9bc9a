def count_vowels(s):
    count = 0
    for ch in s:
        if ch in "aeiou":
            count += 1
    return count


def main():  # << START_OF_TRACE
    return count_vowels("banana")
