def rewrite(text):
    while "ab" in text or "ba" in text:
        swapped = text.replace("ab", "ba", 1)
        text = swapped if swapped != text else text.replace("ba", "ab", 1)
    return text


def main():  # << START_OF_TRACE
    return rewrite("aab")
