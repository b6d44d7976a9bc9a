def tokens(text):
    last = ""
    at = 0
    while at < len(text):
        end = at
        while end < len(text) and text[end] != " ":
            end += 1
        last = text[at:end]
        if last:
            at = end
    return last


def main():  # << START_OF_TRACE
    return tokens("a  b")
