def rle(s):
    if not s:
        return ""
    encoded = ""
    prev = s[0]
    run = 1
    for ch in s[1:]:
        if ch == prev:
            run += 1
        else:
            encoded += prev + str(run)
            prev = ch
            run = 1
    return encoded + prev + str(run)


def main():  # << START_OF_TRACE
    return rle("aaabcc")
