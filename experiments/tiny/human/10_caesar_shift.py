def caesar(message, shift):
    out = ""
    for c in message:
        if c.isalpha():
            pos = (ord(c) - ord("a") + shift) % 26
            out += chr(pos + ord("a"))
        else:
            out += c  # leave spaces and dots alone
    return out


def main():  # << START_OF_TRACE
    return caesar("xyz abc", 3)
