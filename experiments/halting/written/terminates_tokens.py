def tokens(text):
    found = []
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        end = at
        while end < len(text) and text[end] != " ":
            end += 1
        found.append(text[at:end])
        at = end
    return found


def main():  # << START_OF_TRACE
    return tokens("ab  c")
