def count_letters(s, letter):
    count = 0
    for ch in s:
        if ch == letter:
            count += 1
    return count


def format_answer(word, count):
    parts = [word, f"{count:04d}"]
    return ": ".join(parts)


def f(c):
    word = "strawberry"
    count = count_letters(word, c)
    return format_answer(word, count)


def main():  # << START_OF_TRACE
    return f("r")
