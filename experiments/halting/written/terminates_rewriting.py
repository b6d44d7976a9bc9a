def rewrite(text):
    while "ab" in text:
        text = text.replace("ab", "b", 1)
    return text


def main():  # << START_OF_TRACE
    return rewrite("aab")
